//! Runs a user's command to its end, whatever it does: the one place that listens to processes of others and bounds them.
//!
//! The command is run by `sh` in a process group of its own; nothing it starts outlives it, not even when the future that
//! runs it is dropped or the client is killed (`group.rs`). It ends in what it said, or in a [`Decline`] with its last words.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fedmerge_common::reason::{Decline, DeclineKind};
use fedmerge_common::units::Millis;
use tokio::process::{ChildStderr, ChildStdout};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::Progress;
use super::group::Group;
use super::lines::{Lines, Tail, TrainerLog, end_of};
use super::speech::{Line, Speech};

/// Time for the last words in the pipes once the command has ended.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(1);
/// Room for a command's last words in a decline, bytes.
const MAX_LAST_WORDS_BYTES: usize = 1_800;
/// Lines of noise that are logged before the rest is only skipped.
const MAX_NOISE_LINES: u64 = 10_000;

/// What a command is to the client; it gives its faults their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Fine-tunes a base.
    Trainer,
    /// Measures a model.
    Evaluator,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trainer => "the trainer",
            Self::Evaluator => "the evaluator",
        })
    }
}

impl Role {
    fn failed(self) -> DeclineKind {
        match self {
            Self::Trainer => DeclineKind::TrainerFailed,
            Self::Evaluator => DeclineKind::EvaluatorFailed,
        }
    }

    fn timed_out(self) -> DeclineKind {
        match self {
            Self::Trainer => DeclineKind::TrainerTimedOut,
            Self::Evaluator => DeclineKind::EvaluatorTimedOut,
        }
    }
}

/// One run of a command.
#[derive(Debug)]
pub(super) struct Run<'a> {
    /// What it is for.
    pub(super) role: Role,
    /// What `sh -c` runs.
    pub(super) command: &'a str,
    /// Longest run.
    pub(super) time_limit: Millis,
    /// Variables that it gets beside the client's own.
    pub(super) environment: Vec<(&'static str, OsString)>,
    /// Where everything it prints is kept, up to a bound.
    pub(super) log: &'a Path,
}

impl Run<'_> {
    /// Runs the command to its end; signs of life go to `progress`. Answers what it said, and how long it took.
    ///
    /// # Errors
    /// The decline for a command that cannot start, fails, runs too long or says what cannot be true.
    pub(super) async fn complete(
        self,
        progress: &watch::Sender<Progress>,
    ) -> Result<(Speech, Millis), Decline> {
        let (role, started) = (self.role, Instant::now());
        let log = TrainerLog::create(self.log).map_err(|error| {
            Decline::new(
                DeclineKind::Storage,
                format!("{}: {error}", self.log.display()),
            )
        })?;
        let mut group = Group::start(self.command, &self.environment).map_err(|error| {
            Decline::new(role.failed(), format!("`sh` cannot be started: {error}"))
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
                role.timed_out(),
                with_last_words(
                    format!("{role} ran past its limit of {}", self.time_limit),
                    &last_words,
                ),
            )),
            Ok(Err(error)) => Err(Decline::new(
                role.failed(),
                format!("{role} cannot be waited for: {error}"),
            )),
            Ok(Ok(status)) => {
                let speech = judge(role, status, speech, &last_words)?;
                Ok((speech, Millis::from(started.elapsed())))
            }
        }
    }
}

fn judge(
    role: Role,
    status: ExitStatus,
    speech: Speech,
    last_words: &str,
) -> Result<Speech, Decline> {
    if !status.success() {
        let what = format!("{role} ended with {status}");
        return Err(Decline::new(
            role.failed(),
            with_last_words(what, last_words),
        ));
    }
    if let Some(problem) = &speech.problem {
        return Err(Decline::new(role.failed(), format!("{role} {problem}")));
    }
    Ok(speech)
}

fn with_last_words(what: String, last_words: &str) -> String {
    if last_words.is_empty() {
        format!("{what} and printed nothing on stderr")
    } else {
        format!("{what}: {}", end_of(last_words, MAX_LAST_WORDS_BYTES))
    }
}

/// Listens to both streams of a command while it runs.
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
            tracing::warn!("command left a process behind that holds its output open");
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
