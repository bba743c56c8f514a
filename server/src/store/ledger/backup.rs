//! A copy of the ledger of one moment, made while the server goes on.
//!
//! Invariant: the copy appears under its name complete, sound and durable, or not at all, and replaces nothing.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use fedmerge_common::failure::{ExitCode, Failure};

use crate::compute;
use crate::files;
use crate::store::ledger::{Ledger, LedgerError, OpenLedgerError, create_file};

const KEEP_THE_LAST: &str = "keep the last good backup: it is needed now";

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackUpError {
    /// Something has the name already.
    #[error("`{}` is there already", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The copy cannot be written.
    #[error("`{}` cannot be written", path.display())]
    File {
        /// The copy.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The ledger cannot be copied.
    #[error("the ledger cannot be copied")]
    Copy(#[source] LedgerError),
    /// What was copied is damaged: so is the ledger.
    #[error("a copy of the ledger cannot be used")]
    Unsound(#[source] OpenLedgerError),
}

impl From<BackUpError> for Failure {
    fn from(error: BackUpError) -> Self {
        let failure = |exit| Self::from_error(exit, &error);
        match &error {
            BackUpError::Exists { .. } => {
                failure(ExitCode::Usage).with_hint("name a file that is not there")
            }
            BackUpError::File { .. } => failure(ExitCode::Unavailable),
            BackUpError::Copy(LedgerError::Full(_)) => {
                failure(ExitCode::Temporary).with_hint("free space where the copy goes")
            }
            BackUpError::Copy(LedgerError::Corrupt(_)) => {
                failure(ExitCode::BadData).with_hint(KEEP_THE_LAST)
            }
            BackUpError::Copy(_) => failure(ExitCode::Unavailable),
            BackUpError::Unsound(_) => failure(ExitCode::BadData).with_hint(KEEP_THE_LAST),
        }
    }
}

impl Ledger {
    /// Copies the ledger as it is now to `path`, readable by its owner alone. Answers how many bytes it has.
    ///
    /// # Errors
    /// When something is at `path`, the disk refuses, or the ledger is damaged.
    pub async fn back_up(&self, path: &Path) -> Result<u64, BackUpError> {
        let temporary = path.with_added_extension("part");
        let copied = self.copy_through(&temporary, path).await;
        if copied.is_err() {
            // What an unfinished copy leaves: there may be nothing.
            for left in ["", "-wal", "-shm", "-journal"] {
                let _missing = fs::remove_file(with_suffix(&temporary, left));
            }
        }
        copied
    }

    async fn copy_through(&self, temporary: &Path, path: &Path) -> Result<u64, BackUpError> {
        let failed = |source| BackUpError::File {
            path: path.to_owned(),
            source,
        };
        if path.symlink_metadata().is_ok() {
            return Err(BackUpError::Exists {
                path: path.to_owned(),
            });
        }
        // What a crash left.
        match fs::remove_file(temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        let name = temporary.to_str().ok_or_else(|| {
            failed(io::Error::new(
                io::ErrorKind::InvalidFilename,
                "the name is not UTF-8",
            ))
        })?;
        // SQLite fills an empty file, so that it keeps its mode.
        create_file(temporary).map_err(failed)?;
        sqlx::query("VACUUM INTO ?1")
            .bind(name)
            .execute(&self.writer)
            .await
            .map_err(|error| BackUpError::Copy(error.into()))?;
        let copy = Self::open(temporary).await.map_err(BackUpError::Unsound)?;
        let checked = copy.check().await;
        // Closing takes the copy's own log in, and removes it.
        copy.close().await;
        checked.map_err(BackUpError::Unsound)?;
        let (temporary, path) = (temporary.to_owned(), path.to_owned());
        let placed = compute::blocking(move || {
            let file = File::open(&temporary)?;
            file.sync_all()?;
            files::rename(&temporary, &path)?;
            Ok(file.metadata()?.len())
        });
        placed.await.map_err(failed)
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
