//! The only bridge from tokio to rayon: arithmetic runs on a pool of its own, and the runtime's threads wait for nothing.
//! Short work on the disk takes the runtime's own threads for it: [`blocking`].
//!
//! Invariants: at most `QUEUE` jobs are in hand, so memory is bounded by what they hold; a job whose caller is gone sees its
//! cancel flag; a job that panics is an error of that job and not the end of the server.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fedmerge_common::failure::{ExitCode, Failure};
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use tokio::sync::{Semaphore, oneshot};

/// Jobs in hand at once, the waiting ones included; whoever brings another waits.
const QUEUE: usize = 16;

/// The most threads that may be asked for.
pub(crate) const MOST_THREADS: u16 = 1024;

/// A pool that could not be started.
#[derive(Debug, thiserror::Error)]
#[error("the {threads} threads for merging cannot be started")]
pub struct StartComputeError {
    threads: usize,
    #[source]
    source: ThreadPoolBuildError,
}

impl From<StartComputeError> for Failure {
    fn from(error: StartComputeError) -> Self {
        Self::from_error(ExitCode::Unavailable, &error)
    }
}

/// A job that did not end well.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ComputeError {
    /// A defect: the job panicked.
    #[error("a computation broke off: {message}")]
    Panicked {
        /// What it said.
        message: String,
    },
    /// The pool is gone: the server is about to stop.
    #[error("the server is about to stop")]
    Stopped,
}

/// A bounded pool for arithmetic.
#[derive(Debug, Clone)]
pub struct Compute {
    pool: Arc<ThreadPool>,
    slots: Arc<Semaphore>,
}

/// Raises a job's flag when whoever waits for the job does so no longer.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Compute {
    /// Starts a pool; 0 threads means as many as rayon finds right.
    ///
    /// # Errors
    /// When the threads cannot be started.
    pub fn start(threads: usize) -> Result<Self, StartComputeError> {
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|number| format!("compute-{number}"))
            .build()
            .map_err(|source| StartComputeError { threads, source })?;
        Ok(Self {
            pool: Arc::new(pool),
            slots: Arc::new(Semaphore::new(QUEUE)),
        })
    }

    /// Threads that work.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Runs a job on the pool. The job must look at its flag now and then: it is raised when this future is dropped.
    ///
    /// # Errors
    /// When the job panics, or the pool is gone.
    pub async fn run<T, J>(&self, job: J) -> Result<T, ComputeError>
    where
        T: Send + 'static,
        J: FnOnce(&AtomicBool) -> T + Send + 'static,
    {
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        let slot = slot.map_err(|_| ComputeError::Stopped)?;
        let cancelled = Arc::new(AtomicBool::new(false));
        let guard = CancelOnDrop(Arc::clone(&cancelled));
        let (answer, answered) = oneshot::channel();
        self.pool.spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(|| job(&cancelled)));
            drop(slot);
            // Whoever asked may have gone away; then nobody wants to know.
            let _unheard = answer.send(result);
        });
        let result = answered.await;
        drop(guard);
        match result {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(panic)) => Err(ComputeError::Panicked {
                message: words_of(panic.as_ref()),
            }),
            Err(_) => Err(ComputeError::Stopped),
        }
    }
}

/// Runs what touches the disk for long away from the runtime's threads.
///
/// # Panics
/// When `deed` does.
pub async fn blocking<T: Send + 'static>(deed: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(deed).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => unreachable!("a blocking task is not cancelled: {error}"),
        },
    }
}

fn words_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_job_runs_on_the_pool_and_not_on_the_runtime() {
        let compute = Compute::start(2).unwrap();
        let name = compute
            .run(|_| std::thread::current().name().unwrap_or_default().to_owned())
            .await
            .unwrap();
        assert!(name.starts_with("compute-"), "{name}");
        assert_eq!(compute.threads(), 2);
    }

    #[tokio::test]
    async fn a_job_that_panics_is_an_error_and_the_pool_goes_on() {
        let compute = Compute::start(1).unwrap();
        let error = compute.run(|_| -> u8 { panic!("by design") }).await;
        let message = "by design".to_owned();
        assert_eq!(error, Err(ComputeError::Panicked { message }));
        assert_eq!(compute.run(|_| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn a_job_whose_caller_is_gone_sees_its_flag() {
        let compute = Compute::start(1).unwrap();
        let (begun, has_begun) = oneshot::channel();
        let (seen, was_seen) = mpsc::channel();
        let job = move |cancelled: &AtomicBool| {
            begun.send(()).unwrap();
            while !cancelled.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
            seen.send(()).unwrap();
        };
        let waiting = tokio::spawn(async move {
            let _gone = compute.run(job).await;
        });
        has_begun.await.unwrap();
        waiting.abort();
        // Until the task is gone, its future is not dropped.
        assert!(waiting.await.unwrap_err().is_cancelled());
        was_seen.recv().unwrap();
    }
}
