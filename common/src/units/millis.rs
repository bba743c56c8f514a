//! Spans of time in whole milliseconds, as people write them.

use std::fmt;
use std::ops::Add;
use std::str::FromStr;
use std::time::Duration;

use jiff::SpanRelativeTo;
use jiff::fmt::friendly::{SpanParser, SpanPrinter};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Text that is not a span of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a span of time such as `500ms`, `30s` or `1h 30m`")]
pub struct ParseMillisError {
    /// What was there.
    pub text: String,
}

/// A span of time in whole milliseconds, read from text such as `500ms`, `30s` or `1h 30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(u64);

impl Millis {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// Wraps a number of milliseconds.
    #[must_use]
    pub const fn new(milliseconds: u64) -> Self {
        Self(milliseconds)
    }

    /// `seconds` × 1,000 milliseconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// The number of milliseconds.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// About how long, as a reader takes it in at a glance: `412 ms`, `3.2 s`, `2 m 05 s` or `3 h 20 m`.
    #[must_use]
    pub fn approximate(self) -> String {
        let ms = self.0;
        match ms {
            0..1000 => format!("{ms} ms"),
            1000..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
            60_000..3_600_000 => format!("{} m {:02} s", ms / 60_000, ms % 60_000 / 1000),
            _ => format!("{} h {:02} m", ms / 3_600_000, ms % 3_600_000 / 60_000),
        }
    }

    /// The same span for timers.
    #[must_use]
    pub const fn to_duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl From<Millis> for Duration {
    fn from(span: Millis) -> Self {
        span.to_duration()
    }
}

impl From<Duration> for Millis {
    /// Drops what is below a millisecond.
    fn from(duration: Duration) -> Self {
        Self(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }
}

impl Add for Millis {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&SpanPrinter::new().unsigned_duration_to_string(&self.to_duration()))
    }
}

impl FromStr for Millis {
    type Err = ParseMillisError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseMillisError {
            text: text.to_owned(),
        };
        let span = SpanParser::new().parse_span(text).map_err(|_| error())?;
        let duration = span
            .to_duration(SpanRelativeTo::days_are_24_hours())
            .map_err(|_| error())?;
        if duration.subsec_nanos() % 1_000_000 != 0 {
            return Err(error());
        }
        u64::try_from(duration.as_millis())
            .map(Self)
            .map_err(|_| error())
    }
}

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spans_are_read_with_their_unit() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("30m", 1_800_000),
            ("1h 30m", 5_400_000),
            ("1h30m", 5_400_000),
            ("7d", 604_800_000),
            ("0s", 0),
            ("1.5s", 1500),
        ] {
            assert_eq!(
                text.parse::<Millis>().unwrap().get(),
                milliseconds,
                "{text}"
            );
        }
        for text in [
            "",
            "30",
            "-1s",
            "1s ago",
            "10us",
            "soon",
            "999999999999999999h",
        ] {
            assert!(text.parse::<Millis>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_approximate_span_reads_well() {
        let read = |ms| Millis::new(ms).approximate();
        assert_eq!(
            [
                read(0),
                read(412),
                read(3250),
                read(125_000),
                read(12_000_000)
            ],
            ["0 ms", "412 ms", "3.2 s", "2 m 05 s", "3 h 20 m"]
        );
    }

    proptest! {
        #[test]
        fn a_shown_span_is_read_back(milliseconds in 0_u64..=1 << 45) {
            let span = Millis::new(milliseconds);
            prop_assert_eq!(span.to_string().parse::<Millis>().unwrap(), span);
        }
    }
}
