//! The child processes: each in a process group of its own, with a log, and none left behind.
//!
//! Invariant: a child is either reaped or signalled. `stop` asks politely and then insists; a child whose owner is
//! dropped (an error, a panic) is killed with its whole group; one whose owner was killed hears of it from the system.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use fedmerge_common::failure::{ExitCode, Failure};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long a process that was asked to stop may take before it is killed.
const PATIENCE: Duration = Duration::from_secs(3);
/// Lines of a dead process's log that are shown.
const TAIL_LINES: usize = 8;
/// Bytes of a log that are searched for these lines.
const TAIL_BYTES: u64 = 4096;

/// What to start.
#[derive(Debug)]
pub(super) struct Task {
    /// Its name in messages and of its log.
    pub(super) name: String,
    /// Arguments to this program.
    pub(super) arguments: Vec<OsString>,
    /// Whether it is to use one thread for arithmetic; many processes share few cores.
    pub(super) is_single_threaded: bool,
}

impl Task {
    /// Names a task.
    pub(super) fn new(
        name: impl Into<String>,
        arguments: impl IntoIterator<Item = impl Into<OsString>>,
    ) -> Self {
        let arguments = arguments.into_iter().map(Into::into).collect();
        Self {
            name: name.into(),
            arguments,
            is_single_threaded: false,
        }
    }

    /// The same task with one thread for arithmetic.
    pub(super) fn single_threaded(mut self) -> Self {
        self.is_single_threaded = true;
        self
    }
}

/// The end of a process.
#[derive(Debug)]
pub(super) struct Exit {
    /// The task's name.
    pub(super) name: String,
    /// Its log.
    pub(super) log: PathBuf,
    /// How it ended; an error when it could not be awaited.
    pub(super) status: io::Result<ExitStatus>,
}

impl Exit {
    /// Whether it ended well.
    pub(super) fn is_success(&self) -> bool {
        self.status.as_ref().is_ok_and(ExitStatus::success)
    }

    /// The failure that this end is: the exit code, what the process said last, and where its log is.
    pub(super) fn failure(&self) -> Failure {
        let code = self.status.as_ref().ok().and_then(ExitStatus::code);
        let how = match &self.status {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        let ended = format!("{} failed ({how})", self.name);
        let log = format!("its log is {}", self.log.display());
        let mut hint = log.clone();
        let mut words = Vec::new();
        for line in tail(&self.log) {
            match line.strip_prefix("hint: ") {
                Some(own) => hint = format!("{own} ({log})"),
                None => words.push(line),
            }
        }
        // What the process itself says comes first; how it ended is behind it.
        let message = words.iter().position(|line| line.starts_with("error: "));
        let mut failure = Failure::new(exit_code(code), &ended);
        if let Some(position) = message {
            failure.message = bare(&words.remove(position)).to_owned();
            failure.causes.push(ended);
        }
        failure
            .causes
            .extend(words.iter().map(|line| bare(line).to_owned()));
        failure.with_hint(hint)
    }
}

/// A line of a failure without the word that introduces it.
fn bare(line: &str) -> &str {
    ["error: ", "caused by: "]
        .iter()
        .find_map(|word| line.strip_prefix(word))
        .unwrap_or(line)
}

/// A process that has just started.
#[derive(Debug)]
pub(super) struct Started {
    /// Its number.
    pub(super) pid: u32,
    /// What it prints.
    pub(super) stdout: Option<ChildStdout>,
}

/// All running children.
#[derive(Debug)]
pub(super) struct Processes {
    program: PathBuf,
    logs: PathBuf,
    running: JoinSet<Exit>,
    stopping: CancellationToken,
}

/// A child that does not outlive its owner.
struct Leashed(Child);

impl Drop for Leashed {
    fn drop(&mut self) {
        // A reaped child has no number any more, so nobody else's process can be hit.
        signal(&self.0, Signal::KILL);
    }
}

fn signal(child: &Child, signal: Signal) {
    let group = child
        .id()
        .and_then(|pid| i32::try_from(pid).ok())
        .and_then(Pid::from_raw);
    if let Some(group) = group {
        // The group may have ended by itself.
        let _ = kill_process_group(group, signal);
    }
}

impl Processes {
    /// Nothing runs yet; `program` is what every task runs.
    pub(super) fn new(program: &Path, logs: PathBuf) -> Self {
        Self {
            program: program.to_path_buf(),
            logs,
            running: JoinSet::new(),
            stopping: CancellationToken::new(),
        }
    }

    /// Starts a task in the background; its standard error goes to its log, its standard output to the caller.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub(super) fn start(&mut self, task: &Task, stdout: Stdio) -> Result<Started, Failure> {
        let mut child = self.spawn(task, stdout)?;
        let started = Started {
            pid: child.0.id().unwrap_or(0),
            stdout: child.0.stdout.take(),
        };
        let (name, log) = (task.name.clone(), self.log(task));
        let stopping = self.stopping.clone();
        self.running.spawn(async move {
            let status = tokio::select! {
                status = child.0.wait() => status,
                () = stopping.cancelled() => stop(&mut child.0).await,
            };
            Exit { name, log, status }
        });
        Ok(started)
    }

    /// Runs a task to its end and answers with what it printed.
    ///
    /// # Errors
    /// When it cannot be started or fails; then the end of its log is in the message.
    pub(super) fn complete(
        &self,
        task: &Task,
    ) -> impl Future<Output = Result<String, Failure>> + Send + use<> {
        let (name, log, child) = (
            task.name.clone(),
            self.log(task),
            self.spawn(task, Stdio::piped()),
        );
        async move {
            let mut child = child?;
            let mut printed = String::new();
            if let Some(mut stdout) = child.0.stdout.take() {
                // What cannot be read is missed where it is parsed.
                let _ = stdout.read_to_string(&mut printed).await;
            }
            let exit = Exit {
                name,
                log,
                status: child.0.wait().await,
            };
            if exit.is_success() {
                Ok(printed)
            } else {
                Err(exit.failure())
            }
        }
    }

    /// Waits until any background task ends; never when there is none. Safe to cancel.
    pub(super) async fn next_exit(&mut self) -> Exit {
        match self.running.join_next().await {
            Some(Ok(exit)) => exit,
            Some(Err(error)) => Exit {
                name: "a process".to_owned(),
                log: self.logs.clone(),
                status: Err(io::Error::other(error)),
            },
            None => std::future::pending().await,
        }
    }

    /// Number of background tasks that have not ended.
    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    /// Stops every background task: asks, waits, kills; returns when all are gone.
    pub(super) async fn stop(&mut self) {
        self.stopping.cancel();
        while self.running.join_next().await.is_some() {}
    }

    fn log(&self, task: &Task) -> PathBuf {
        self.logs.join(format!("{}.log", task.name))
    }

    fn spawn(&self, task: &Task, stdout: Stdio) -> Result<Leashed, Failure> {
        let failed = |error: io::Error| {
            Failure::new(ExitCode::Unavailable, format!("cannot start {}", task.name))
                .with_source(&error)
        };
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log(task))
            .map_err(failed)?;
        let mut command = Command::new(&self.program);
        if task.is_single_threaded {
            command.env("RAYON_NUM_THREADS", "1");
        }
        let child = command
            .arg("--stop-with-parent")
            .args(&task.arguments)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(log)
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        Ok(Leashed(child))
    }
}

async fn stop(child: &mut Child) -> io::Result<ExitStatus> {
    signal(child, Signal::TERM);
    if let Ok(status) = tokio::time::timeout(PATIENCE, child.wait()).await {
        return status;
    }
    signal(child, Signal::KILL);
    child.wait().await
}

/// A child's own documented exit code is ours; anything else is a defect.
fn exit_code(code: Option<i32>) -> ExitCode {
    let known = [
        ExitCode::Usage,
        ExitCode::BadData,
        ExitCode::Unavailable,
        ExitCode::Temporary,
        ExitCode::NotPermitted,
        ExitCode::BadConfiguration,
    ];
    known
        .into_iter()
        .find(|known| code == Some(i32::from(*known as u8)))
        .unwrap_or(ExitCode::Bug)
}

/// The last lines of a log.
fn tail(path: &Path) -> Vec<String> {
    use std::io::{Read, Seek, SeekFrom};
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..]
        .iter()
        .map(|line| (*line).to_owned())
        .collect()
}
