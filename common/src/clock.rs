//! The wall clock. This is the one place that reads it.
//!
//! Tests shift a whole process with the environment variable [`OFFSET_VARIABLE`], so that "a client
//! whose clock is a day off" needs no change to the machine's clock.

use std::time::{Duration, SystemTime};

use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

use crate::units::Timestamp;

/// Environment variable that shifts [`Clock::system`], in signed seconds. For tests.
pub const OFFSET_VARIABLE: &str = "FEDMERGE_TEST_CLOCK_OFFSET_S";

/// A source of the current time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    offset_seconds: i64,
}

impl Clock {
    /// The machine's clock, shifted by [`OFFSET_VARIABLE`] where that is set to a number.
    #[must_use]
    pub fn system() -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "the shift must reach every process under test, whatever its settings"
        )]
        let offset = std::env::var(OFFSET_VARIABLE)
            .ok()
            .and_then(|text| text.trim().parse().ok());
        Self {
            offset_seconds: offset.unwrap_or(0),
        }
    }

    /// The machine's clock shifted by a number of seconds.
    #[must_use]
    pub const fn with_offset(offset_seconds: i64) -> Self {
        Self { offset_seconds }
    }

    /// The current time; the Unix epoch when the clock is set before it.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the place that reads the clock"
        )]
        let now = SystemTime::now();
        let since_epoch = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        let milliseconds = i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX);
        let shifted = milliseconds.saturating_add(self.offset_seconds.saturating_mul(1000));
        Timestamp::new(u64::try_from(shifted).unwrap_or(0))
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(
            self.now().unix_seconds(),
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Millis;

    #[test]
    fn an_offset_shifts_the_clock() {
        let now = Clock::with_offset(0).now();
        let tomorrow = Clock::with_offset(86_400).now();
        assert!(tomorrow - now >= Millis::from_secs(86_400));
        assert!(tomorrow - now < Millis::from_secs(86_460));
    }

    #[test]
    fn a_clock_before_the_epoch_reads_the_epoch() {
        assert_eq!(Clock::with_offset(i64::MIN).now(), Timestamp::new(0));
    }
}
