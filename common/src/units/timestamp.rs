//! Moments in milliseconds since the Unix epoch.

use std::fmt;
use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

use crate::units::Millis;

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
        Millis::new(self.0.abs_diff(other.0))
    }
}

impl Add<Millis> for Timestamp {
    type Output = Self;

    fn add(self, span: Millis) -> Self {
        Self(self.0.saturating_add(span.get()))
    }
}

impl Sub<Millis> for Timestamp {
    type Output = Self;

    fn sub(self, span: Millis) -> Self {
        Self(self.0.saturating_sub(span.get()))
    }
}

impl Sub for Timestamp {
    type Output = Millis;

    /// The time from `earlier` to `self`; zero when `earlier` is later.
    fn sub(self, earlier: Self) -> Millis {
        Millis::new(self.0.saturating_sub(earlier.0))
    }
}

impl Timestamp {
    /// RFC 3339 in UTC to the second: of one width, and enough for people.
    #[must_use]
    pub fn to_second(self) -> String {
        Self(self.0 - self.0 % 1000).to_string()
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
mod tests {
    use super::*;

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
}
