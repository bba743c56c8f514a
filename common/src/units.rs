//! Quantities with units: bytes, spans of time and moments.
//!
//! Arithmetic saturates: a hostile or absurd number becomes an absurd limit, never a panic.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::time::Duration;

use jiff::SpanRelativeTo;
use jiff::fmt::friendly::{SpanParser, SpanPrinter};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A quantity that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseUnitError {
    /// Not a size.
    #[error("`{text}` is not a size such as `512MiB` or `2GiB`")]
    ByteSize {
        /// What was there.
        text: String,
    },
    /// Not a span of time.
    #[error("`{text}` is not a span of time such as `500ms`, `30s` or `1h 30m`")]
    Millis {
        /// What was there.
        text: String,
    },
}

/// A number of bytes, read from text such as `512MiB`, `2GB` or `1048576`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

impl ByteSize {
    /// Wraps a number of bytes.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// `mebibytes` × 1,048,576 bytes.
    #[must_use]
    pub const fn from_mebibytes(mebibytes: u64) -> Self {
        Self(mebibytes.saturating_mul(1 << 20))
    }

    /// The number of bytes.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The largest binary unit that divides the size, so that the text is exact.
    fn exact_unit(self) -> (u64, &'static str) {
        [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")]
            .into_iter()
            .find(|(unit, _)| self.0 >= *unit && self.0.is_multiple_of(*unit))
            .unwrap_or((1, "B"))
    }
}

impl fmt::Display for ByteSize {
    /// Exact where that is short (`512 MiB`), else rounded to a decimal (`1.4 GiB`).
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, name) = self.exact_unit();
        if self.0 < 1024 || self.0 / unit < 10_000 && unit > 1 {
            return formatter.pad(&format!("{} {name}", self.0 / unit));
        }
        formatter.pad(&bytesize::ByteSize(self.0).display().iec().to_string())
    }
}

impl FromStr for ByteSize {
    type Err = ParseUnitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseUnitError::ByteSize {
            text: text.to_owned(),
        };
        text.parse::<bytesize::ByteSize>()
            .map(|size| Self(size.as_u64()))
            .map_err(|_| error())
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (unit, name) = self.exact_unit();
        serializer.collect_str(&format_args!("{}{name}", self.0 / unit))
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a size such as `512MiB`, or a number of bytes")]
        enum Either {
            Bytes(u64),
            Text(String),
        }
        match Either::deserialize(deserializer)? {
            Either::Bytes(bytes) => Ok(Self(bytes)),
            Either::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
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
    type Err = ParseUnitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseUnitError::Millis {
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

/// A moment, in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Wraps milliseconds since the Unix epoch.
    #[must_use]
    pub const fn new(unix_milliseconds: u64) -> Self {
        Self(unix_milliseconds)
    }

    /// A moment given in seconds since the Unix epoch; moments before it become the epoch.
    #[must_use]
    pub fn from_unix_seconds(unix_seconds: i64) -> Self {
        Self(
            u64::try_from(unix_seconds)
                .unwrap_or(0)
                .saturating_mul(1000),
        )
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Whole seconds since the Unix epoch.
    #[must_use]
    pub const fn unix_seconds(self) -> u64 {
        self.0 / 1000
    }

    /// How far two moments are apart, whichever is first.
    #[must_use]
    pub const fn distance(self, other: Self) -> Millis {
        Millis(self.0.abs_diff(other.0))
    }
}

impl Add<Millis> for Timestamp {
    type Output = Self;

    fn add(self, span: Millis) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl Sub<Millis> for Timestamp {
    type Output = Self;

    fn sub(self, span: Millis) -> Self {
        Self(self.0.saturating_sub(span.0))
    }
}

impl Sub for Timestamp {
    type Output = Millis;

    /// The time from `earlier` to `self`; zero when `earlier` is later.
    fn sub(self, earlier: Self) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = i64::try_from(self.0)
            .ok()
            .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        fmt::Display::fmt(&moment.unwrap_or(jiff::Timestamp::MAX), formatter)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read_with_their_unit() {
        for (text, bytes) in [
            ("0", 0),
            ("1048576", 1 << 20),
            ("512MiB", 512 << 20),
            ("2GiB", 2 << 30),
            ("1 KiB", 1024),
            ("2GB", 2_000_000_000),
        ] {
            assert_eq!(text.parse::<ByteSize>().unwrap().get(), bytes, "{text}");
        }
        for text in ["", "-1", "2 parsecs", "GiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_for_people() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (512 << 20, "512 MiB"),
            (2 << 30, "2 GiB"),
            (1_500_000_000, "1.4 GiB"),
        ] {
            assert_eq!(ByteSize::new(bytes).to_string(), text);
        }
    }

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
    fn moments_are_shown_in_rfc_3339_and_never_overflow() {
        assert_eq!(Timestamp::new(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(
            Timestamp::new(1_700_000_000_123).to_string(),
            "2023-11-14T22:13:20.123Z"
        );
        assert!(Timestamp::new(u64::MAX).to_string().starts_with("9999-12-"));
        assert_eq!(
            Timestamp::new(u64::MAX) + Millis::new(1),
            Timestamp::new(u64::MAX)
        );
        assert_eq!(Timestamp::new(5) - Timestamp::new(7), Millis::ZERO);
        assert_eq!(
            Timestamp::new(5).distance(Timestamp::new(7)),
            Millis::new(2)
        );
    }

    proptest! {
        #[test]
        fn a_shown_span_is_read_back(milliseconds in 0_u64..=1 << 45) {
            let span = Millis::new(milliseconds);
            prop_assert_eq!(span.to_string().parse::<Millis>().unwrap(), span);
        }

        #[test]
        fn a_serialised_size_is_read_back(bytes: u64) {
            let json = serde_json::to_string(&ByteSize::new(bytes)).unwrap();
            prop_assert_eq!(serde_json::from_str::<ByteSize>(&json).unwrap(), ByteSize::new(bytes));
        }
    }
}
