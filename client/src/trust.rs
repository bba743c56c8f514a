//! What a client believes about models: the authority of its federation, and the line of bases it was led along so far.
//!
//! One small file, replaced by a rename, remembers the line across processes. One that is damaged stops the client instead of
//! being forgotten: whoever could make a client forget could lead it backwards.

use std::fs;
use std::io;
use std::path::PathBuf;

use fedmerge_common::endorsement::VerifyEndorsementError;
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::ids::FederationName;
use fedmerge_common::rollback::Rollback;
use fedmerge_common::units::Timestamp;
use fedmerge_common::update::ModelRef;
use serde::{Deserialize, Serialize};

use crate::enrolment::identity;
use crate::journal::write_durably;
use crate::lineage::{Lineage, StepBack};
use crate::settings::{ClientDirectory, Settings};
use crate::task::{Belief, Claims};

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

    /// What is believed of what the federation's authority is said to have signed of a base. The authority is the one that the
    /// directory names now: a renewal may have brought a new one.
    #[must_use]
    pub fn believe(&self, claims: Claims, base: &ModelRef, now: Timestamp) -> Belief {
        let authority = identity::authority(&self.directory);
        let authority = authority.as_ref().map_or(&[][..], |authority| authority);
        let endorsed = match claims.endorsement {
            Some(endorsement) => endorsement.verify(authority, &self.federation, base, now),
            None => Err(VerifyEndorsementError::Missing),
        };
        let doubt = endorsed.err().map(|error| {
            tracing::warn!(base = %base.version, %error, "base not believed");
            format!("model {}: {error}", base.version)
        });
        let rollback = claims.rollback.filter(|rollback| {
            let verified = rollback.verify(authority, &self.federation, base);
            if let Err(error) = &verified {
                tracing::warn!(base = %base.version, %error, "rollback not believed");
            }
            verified.is_ok()
        });
        let step_back = rollback.map(|Rollback { of, reason, .. }| StepBack { of, reason });
        Belief { step_back, doubt }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use fedmerge_common::clock::Clock;
    use fedmerge_common::digest::Digest;
    use fedmerge_common::endorsement::FRESH;
    use fedmerge_common::ids::ModelVersion;
    use fedmerge_common::units::Millis;

    use super::*;
    use crate::testbed::{Authority, client_id, federation};

    fn trust(root: &tempfile::TempDir) -> Trust {
        let settings = Settings {
            server: "localhost:7600".parse().unwrap(),
            federation: federation(),
            client: client_id(),
            certificate: None,
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
        let claims = Claims {
            rollback: Some(rollback),
            endorsement: None,
        };
        let belief = trust(&root).believe(claims, &base(), Timestamp::new(0));
        assert_eq!(belief.step_back, None);
    }

    #[test]
    fn a_base_that_the_authority_does_not_endorse_is_doubted() {
        let root = tempfile::tempdir().unwrap();
        let (trust, ours) = (trust(&root), Authority::new());
        fs::create_dir(trust.directory.identity()).unwrap();
        let pem = pem::encode(&pem::Pem::new("CERTIFICATE", &*ours.certificate));
        fs::write(trust.directory.authority(), pem).unwrap();
        let now = Clock::system().now();
        let doubt = |endorsement, now| {
            let claims = Claims {
                rollback: None,
                endorsement,
            };
            trust.believe(claims, &base(), now).doubt
        };
        assert_eq!(doubt(Some(ours.endorse(&base(), now)), now), None);
        let later = now + FRESH + Millis::new(1);
        for (endorsement, now, words) in [
            (None, now, "has not signed that it is the base"),
            (
                Some(Authority::new().endorse(&base(), now)),
                now,
                "not its own",
            ),
            (Some(ours.endorse(&base(), now)), later, "the limit is 1h"),
        ] {
            let doubt = doubt(endorsement, now).unwrap();
            assert!(doubt.contains(words), "{doubt}");
        }
    }
}
