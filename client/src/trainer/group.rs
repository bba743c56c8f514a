//! A command with everything it starts, as one process group that outlives nobody.
//!
//! Invariant: the group ends when this process lets go of it, and also when this process is killed and can do nothing any
//! more. A trainer left over from a killed client would write into the same round as the one that its successor starts.

use std::ffi::OsString;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::timeout;

/// Time between asking a command to end and killing it.
const KILL_GRACE: Duration = Duration::from_secs(1);
/// Leads the group, and ends it when the other end of its standard input is gone, which is when the client is. A signal to the
/// whole group is not meant for it.
const GUARD: &str = "trap '' HUP INT TERM; read -r _; kill -9 0";

/// A running command and its guard.
#[derive(Debug)]
pub(super) struct Group {
    command: Child,
    /// Not waited for before the group is killed: so the group's number stays its own.
    _guard: Child,
    leader: Option<Pid>,
}

impl Group {
    /// Starts `command` with these variables beside the client's own.
    ///
    /// # Errors
    /// When `sh` cannot be started.
    pub(super) fn start(
        command: &str,
        environment: &[(&'static str, OsString)],
    ) -> io::Result<Self> {
        let guard = Command::new("sh")
            .arg("-c")
            .arg(GUARD)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let leader = guard
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw)
            .ok_or(io::Error::other("the command's guard has no number"))?;
        let command = Command::new("sh")
            .arg("-c")
            .arg(command)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(leader.as_raw_nonzero().get())
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self {
            command,
            _guard: guard,
            leader: Some(leader),
        })
    }

    /// What the command says, once.
    pub(super) fn voices(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        (self.command.stdout.take(), self.command.stderr.take())
    }

    /// Waits for the end of the command, whatever becomes of what it started.
    ///
    /// # Errors
    /// The system's.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.command.wait().await
    }

    /// Gives the group a moment to end by itself.
    pub(super) async fn ask_to_end(&mut self) {
        self.signal(Signal::TERM);
        // The caller kills what is left either way, so it does not matter how this wait ends.
        let _ = timeout(KILL_GRACE, self.command.wait()).await;
    }

    /// Ends what is left of the group. Only once: later the number may belong to someone else.
    pub(super) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.leader = None;
    }

    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.leader
            && let Err(error) = kill_process_group(leader, signal)
            && error != rustix::io::Errno::SRCH
        {
            tracing::warn!(error = %error, "command cannot be signalled");
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use rustix::process::test_kill_process_group;

    use super::*;

    fn start(command: &str) -> Group {
        Group::start(command, &[]).unwrap()
    }

    #[tokio::test]
    async fn a_group_ends_when_the_client_that_holds_it_is_no_more() {
        let mut group = start("trap '' TERM; sleep 1000 & wait; sleep 1000");
        let leader = group.leader.unwrap();
        assert_eq!(test_kill_process_group(leader), Ok(()));
        // What the system does for a client that was killed.
        drop(group._guard.stdin.take());
        let ended = group.wait().await.unwrap();
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&ended),
            Some(9)
        );
    }

    #[tokio::test]
    async fn a_command_that_ends_does_not_wait_for_its_guard() {
        assert!(start("exit 0").wait().await.unwrap().success());
    }
}
