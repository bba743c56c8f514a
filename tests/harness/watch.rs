//! Conditions on a running process that stories wait for, and signals.

use rustix::process::{Signal, kill_process};
use serde_json::Value;

use super::process::{Ended, Process};

impl Process {
    /// Waits for a line on standard error that contains `words`.
    pub(crate) fn wait_for_stderr(&self, words: &str) -> String {
        self.wait(&format!("a line on stderr with {words:?}"), |said| {
            said.stderr
                .iter()
                .find(|line| line.contains(words))
                .cloned()
        })
    }

    /// Waits for a line on standard output that contains `words`.
    pub(crate) fn wait_for_stdout(&self, words: &str) -> String {
        self.wait(&format!("a line on stdout with {words:?}"), |said| {
            let mut lines = said.stdout.iter();
            lines.find(|line| line.contains(words)).cloned()
        })
    }

    /// Waits for the next JSON line with this `event`, passing over others; each line is read once.
    pub(crate) fn next_event(&mut self, event: &str) -> Value {
        let from = self.lines_read;
        let (read, value) = self.wait(&format!("the event {event:?}"), |said| {
            let lines = said.stdout.iter().enumerate().skip(from);
            lines
                .map(|(at, line)| (at + 1, json(line)))
                .find(|(_, value)| value["event"] == event)
        });
        self.lines_read = read;
        value
    }

    /// Sends a signal to the process alone, not to its group.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Kills the process and all of its group at once, as a power cut would.
    pub(crate) fn kill(self) -> Ended {
        self.signal(Signal::KILL);
        self.end()
    }
}

/// Reads what a JSON value says, field by field.
pub(crate) fn json_value<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone())
        .unwrap_or_else(|error| panic!("{value} is something else: {error}"))
}

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?} is not JSON: {error}"))
}

impl Ended {
    /// Fails the test unless the process ended with `code` and told its user why, with all of `words`, and what to do next.
    #[track_caller]
    pub(crate) fn refused(self, code: i32, words: &[&str]) -> Self {
        let ended = self.with_code(code);
        for words in words {
            assert!(
                ended.stderr.contains(words),
                "{words:?} is missing:\n{ended}"
            );
        }
        assert!(ended.stderr.contains("\nhint: "), "no hint:\n{ended}");
        ended
    }
}
