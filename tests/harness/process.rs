//! One process under test: in a process group of its own, everything it says kept, and never left behind.
//!
//! Invariant: a process is reaped by its owner alone, so its number is its own until then and a signal can hit nobody else.
//! When a test fails, what each of its processes said is printed. Waits end after [`LIMIT`] with a failed test.

use std::fmt::Write;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fedmerge_common::failpoint::Point;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

/// Longest wait for anything: far more than a loaded machine needs.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// What a process has said and whether it has ended.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) stdout: Vec<String>,
    pub(super) stderr: Vec<String>,
    streams_over: usize,
    has_ended: bool,
}

impl Said {
    /// Whether nothing can be added any more.
    pub(super) fn is_complete(&self) -> bool {
        self.has_ended && self.streams_over == 2
    }
}

/// A running process; killed with its whole group when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    said: Arc<(Mutex<Said>, Condvar)>,
    /// Lines of standard output that were read by waits.
    pub(super) lines_read: usize,
}

/// A process that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) name: String,
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Process {
    /// Starts `command`, without input.
    pub(crate) fn start(name: &str, command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} cannot be started: {command:?}: {error}"));
        let said = Arc::new((Mutex::new(Said::default()), Condvar::new()));
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        listen(stdout, Arc::clone(&said), |said| &mut said.stdout);
        listen(stderr, Arc::clone(&said), |said| &mut said.stderr);
        await_end(child.id(), Arc::clone(&said));
        Self {
            name: name.to_owned(),
            child,
            said,
            lines_read: 0,
        }
    }

    /// The process's number.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap()
    }

    /// Waits for the end.
    pub(crate) fn end(mut self) -> Ended {
        self.wait("its end", |said| said.is_complete().then_some(()));
        let status = self.reap();
        let said = self.said.0.lock().unwrap();
        Ended {
            name: self.name.clone(),
            status,
            stdout: joined(&said.stdout),
            stderr: joined(&said.stderr),
        }
    }

    /// Lets the process live until a moment that nothing announces; false when it ended before.
    pub(crate) fn lives_until(&self, moment: Instant) -> bool {
        let (said, changed) = (&self.said.0, &self.said.1);
        let mut now = said.lock().unwrap();
        while !now.has_ended {
            let left = moment.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            now = changed.wait_timeout(now, left).unwrap().0;
        }
        false
    }

    /// Waits until `found` finds something in what the process has said; `what` is for the message when it does not.
    pub(super) fn wait<T>(&self, what: &str, found: impl Fn(&Said) -> Option<T>) -> T {
        let deadline = Instant::now() + LIMIT;
        let (said, changed) = (&self.said.0, &self.said.1);
        let mut now = said.lock().unwrap();
        loop {
            if let Some(found) = found(&now) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let is_hopeless = now.is_complete() || left.is_zero();
            if is_hopeless {
                let why = if left.is_zero() {
                    "in time"
                } else {
                    "and ended"
                };
                drop(now);
                panic!("{} did not reach {what} {why}", self.name);
            }
            now = changed.wait_timeout(now, left).unwrap().0;
        }
    }

    /// Kills whatever is left of the group and reaps the leader, which holds the group's number until then.
    fn reap(&mut self) -> ExitStatus {
        // The group may have ended by itself.
        let _ = kill_process_group(self.pid(), Signal::KILL);
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.reap();
        if thread::panicking() {
            let said = self.said.0.lock().unwrap_or_else(PoisonError::into_inner);
            show(&self.name, &said);
        }
    }
}

#[expect(
    clippy::print_stderr,
    reason = "shown by the test runner when a test fails"
)]
fn show(name: &str, said: &Said) {
    let mut text = format!("---- what {name} said\n");
    for (stream, lines) in [("stdout", &said.stdout), ("stderr", &said.stderr)] {
        for line in lines {
            let _ = writeln!(text, "{stream} | {line}");
        }
    }
    eprint!("{text}");
}

fn joined(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

type Stream = fn(&mut Said) -> &mut Vec<String>;

fn listen(source: impl Read + Send + 'static, said: Arc<(Mutex<Said>, Condvar)>, stream: Stream) {
    thread::spawn(move || {
        for line in BufReader::new(source).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            stream(&mut said.0.lock().unwrap()).push(line);
            said.1.notify_all();
        }
        said.0.lock().unwrap().streams_over += 1;
        said.1.notify_all();
    });
}

/// Notices the end without reaping.
fn await_end(pid: u32, said: Arc<(Mutex<Said>, Condvar)>) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    thread::spawn(move || {
        // An error means that the owner has reaped it, which is an end, too.
        let _ = waitid(
            WaitId::Pid(pid),
            WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
        );
        said.0.lock().unwrap().has_ended = true;
        said.1.notify_all();
    });
}

impl Ended {
    /// Fails the test unless the process ended with `code`.
    #[track_caller]
    pub(crate) fn with_code(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{self}");
        self
    }

    /// Fails the test unless the process was ended by the point that the test had armed.
    #[track_caller]
    pub(crate) fn died_at(self, point: Point) -> Self {
        let words = format!("dying at {point}, as ");
        let has_died = self.status.signal().is_some() && self.stderr.contains(&words);
        assert!(has_died, "{point} was not reached: {self}");
        self
    }

    /// Fails the test unless the process ended well.
    #[track_caller]
    pub(crate) fn well(self) -> Self {
        self.with_code(0)
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let how = match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, signal) => format!("signal {signal:?}"),
        };
        write!(
            f,
            "{} ended with {how}\n---- stdout\n{}---- stderr\n{}",
            self.name, self.stdout, self.stderr
        )
    }
}
