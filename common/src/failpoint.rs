//! Named points at which a test makes a process die: it is gone there as after `kill -9`, with nothing tidied up.
//!
//! Each point stands where something has just become durable, or is about to be told: the places where a crash hurts most.
//! Only [`VARIABLE`] arms one, as `name:count`; without it a point is one look at a static. This is the whole list of names.

use std::fmt;
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::failure::{ExitCode, Failure};

/// Environment variable that arms one point: `client-trained:2` ends the process when it passes that point the second time.
pub const VARIABLE: &str = "FEDMERGE_TEST_CRASH_AT";

macro_rules! points {
    ($($(#[$doc:meta])* $point:ident = $name:literal,)*) => {
        /// A place in the program at which a test may end it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Point { $($(#[$doc])* $point),* }

        impl Point {
            /// Every point, a client's in the order of its task, then a server's in the order of a round.
            pub const ALL: &'static [Self] = &[$(Self::$point),*];

            /// The point's name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$point => $name),* }
            }
        }
    };
}

points! {
    /// The base is in the cache.
    ClientDownloaded = "client-downloaded",
    /// The journal remembers the finished training.
    ClientTrained = "client-trained",
    /// The update is on disk, and the journal does not know.
    ClientUpdateWritten = "client-update-written",
    /// The journal remembers the update, of which nothing was sent.
    ClientUpdateReady = "client-update-ready",
    /// The server acknowledged bytes of the update.
    ClientAcknowledged = "client-acknowledged",
    /// The server has every byte, and was not asked to decide.
    ClientBeforeCommit = "client-before-commit",
    /// The server's decision has come, and nobody knows.
    ClientAfterCommit = "client-after-commit",
    /// What an accepted update could not say is kept for the next round, and the journal still has the update.
    ClientResidualKept = "client-residual-kept",
    /// Bytes of an update are durable and not acknowledged.
    ServerStaged = "server-staged",
    /// The record of the rounds is durable, and nobody has been told.
    ServerRecorded = "server-recorded",
    /// The note on a merge is durable; the round has not heard of its candidate.
    ServerMergeNoted = "server-merge-noted",
    /// The model is in its place, and the ledger does not know.
    ServerModelPlaced = "server-model-placed",
    /// The ledger has the model; the round has not heard of it.
    ServerModelRecorded = "server-model-recorded",
    /// The round is closed and told; what it leaves has not been cleaned up.
    ServerClosed = "server-closed",
}

impl fmt::Display for Point {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// A value of [`VARIABLE`] that arms nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArmError {
    /// It is not `name:count` with a count from 1 on.
    #[error("{VARIABLE} is `{found}`, not a point's name and a count, such as `client-trained:1`")]
    Form {
        /// What it is.
        found: String,
    },
    /// No point has that name.
    #[error("{VARIABLE} names `{found}`, which is no point")]
    Unknown {
        /// The name.
        found: String,
    },
}

impl From<ArmError> for Failure {
    fn from(error: ArmError) -> Self {
        let names: Vec<&str> = Point::ALL.iter().map(|point| point.as_str()).collect();
        Self::from_error(ExitCode::BadConfiguration, &error).with_hint(format_args!(
            "the variable is for tests: unset it, or name one of {}",
            names.join(", ")
        ))
    }
}

/// The point that is armed, and how often it is still passed.
#[derive(Debug)]
struct Armed {
    point: Point,
    left: AtomicU64,
}

impl FromStr for Armed {
    type Err = ArmError;

    fn from_str(text: &str) -> Result<Self, ArmError> {
        let wrong = || ArmError::Form {
            found: text.to_owned(),
        };
        let (name, count) = text.split_once(':').ok_or_else(wrong)?;
        let count: NonZeroU64 = count.parse().map_err(|_| wrong())?;
        let mut points = Point::ALL.iter();
        let found = points.find(|point| point.as_str() == name);
        let unknown = || ArmError::Unknown {
            found: name.to_owned(),
        };
        Ok(Self {
            point: *found.ok_or_else(unknown)?,
            left: AtomicU64::new(count.get()),
        })
    }
}

impl Armed {
    /// Counts a passing; true at the last.
    fn is_due(&self, point: Point) -> bool {
        self.point == point && self.left.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

static ARMED: OnceLock<Armed> = OnceLock::new();

/// Arms the point that [`VARIABLE`] names, if it is set; called once, when the process starts.
///
/// # Errors
/// When the variable is set to anything else than the name of a point and a count.
pub fn arm() -> Result<(), ArmError> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the order must reach every process under test, whatever its settings"
    )]
    let text = match std::env::var(VARIABLE) {
        Ok(text) => text,
        Err(std::env::VarError::NotPresent) => return Ok(()),
        Err(std::env::VarError::NotUnicode(found)) => found.to_string_lossy().into_owned(),
    };
    let armed = text.parse()?;
    // A process starts once; whoever calls this again has changed nothing.
    let _started = ARMED.set(armed);
    Ok(())
}

/// Ends the process, if this is the point and the time at which it is to die.
pub fn pass(point: Point) {
    if ARMED.get().is_some_and(|armed| armed.is_due(point)) {
        // Nobody is left to tell when standard error is gone.
        let _unread = writeln!(io::stderr(), "dying at {point}, as {VARIABLE} says");
        std::process::abort();
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_due_at_the_passing_that_was_named_and_no_other_point_is() {
        let armed: Armed = "server-recorded:2".parse().unwrap();
        assert!(!armed.is_due(Point::ServerRecorded));
        assert!(!armed.is_due(Point::ServerClosed));
        assert!(armed.is_due(Point::ServerRecorded));
    }

    #[test]
    fn every_point_is_armed_by_its_name() {
        for point in Point::ALL {
            let armed: Armed = format!("{point}:1").parse().unwrap();
            assert_eq!(armed.point, *point);
        }
    }

    #[test]
    fn an_order_that_names_no_point_or_no_count_is_refused() {
        for form in [
            "",
            "client-trained",
            "client-trained:",
            "client-trained:0",
            "client-trained:-1",
        ] {
            let found = form.to_owned();
            assert_eq!(form.parse::<Armed>().unwrap_err(), ArmError::Form { found });
        }
        let found = "client-tired".to_owned();
        assert_eq!(
            "client-tired:1".parse::<Armed>().unwrap_err(),
            ArmError::Unknown { found }
        );
    }

    #[test]
    fn without_an_order_every_point_is_passed() {
        for point in Point::ALL {
            pass(*point);
        }
    }
}
