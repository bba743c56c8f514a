//! What a client believes about models: the authority of its federation, and the line of bases it was led along so far.
//!
//! One small file, replaced by a rename, remembers the line across processes. One that is damaged stops the client instead of
//! being forgotten: whoever could make a client forget could lead it backwards.

use std::fs;
use std::io;
use std::path::PathBuf;

use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::ids::FederationName;
use fedmerge_common::rollback::Rollback;
use fedmerge_common::update::ModelRef;
use serde::{Deserialize, Serialize};

use crate::enrolment::identity;
use crate::journal::write_durably;
use crate::lineage::{Lineage, StepBack};
use crate::settings::{ClientDirectory, Settings};

/// The form that is written, and the only one that is read.
const VERSION: u64 = 1;

/// What a client believes.
#[derive(Clone, Debug)]
pub struct Trust {
    directory: ClientDirectory,
    path: PathBuf,
    federation: FederationName,
}

/// A memory of bases that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecallLineageError {
    /// The file system refused.
    #[error("`{}` cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not what a client wrote.
    #[error("`{}` is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// A newer version of the program wrote it.
    #[error("`{}` has version {found}; this program reads version {VERSION}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
    },
}

impl From<RecallLineageError> for Failure {
    fn from(error: RecallLineageError) -> Self {
        match &error {
            RecallLineageError::Read { .. } => Self::from_error(ExitCode::Unavailable, &error),
            RecallLineageError::Damaged { .. } => Self::from_error(ExitCode::BadData, &error)
                .with_hint(
                    "it protects this client from being led back to an older model; remove it if you trust the server's present base",
                ),
            RecallLineageError::Newer { .. } => Self::from_error(ExitCode::BadData, &error)
                .with_hint("run the version of fedmerge that wrote it"),
        }
    }
}

#[derive(Deserialize)]
struct Edition {
    version: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    version: u64,
    federation: FederationName,
    lineage: Lineage,
}

impl Trust {
    /// What the client of a directory believes.
    #[must_use]
    pub fn of(directory: &ClientDirectory, settings: &Settings) -> Self {
        Self {
            directory: directory.clone(),
            path: directory.lineage(),
            federation: settings.federation.clone(),
        }
    }

    /// The line of bases so far; empty when there is no memory, or it is that of another federation.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or is of a newer version: then it must stay.
    pub fn recall(&self) -> Result<Lineage, RecallLineageError> {
        let path = || self.path.clone();
        let text = match fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Lineage::default()),
            read => read.map_err(|source| RecallLineageError::Read {
                path: path(),
                source,
            })?,
        };
        let damaged = |source| RecallLineageError::Damaged {
            path: path(),
            source,
        };
        let found = serde_json::from_slice::<Edition>(&text).map_err(damaged)?;
        if found.version > VERSION {
            return Err(RecallLineageError::Newer {
                path: path(),
                found: found.version,
            });
        }
        let page: Page = serde_json::from_slice(&text).map_err(damaged)?;
        if page.federation == self.federation {
            Ok(page.lineage)
        } else {
            Ok(Lineage::default())
        }
    }

    /// Makes `lineage` what the next process will recall.
    ///
    /// # Errors
    /// When the file system refuses; then what was there stays.
    pub fn keep(&self, lineage: &Lineage) -> io::Result<()> {
        let page = Page {
            version: VERSION,
            federation: self.federation.clone(),
            lineage: lineage.clone(),
        };
        write_durably(&self.path, &serde_json::to_vec(&page)?)
    }

    /// What the authority says of a base, where it says that it is an older model again. The authority is the one that the directory
    /// names now: a renewal may have brought a new one.
    #[must_use]
    pub fn step_back(&self, rollback: Rollback, base: &ModelRef) -> Option<StepBack> {
        let authority = identity::authority(&self.directory);
        let authority = authority.as_ref().map_or(&[][..], |authority| authority);
        if let Err(error) = rollback.verify(authority, &self.federation, base) {
            tracing::warn!(base = %base.version, %error, "rollback not believed");
            return None;
        }
        Some(StepBack {
            of: rollback.of,
            reason: rollback.reason,
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use fedmerge_common::digest::Digest;
    use fedmerge_common::ids::ModelVersion;

    use super::*;
    use crate::testbed::{client_id, federation};

    fn trust(root: &tempfile::TempDir) -> Trust {
        let settings = Settings {
            server: "localhost:7600".parse().unwrap(),
            federation: federation(),
            client: client_id(),
        };
        Trust::of(&ClientDirectory::new(root.path()), &settings)
    }

    fn base() -> ModelRef {
        ModelRef {
            version: ModelVersion::new(3),
            digest: Digest::of(b"m"),
            size_bytes: 1,
        }
    }

    fn lineage() -> Lineage {
        let mut lineage = Lineage::default();
        lineage.follow(&base(), None).unwrap();
        lineage
    }

    #[test]
    fn the_line_of_bases_is_remembered_for_its_federation() {
        let root = tempfile::tempdir().unwrap();
        let mut trust = trust(&root);
        assert_eq!(trust.recall().unwrap(), Lineage::default());
        trust.keep(&lineage()).unwrap();
        assert_eq!(trust.recall().unwrap(), lineage());
        trust.federation = "letters".parse().unwrap();
        assert_eq!(trust.recall().unwrap(), Lineage::default());
    }

    #[test]
    fn a_damaged_memory_is_refused_at_every_byte_that_is_cut_off() {
        let root = tempfile::tempdir().unwrap();
        let trust = trust(&root);
        trust.keep(&lineage()).unwrap();
        let whole = fs::read(&trust.path).unwrap();
        for length in 0..whole.len() {
            fs::write(&trust.path, &whole[..length]).unwrap();
            let error = trust.recall().unwrap_err();
            assert!(
                matches!(error, RecallLineageError::Damaged { .. }),
                "{error}"
            );
        }
        fs::write(&trust.path, r#"{"version":2}"#).unwrap();
        let error = trust.recall().unwrap_err();
        assert!(matches!(error, RecallLineageError::Newer { found: 2, .. }));
    }

    #[test]
    fn a_rollback_that_another_signed_is_not_believed() {
        let root = tempfile::tempdir().unwrap();
        let rollback = Rollback {
            of: ModelVersion::new(1),
            reason: "as it was".into(),
            signature: vec![0; 70],
        };
        assert_eq!(trust(&root).step_back(rollback, &base()), None);
    }
}
