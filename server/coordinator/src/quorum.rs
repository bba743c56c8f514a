//! Whether enough updates count, and what to say when they do not.

use fedmerge_common::reason::AbandonReason;

/// How the invitations of a round stand, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Updates that count.
    pub accepted: usize,
    /// Updates that were refused.
    pub rejected: usize,
    /// Invitations given back.
    pub declined: usize,
    /// Invitations that ended without an answer.
    pub silent: usize,
    /// Invitations still open.
    pub pending: usize,
}

impl Tally {
    /// Number of invitations.
    pub fn invited(&self) -> usize {
        self.accepted + self.rejected + self.declined + self.silent + self.pending
    }

    /// Whether a merge is allowed.
    pub fn reaches(&self, quorum: usize) -> bool {
        self.accepted >= quorum.max(1)
    }

    /// Whether a merge can still become allowed.
    pub fn can_reach(&self, quorum: usize) -> bool {
        self.accepted + self.pending >= quorum.max(1)
    }

    /// Why a round without quorum is abandoned.
    pub fn shortfall(&self, quorum: usize) -> AbandonReason {
        AbandonReason::QuorumNotReached {
            accepted: self.accepted,
            quorum,
            rejected: self.rejected,
            declined: self.declined,
            silent: self.silent,
        }
    }
}
