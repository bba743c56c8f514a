//! Work in parallel, results in order: which thread did what does not show.
//!
//! A lane owns its buffers and takes the next job when it is done with one; what a job leaves depends on the job alone. Results are
//! folded in the order of the jobs, each as soon as all before it are: nobody waits but a lane that would run more than
//! [`DEPTH`] jobs ahead for each lane there is, so that results waiting to be folded are few.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;

use super::{MergeError, Run};
use crate::engine::inputs::Progress;
use crate::plan::Pass;

/// How many results of a lane may wait, on average, to be folded.
pub(crate) const DEPTH: usize = 8;

/// One pass over the inputs: how it is told, and of how many jobs.
#[derive(Clone, Copy)]
pub(super) struct Schedule<'a> {
    pub(super) run: Run<'a>,
    pub(super) pass: Pass,
    pub(super) total: usize,
}

/// What the lanes share.
struct Line<J, P, F> {
    jobs: J,
    /// How many jobs were taken.
    taken: usize,
    /// How many results were folded.
    folded: usize,
    /// Results that came before their turn, by the number of their job.
    early: BTreeMap<usize, P>,
    fold: F,
    /// Of the first job that failed. All before it have been taken, so it is the same however threads ran.
    failure: Option<(usize, MergeError)>,
    /// Whether no job is to be taken any more: one has failed, or a lane has left.
    is_over: bool,
}

/// Ends the line when a lane leaves, be it by a panic: the others must not wait for it.
struct Leaving<'a, J, P, F> {
    line: &'a Mutex<Line<J, P, F>>,
    moved: &'a Condvar,
}

impl<J, P, F> Drop for Leaving<'_, J, P, F> {
    fn drop(&mut self) {
        lock(self.line).is_over = true;
        self.moved.notify_all();
    }
}

impl Schedule<'_> {
    /// Does all jobs on the lanes and folds what each leaves, in the order of the jobs.
    pub(super) fn in_order<J: Send, L: Send, P: Send>(
        self,
        jobs: impl Iterator<Item = J> + Send,
        lanes: &mut [L],
        work: impl Fn(&mut L, J) -> Result<P, MergeError> + Sync,
        fold: impl FnMut(P) + Send,
    ) -> Result<(), MergeError> {
        let most_ahead = lanes.len() * DEPTH;
        let line = Mutex::new(Line {
            jobs,
            taken: 0,
            folded: 0,
            early: BTreeMap::new(),
            fold,
            failure: None,
            is_over: false,
        });
        let moved = Condvar::new();
        self.tell(0);
        lanes.par_iter_mut().for_each(|lane| {
            let _leaving = Leaving {
                line: &line,
                moved: &moved,
            };
            let mut held = lock(&line);
            loop {
                // Who holds up the others is at work on a thread of its own, and does not wait itself.
                held = moved
                    .wait_while(held, |line| {
                        !line.is_over && line.taken >= line.folded + most_ahead
                    })
                    .unwrap_or_else(PoisonError::into_inner);
                let Some((number, job)) = held.next() else {
                    return;
                };
                drop(held);
                let result = self.run.check_cancelled().and_then(|()| work(lane, job));
                held = lock(&line);
                let before = held.folded;
                held.take_in(number, result);
                if held.folded != before {
                    self.tell(held.folded);
                }
                moved.notify_all();
            }
        });
        let line = line.into_inner().unwrap_or_else(PoisonError::into_inner);
        line.failure.map_or(Ok(()), |(_, error)| Err(error))
    }

    fn tell(self, done: usize) {
        (self.run.control.progress)(Progress {
            pass: self.pass,
            done,
            total: self.total,
        });
    }
}

impl<J: Iterator, P, F: FnMut(P)> Line<J, P, F> {
    /// The next job and its number, unless all is over.
    fn next(&mut self) -> Option<(usize, J::Item)> {
        if self.is_over {
            return None;
        }
        let job = self.jobs.next()?;
        self.taken += 1;
        Some((self.taken - 1, job))
    }

    /// Folds a result and those after it that wait for it, or keeps it for its turn.
    fn take_in(&mut self, number: usize, result: Result<P, MergeError>) {
        match result {
            Ok(part) => {
                self.early.insert(number, part);
            }
            Err(error) => {
                if self
                    .failure
                    .as_ref()
                    .is_none_or(|(first, _)| number < *first)
                {
                    self.failure = Some((number, error));
                }
                self.is_over = true;
            }
        }
        while let Some(part) = self.early.remove(&self.folded) {
            (self.fold)(part);
            self.folded += 1;
        }
    }
}

fn lock<T>(line: &Mutex<T>) -> MutexGuard<'_, T> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}
