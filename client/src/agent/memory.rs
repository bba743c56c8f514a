//! What of a task is finished: it outlives the process, so that nothing of it is done twice.
//!
//! A memory is of one round and one base, and worth something for these alone.

use fedmerge_common::digest::Digest;
use fedmerge_common::ids::RoundNumber;
use fedmerge_common::update::UpdateHeader;

use crate::task::Task;
use crate::trainer::Trained;

/// The last step of a task that is finished.
#[derive(Clone, Debug, PartialEq)]
pub enum Memory {
    /// The trainer ended well; its checkpoint is in the round's directory.
    Trained {
        /// The round.
        round: RoundNumber,
        /// Digest of the base that it started from.
        base: Digest,
        /// What it said.
        trained: Trained,
    },
    /// The update is in the round's directory. How much of it the server has, the server knows.
    Prepared(UpdateHeader),
}

impl Memory {
    /// The round.
    #[must_use]
    pub fn round(&self) -> RoundNumber {
        match self {
            Self::Trained { round, .. } => *round,
            Self::Prepared(header) => header.round,
        }
    }

    /// Digest of the base.
    #[must_use]
    pub fn base(&self) -> Digest {
        match self {
            Self::Trained { base, .. } => *base,
            Self::Prepared(header) => header.base,
        }
    }

    /// Whether it is of this task.
    pub(super) fn is_of(&self, task: &Task) -> bool {
        (self.round(), self.base()) == (task.round, task.base.digest)
    }
}
