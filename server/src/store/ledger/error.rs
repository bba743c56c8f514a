//! What can go wrong with the ledger, cut by what the caller can do about it.

use std::io;
use std::path::{Path, PathBuf};

use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_proto::status::{Refusal, RefusalReason};

use crate::store::ledger::row::DecodeRowError;

// Result codes of SQLite; the lower byte of an extended code is its kind.
const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const READ_ONLY: i32 = 8;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const NOT_A_DATABASE: i32 = 26;
/// The shared memory file cannot grow: a full disk in practice.
const SHARED_MEMORY_SIZE: i32 = 4874;

fn code(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error()?.code()?.parse().ok()
}

fn is_kind(error: &sqlx::Error, kinds: &[i32]) -> bool {
    code(error).is_some_and(|code| kinds.contains(&(code & 0xff)))
}

pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::PoolTimedOut) || is_kind(error, &[BUSY, LOCKED])
}

fn is_full(error: &sqlx::Error) -> bool {
    is_kind(error, &[FULL]) || code(error) == Some(SHARED_MEMORY_SIZE)
}

fn is_corrupt(error: &sqlx::Error) -> bool {
    is_kind(error, &[CORRUPT, NOT_A_DATABASE])
}

fn is_read_only(error: &sqlx::Error) -> bool {
    is_kind(error, &[READ_ONLY])
}

/// Why a ledger cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenLedgerError {
    /// The file is not there and cannot be made.
    #[error("the ledger {} cannot be made", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file cannot be opened or written.
    #[error("the ledger {} cannot be opened", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// The disk is full.
    #[error("the disk is too full to open the ledger {}", path.display())]
    Full {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// Another process keeps it locked.
    #[error("another process keeps the ledger {} locked", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// The file is no SQLite database, or a broken one.
    #[error("the ledger {} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        #[source]
        source: sqlx::Error,
    },
    /// The file can be read, but what it says does not fit together.
    #[error("the ledger {} is damaged: {finding}", path.display())]
    Unsound {
        /// The file.
        path: PathBuf,
        /// The first thing that SQLite found.
        finding: String,
    },
    /// The file, or the file system that it is on, cannot be written.
    #[error("the ledger {} cannot be written", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// The file is a database of something else.
    #[error("{} is a database, but not a ledger", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A newer program wrote it.
    #[error("the ledger {} has version {found}, this program knows versions up to {known}", path.display())]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version this program knows.
        known: i64,
    },
}

impl OpenLedgerError {
    pub(super) fn from_database(path: &Path, source: sqlx::Error) -> Self {
        let path = path.to_owned();
        if is_corrupt(&source) {
            Self::Damaged { path, source }
        } else if is_busy(&source) {
            Self::Busy { path, source }
        } else if is_full(&source) {
            Self::Full { path, source }
        } else if is_read_only(&source) {
            Self::ReadOnly { path, source }
        } else {
            Self::Open { path, source }
        }
    }
}

/// What to do about a ledger that cannot be trusted any more.
pub(crate) const RESTORE: &str = "put a backup in its place (`fedmerge server backup` makes one) and remove the -wal and -shm files beside it";
const MAKE_WRITABLE: &str = "the server's user must be able to write the file and its directory, on a file system that is mounted for writing";
const FREE_SPACE: &str = "free space on the disk and try again: nothing is lost";
const OTHER_PROCESS: &str = "another fedmerge process is writing: try again";

impl From<OpenLedgerError> for Failure {
    fn from(error: OpenLedgerError) -> Self {
        let failure = |exit| Self::from_error(exit, &error);
        match &error {
            OpenLedgerError::Create { .. } | OpenLedgerError::Open { .. } => {
                failure(ExitCode::Unavailable)
                    .with_hint("is this a server's directory? `fedmerge server init DIR` makes one")
            }
            OpenLedgerError::Full { .. } => failure(ExitCode::Temporary).with_hint(FREE_SPACE),
            OpenLedgerError::Busy { .. } => failure(ExitCode::Temporary).with_hint(OTHER_PROCESS),
            OpenLedgerError::Damaged { .. } | OpenLedgerError::Unsound { .. } => {
                failure(ExitCode::BadData).with_hint(RESTORE)
            }
            OpenLedgerError::ReadOnly { .. } => {
                failure(ExitCode::Unavailable).with_hint(MAKE_WRITABLE)
            }
            OpenLedgerError::Foreign { .. } => {
                failure(ExitCode::BadData).with_hint("move it away, or name another directory")
            }
            OpenLedgerError::NewerVersion { .. } => failure(ExitCode::BadData)
                .with_hint("run the newer fedmerge that wrote it, or restore a backup"),
        }
    }
}

/// Why the ledger does not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The disk is full: nothing was written.
    #[error(
        "the disk is too full to write the ledger, or the ledger is as large as `limits.ledger_bytes` lets it be"
    )]
    Full(#[source] sqlx::Error),
    /// Another process kept it locked for too long: nothing was written.
    #[error("another process keeps the ledger locked")]
    Busy(#[source] sqlx::Error),
    /// A row does not say what this program writes.
    #[error("table `{table}` of the ledger has a damaged row")]
    Damaged {
        /// The table.
        table: &'static str,
        /// The column, and what is wrong.
        #[source]
        source: DecodeRowError,
    },
    /// The file is broken.
    #[error("the ledger, `state/ledger.sqlite` in the server's directory, is damaged")]
    Corrupt(#[source] sqlx::Error),
    /// What is there already says something else.
    #[error("{what}")]
    Conflict {
        /// What is there, and what was to be written.
        what: String,
    },
    /// A number that SQLite cannot hold.
    #[error("{what} {number} is too large for the ledger")]
    TooLarge {
        /// What it counts.
        what: &'static str,
        /// The number.
        number: u64,
    },
    /// Anything else.
    #[error("the ledger cannot be used")]
    Database(#[source] sqlx::Error),
}

impl LedgerError {
    /// Whether it passes by itself, or once someone has freed space: nothing was written, and the same may be tried again.
    #[must_use]
    pub fn passes(&self) -> bool {
        match self {
            Self::Full(_) | Self::Busy(_) => true,
            Self::Damaged { .. }
            | Self::Corrupt(_)
            | Self::Conflict { .. }
            | Self::TooLarge { .. }
            | Self::Database(_) => false,
        }
    }
}

impl From<sqlx::Error> for LedgerError {
    fn from(error: sqlx::Error) -> Self {
        if is_busy(&error) {
            Self::Busy(error)
        } else if is_full(&error) {
            Self::Full(error)
        } else if is_corrupt(&error) {
            Self::Corrupt(error)
        } else {
            Self::Database(error)
        }
    }
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Self {
        let failure = |exit| Self::from_error(exit, &error);
        match &error {
            LedgerError::Full(_) => failure(ExitCode::Temporary).with_hint(FREE_SPACE),
            LedgerError::Busy(_) => failure(ExitCode::Temporary).with_hint(OTHER_PROCESS),
            LedgerError::Damaged { .. } | LedgerError::Corrupt(_) => {
                failure(ExitCode::BadData).with_hint(RESTORE)
            }
            LedgerError::Conflict { .. } | LedgerError::TooLarge { .. } => {
                failure(ExitCode::BadData)
            }
            LedgerError::Database(_) => failure(ExitCode::Unavailable),
        }
    }
}

impl From<LedgerError> for Refusal {
    /// What a client is told: no more than it can act on.
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Full(_) => {
                Self::new(RefusalReason::StorageFull, "the server's disk is full")
            }
            LedgerError::Busy(_) => Self::new(RefusalReason::Busy, "the server's ledger is busy"),
            LedgerError::TooLarge { .. } => Self::new(RefusalReason::InvalidRequest, error),
            LedgerError::Damaged { .. }
            | LedgerError::Corrupt(_)
            | LedgerError::Conflict { .. }
            | LedgerError::Database(_) => Self::new(
                RefusalReason::Internal,
                "the server cannot use its ledger: its log says why",
            ),
        }
    }
}
