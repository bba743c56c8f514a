//! The straight line, first step: runs the user's program on the base and obtains a fine-tuned checkpoint.
//!
//! The program is any command, run by `sh` in a process group of its own; nothing it starts outlives it, not even when
//! the future that runs it is dropped or the client is killed (`group.rs`). Whatever it does ends in [`Trained`] or in a
//! [`Decline`] that says what happened: a bad trainer costs a round, never the client. The checkpoint itself is judged by
//! `submission`, not here.

use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fedmerge_common::reason::{Decline, DeclineKind};
use fedmerge_common::units::Millis;
use tokio::process::{ChildStderr, ChildStdout};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::group::Group;
use super::lines::{Lines, Tail, TrainerLog, end_of};
use super::speech::{Line, Speech};
use super::workplace::Workplace;
use super::{Progress, Trained};

/// Time for the last words in the pipes once the trainer has ended.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(1);
/// Room for a trainer's last words in a decline, bytes.
const MAX_LAST_WORDS_BYTES: usize = 1_800;
/// Lines of noise that are logged before the rest is only skipped.
const MAX_NOISE_LINES: u64 = 10_000;

/// A user's training command.
#[derive(Clone, Debug)]
pub struct TrainerCommand {
    /// What `sh -c` runs.
    pub command: String,
    /// Longest run.
    pub time_limit: Millis,
}

impl TrainerCommand {
    /// Runs the command to its end; signs of life go to `progress`.
    ///
    /// # Errors
    /// The decline for a trainer that cannot start, fails, runs too long or says what cannot be true.
    pub async fn run(
        &self,
        place: &Workplace,
        progress: &watch::Sender<Progress>,
    ) -> Result<Trained, Decline> {
        let started = Instant::now();
        let log = TrainerLog::create(&place.log).map_err(|error| {
            Decline::new(
                DeclineKind::Storage,
                format!("{}: {error}", place.log.display()),
            )
        })?;
        let mut group = Group::start(&self.command, place).map_err(|error| {
            Decline::new(
                DeclineKind::TrainerFailed,
                format!("`sh` cannot be started: {error}"),
            )
        })?;
        let ears = Ears::open(&mut group, log, progress.clone());
        let limit = Duration::from_millis(self.time_limit.get());
        let ended = timeout(limit, group.wait()).await;
        if ended.is_err() {
            group.ask_to_end().await;
        }
        group.kill();
        let (speech, last_words) = ears.close().await;
        match ended {
            Err(_) => Err(Decline::new(
                DeclineKind::TrainerTimedOut,
                with_last_words(
                    format!("the trainer ran past its limit of {}", self.time_limit),
                    &last_words,
                ),
            )),
            Ok(Err(error)) => Err(Decline::new(
                DeclineKind::TrainerFailed,
                format!("the trainer cannot be waited for: {error}"),
            )),
            Ok(Ok(status)) => judge(status, speech, &last_words, started),
        }
    }
}

fn judge(
    status: ExitStatus,
    speech: Speech,
    last_words: &str,
    started: Instant,
) -> Result<Trained, Decline> {
    if !status.success() {
        let what = format!("the trainer ended with {status}");
        return Err(Decline::new(
            DeclineKind::TrainerFailed,
            with_last_words(what, last_words),
        ));
    }
    if let Some(problem) = speech.problem {
        return Err(Decline::new(
            DeclineKind::TrainerFailed,
            problem.to_string(),
        ));
    }
    let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(Trained {
        num_examples: speech.num_examples,
        metrics: speech.into_metrics(),
        elapsed: Millis::new(elapsed_ms),
    })
}

fn with_last_words(what: String, last_words: &str) -> String {
    if last_words.is_empty() {
        format!("{what} and printed nothing on stderr")
    } else {
        format!("{what}: {}", end_of(last_words, MAX_LAST_WORDS_BYTES))
    }
}

/// Listens to both streams of a trainer while it runs.
#[derive(Debug)]
struct Ears {
    speech: Arc<Mutex<Speech>>,
    tail: Arc<Mutex<Tail>>,
    listeners: Vec<AbortOnDropHandle<()>>,
}

impl Ears {
    fn open(group: &mut Group, log: TrainerLog, progress: watch::Sender<Progress>) -> Self {
        let log = Arc::new(log);
        let speech = Arc::new(Mutex::new(Speech::default()));
        let tail = Arc::new(Mutex::new(Tail::default()));
        let mut listeners = Vec::new();
        let (stdout, stderr) = group.voices();
        if let Some(stdout) = stdout {
            let listener = hear_stdout(stdout, Arc::clone(&speech), Arc::clone(&log), progress);
            listeners.push(AbortOnDropHandle::new(tokio::spawn(listener)));
        }
        if let Some(stderr) = stderr {
            let listener = hear_stderr(stderr, Arc::clone(&tail), log);
            listeners.push(AbortOnDropHandle::new(tokio::spawn(listener)));
        }
        Self {
            speech,
            tail,
            listeners,
        }
    }

    /// What was heard; a process that left the group and holds a pipe open is not waited for.
    async fn close(self) -> (Speech, String) {
        let all = async {
            for listener in self.listeners {
                // A listener cannot fail but by a panic, and then what it heard so far stands.
                let _ = listener.await;
            }
        };
        if timeout(LAST_WORDS_LIMIT, all).await.is_err() {
            tracing::warn!("trainer left a process behind that holds its output open");
        }
        let speech = self
            .speech
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let last_words = self
            .tail
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .text();
        (speech, last_words)
    }
}

async fn hear_stdout(
    stdout: ChildStdout,
    speech: Arc<Mutex<Speech>>,
    log: Arc<TrainerLog>,
    progress: watch::Sender<Progress>,
) {
    let mut lines = Lines::new(stdout);
    let mut noise_lines = 0;
    while let Ok(Some(line)) = lines.next().await {
        let (heard, now) = {
            let mut speech = speech.lock().unwrap_or_else(PoisonError::into_inner);
            (speech.hear(&line), speech.progress)
        };
        match heard {
            Line::Progress => {
                progress.send_replace(now);
            }
            Line::Result => {}
            Line::Noise => noise_lines += 1,
        }
        if noise_lines <= MAX_NOISE_LINES {
            log.line("stdout", &line);
        }
    }
}

async fn hear_stderr(stderr: ChildStderr, tail: Arc<Mutex<Tail>>, log: Arc<TrainerLog>) {
    let mut lines = Lines::new(stderr);
    while let Ok(Some(line)) = lines.next().await {
        log.line("stderr", &line);
        tail.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(&line);
    }
}

#[cfg(test)]
mod tests;
