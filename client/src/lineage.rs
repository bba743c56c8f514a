//! The federation's line of bases as this client has seen it, so that nobody leads it backwards unnoticed.
//!
//! Pure. Invariant: the newest version only rises, and a version is one model for ever. Content that was a base before is
//! followed under a new version only where the federation's authority signed that it is an older model again.

use std::collections::VecDeque;
use std::fmt;

use fedmerge_common::digest::Digest;
use fedmerge_common::ids::ModelVersion;
use fedmerge_common::update::ModelRef;
use serde::{Deserialize, Serialize};

/// Bases before the newest that are remembered: more than any federation goes back.
const REMEMBERED: usize = 4096;

/// A base under its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The version.
    pub version: ModelVersion,
    /// Digest of the model.
    pub digest: Digest,
}

/// That a base is an older model again, as the federation's authority signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepBack {
    /// The older version.
    pub of: ModelVersion,
    /// Why, one line.
    pub reason: String,
}

/// The bases that a client was invited to start from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lineage {
    newest: Option<Seen>,
    /// Contents of those before, the last ones; each once.
    earlier: VecDeque<Digest>,
}

/// Why a client does not start from a base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backwards {
    /// Its version is lower than one that the client was given.
    Older {
        /// The version that was offered.
        offered: ModelVersion,
        /// The newest that the client knows.
        newest: ModelVersion,
    },
    /// The client knows another model under its version.
    Other(ModelVersion),
    /// It was a base before, and nobody signed that it is to be again.
    Unsigned(ModelVersion),
}

impl fmt::Display for Backwards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Older { offered, newest } => write!(
                f,
                "the server goes back to model {offered}, but this client was given model {newest} before"
            ),
            Self::Other(version) => write!(
                f,
                "the server offers another model {version} than it did before"
            ),
            Self::Unsigned(version) => write!(
                f,
                "model {version} is an older model again, and the federation's authority has not signed that"
            ),
        }
    }
}

impl Lineage {
    /// The newest version that the client was given.
    #[must_use]
    pub fn newest_version(&self) -> Option<ModelVersion> {
        self.newest.map(|seen| seen.version)
    }

    /// Goes on to a base; where it may not, nothing changes.
    ///
    /// # Errors
    /// When the base is a step backwards that is not signed.
    pub fn follow(
        &mut self,
        base: &ModelRef,
        step_back: Option<&StepBack>,
    ) -> Result<(), Backwards> {
        let seen = Seen {
            version: base.version,
            digest: base.digest,
        };
        if let Some(newest) = self.newest {
            if seen.version < newest.version {
                return Err(Backwards::Older {
                    offered: seen.version,
                    newest: newest.version,
                });
            }
            if seen.version == newest.version && seen.digest != newest.digest {
                return Err(Backwards::Other(seen.version));
            }
            // A merge may change nothing: then the next version has the content of this one.
            let was_before = seen.digest != newest.digest && self.earlier.contains(&seen.digest);
            if was_before && step_back.is_none() {
                return Err(Backwards::Unsigned(seen.version));
            }
            self.leave(newest.digest, seen.digest);
        }
        self.newest = Some(seen);
        Ok(())
    }

    fn leave(&mut self, left: Digest, next: Digest) {
        if left == next {
            return;
        }
        self.earlier.retain(|digest| *digest != left);
        self.earlier.push_back(left);
        if self.earlier.len() > REMEMBERED {
            self.earlier.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(version: u64, content: &str) -> ModelRef {
        ModelRef {
            version: ModelVersion::new(version),
            digest: Digest::of(content.as_bytes()),
            size_bytes: 1,
        }
    }

    fn step_back(of: u64) -> StepBack {
        StepBack {
            of: ModelVersion::new(of),
            reason: "as it was".to_owned(),
        }
    }

    #[test]
    fn bases_are_followed_as_they_come_and_again() {
        let mut lineage = Lineage::default();
        for (version, content) in [(3, "a"), (3, "a"), (4, "b"), (9, "c"), (10, "c")] {
            assert_eq!(lineage.follow(&model(version, content), None), Ok(()));
        }
    }

    #[test]
    fn an_older_version_is_refused_signed_or_not() {
        let mut lineage = Lineage::default();
        assert_eq!(lineage.follow(&model(3, "a"), None), Ok(()));
        assert_eq!(lineage.follow(&model(4, "b"), None), Ok(()));
        let before = lineage.clone();
        let refused = Err(Backwards::Older {
            offered: ModelVersion::new(3),
            newest: ModelVersion::new(4),
        });
        assert_eq!(lineage.follow(&model(3, "a"), None), refused);
        let signed = lineage.follow(&model(3, "a"), Some(&step_back(1)));
        assert_eq!(signed, refused);
        assert_eq!(lineage, before);
    }

    #[test]
    fn another_model_under_a_known_version_is_refused() {
        let mut lineage = Lineage::default();
        assert_eq!(lineage.follow(&model(3, "a"), None), Ok(()));
        let refused = Err(Backwards::Other(ModelVersion::new(3)));
        assert_eq!(lineage.follow(&model(3, "b"), None), refused);
    }

    #[test]
    fn an_older_model_under_a_new_version_needs_a_signature() {
        let mut lineage = Lineage::default();
        for (version, content) in [(0, "a"), (1, "b"), (2, "c")] {
            assert_eq!(lineage.follow(&model(version, content), None), Ok(()));
        }
        let refused = Err(Backwards::Unsigned(ModelVersion::new(3)));
        assert_eq!(lineage.follow(&model(3, "a"), None), refused);
        let signed = lineage.follow(&model(3, "a"), Some(&step_back(0)));
        assert_eq!(signed, Ok(()));
        assert_eq!(lineage.follow(&model(3, "a"), None), Ok(()), "known now");
        let refused = Err(Backwards::Unsigned(ModelVersion::new(4)));
        assert_eq!(lineage.follow(&model(4, "c"), None), refused);
    }

    #[test]
    fn a_bounded_number_of_bases_is_remembered() {
        let mut lineage = Lineage::default();
        for version in 0..=REMEMBERED as u64 + 9 {
            let model = model(version, &version.to_string());
            assert_eq!(lineage.follow(&model, None), Ok(()));
        }
        assert_eq!(lineage.earlier.len(), REMEMBERED);
    }

    #[test]
    fn each_refusal_says_what_the_server_did() {
        let version = ModelVersion::new(3);
        let newest = ModelVersion::new(4);
        let offered = version;
        for (refusal, words) in [
            (Backwards::Older { offered, newest }, "goes back to model 3"),
            (Backwards::Other(version), "another model 3"),
            (Backwards::Unsigned(version), "has not signed"),
        ] {
            assert!(refusal.to_string().contains(words), "{refusal}");
        }
    }
}
