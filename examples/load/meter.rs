//! What a process takes, as Linux tells it: memory now and at most, and processor time so far.

use std::fs;
use std::time::Duration;

use fedmerge_common::failure::{ExitCode, Failure};
use serde::Serialize;

/// Ticks of processor time in a second: what Linux tells programs does not depend on its own clock.
const TICKS_PER_SECOND: u64 = 100;

/// A process that is watched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meter {
    process: u32,
}

/// What a process takes at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Reading {
    /// Memory that it holds, bytes.
    pub(crate) memory_bytes: u64,
    /// The most that it ever held, bytes.
    pub(crate) peak_bytes: u64,
    /// Processor time that it took since its start, on all cores together.
    #[serde(skip)]
    pub(crate) processor: Duration,
}

impl Meter {
    /// Watches a process.
    pub(crate) const fn of(process: u32) -> Self {
        Self { process }
    }

    /// What it takes now.
    ///
    /// # Errors
    /// When it has ended, or this system does not tell.
    pub(crate) fn read(&self) -> Result<Reading, Failure> {
        let text = |name: &str| {
            let path = format!("/proc/{}/{name}", self.process);
            fs::read_to_string(&path).map_err(|error| {
                let message = format!("`{path}` cannot be read");
                Failure::new(ExitCode::Unavailable, message).with_source(&error)
            })
        };
        let reading = reading(&text("status")?, &text("stat")?);
        reading.ok_or_else(|| {
            let message = format!("what process {} takes is not understood", self.process);
            Failure::new(ExitCode::Unavailable, message)
        })
    }
}

fn reading(status: &str, stat: &str) -> Option<Reading> {
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kibibytes * 1024)
    };
    // The program's name stands in parentheses and may have blanks; after it, user and system time are the 12th and 13th.
    let (_name, fields) = stat.rsplit_once(')')?;
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: Vec<u64> = ticks.map(str::parse).collect::<Result<_, _>>().ok()?;
    let ticks: u64 = ticks.iter().sum();
    Some(Reading {
        memory_bytes: bytes("VmRSS:")?,
        peak_bytes: bytes("VmHWM:")?,
        processor: Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let status = "Name:\ta b\nVmHWM:\t   2048 kB\nVmRSS:\t   1024 kB\n";
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 1 0 9 9 9";
        let expected = Reading {
            memory_bytes: 1 << 20,
            peak_bytes: 2 << 20,
            processor: Duration::from_secs(2),
        };
        assert_eq!(reading(status, stat), Some(expected));
        assert_eq!(reading("", stat), None);
        assert_eq!(reading(status, "7 (a"), None);
    }
}
