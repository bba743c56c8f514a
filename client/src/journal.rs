//! The journal of a client: what is finished of the task in hand, durable before the next step is begun.
//!
//! One small file, replaced by a rename: it holds one whole memory or none. It is believed only by the client and the
//! federation that wrote it, and only as far as the files that it speaks of are there. It decides nothing: the agent does.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use fedmerge_common::digest::Digest;
use fedmerge_common::failpoint::{self, Point};
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::ids::{ClientId, FederationName, RoundNumber};

mod page;

use crate::agent::Memory;
use crate::settings::{ClientDirectory, Settings};
use crate::trainer::workplace::Workplace;
use page::{Page, ReadPageError};

/// The journal of one directory.
#[derive(Clone, Debug)]
pub struct Journal {
    path: PathBuf,
    work: PathBuf,
    federation: FederationName,
    client: ClientId,
}

/// A journal that must not be overwritten.
#[derive(Debug, thiserror::Error)]
pub enum OpenJournalError {
    /// The file system refused.
    #[error("`{}` cannot be read", path.display())]
    Read {
        /// The journal.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A newer version of the program wrote it.
    #[error("`{}` has version {found}; this program reads version {}", path.display(), page::VERSION)]
    Newer {
        /// The journal.
        path: PathBuf,
        /// Its version.
        found: u64,
    },
}

impl From<OpenJournalError> for Failure {
    fn from(error: OpenJournalError) -> Self {
        match &error {
            OpenJournalError::Read { .. } => Self::from_error(ExitCode::Unavailable, &error),
            OpenJournalError::Newer { .. } => Self::from_error(ExitCode::BadData, &error).with_hint(
                "run the version of fedmerge that wrote it; or remove the file, and its task begins again",
            ),
        }
    }
}

/// What an earlier process left in a journal that is of no use: its task begins again.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It is no journal.
    #[error("the journal is damaged")]
    Damaged(#[source] ReadPageError),
    /// It was copied here, or the directory has another owner now.
    #[error("the journal is that of client {client} of federation {federation}")]
    Foreign {
        /// Its client.
        client: ClientId,
        /// Its federation.
        federation: FederationName,
    },
    /// A file of the round's directory is gone or another.
    #[error("round {round}: `{}` is not there as the journal remembers it", path.display())]
    Missing {
        /// The round.
        round: RoundNumber,
        /// The file.
        path: PathBuf,
    },
}

impl Journal {
    /// The journal of a client's directory, whether there is one or not.
    #[must_use]
    pub fn of(directory: &ClientDirectory, settings: &Settings) -> Self {
        Self {
            path: directory.journal(),
            work: directory.work(),
            federation: settings.federation.clone(),
            client: settings.client.clone(),
        }
    }

    /// What an earlier process had finished, if it is of use; nothing when there is no journal.
    ///
    /// # Errors
    /// When the journal cannot be read, or is of a newer version: then it must stay.
    pub fn recall(&self) -> Result<Result<Option<Memory>, Unusable>, OpenJournalError> {
        let failed = |source| OpenJournalError::Read {
            path: self.path.clone(),
            source,
        };
        let mut text = Vec::new();
        match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ok(None)),
            opened => opened
                .and_then(|file| file.take(page::MAX_BYTES + 1).read_to_end(&mut text))
                .map_err(failed)?,
        };
        match Page::read(&text) {
            Err(ReadPageError::Newer { found }) => Err(OpenJournalError::Newer {
                path: self.path.clone(),
                found,
            }),
            Err(error) => Ok(Err(Unusable::Damaged(error))),
            Ok(page) => Ok(self.check(page).map(Some)),
        }
    }

    fn check(&self, page: Page) -> Result<Memory, Unusable> {
        if (&page.federation, &page.client) != (&self.federation, &self.client) {
            return Err(Unusable::Foreign {
                client: page.client,
                federation: page.federation,
            });
        }
        let round = page.memory.round();
        let place = Workplace::of(&self.work, round, PathBuf::new());
        let (is_there, path) = match &page.memory {
            Memory::Trained { .. } => (place.out.exists(), place.out),
            Memory::Prepared(header) => {
                let found = Digest::of_file(&place.update);
                (
                    found.is_ok_and(|found| found == header.payload),
                    place.update,
                )
            }
        };
        if is_there {
            Ok(page.memory)
        } else {
            Err(Unusable::Missing { round, path })
        }
    }

    /// Makes `memory` what the next process will recall; nothing, without one.
    ///
    /// # Errors
    /// When the file system refuses; then the next process recalls nothing.
    pub fn keep(&self, memory: Option<&Memory>) -> io::Result<()> {
        let Some(memory) = memory else {
            // Not made durable: a memory that comes back after a power cut is asked about once more, and dropped.
            return remove(&self.path);
        };
        let page = Page {
            federation: self.federation.clone(),
            client: self.client.clone(),
            memory: memory.clone(),
        };
        if let Err(error) = write_durably(&self.path, &page.to_json()) {
            // What is there is of an earlier step, and the files that it speaks of may be others by now.
            let _kept = remove(&self.path);
            return Err(error);
        }
        failpoint::pass(match memory {
            Memory::Trained { .. } => Point::ClientTrained,
            Memory::Prepared(_) => Point::ClientUpdateReady,
        });
        Ok(())
    }
}

/// Writes a small file that replaces what was there, at once or not at all.
pub(crate) fn write_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_added_extension("part");
    let mut file = File::create(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    let directory = path.parent().unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
