//! Why a client does not take part, as people read it and as the wire says it.

use fedmerge_common::ids::ClientId;
use fedmerge_common::units::{Millis, Timestamp};
use fedmerge_proto::status::{Refusal, RefusalReason};

/// Why a client does not take part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberRefusal {
    /// Nobody of that name.
    #[error("client `{client}` is not enrolled in this federation")]
    Unknown {
        /// The name.
        client: ClientId,
    },
    /// The name is another machine's.
    #[error("client `{client}` is enrolled with another key")]
    OtherKey {
        /// The name.
        client: ClientId,
    },
    /// A person has yet to approve it.
    #[error(
        "client `{client}` waits for approval: an administrator has to run `fedmerge server clients approve {client}`"
    )]
    Waiting {
        /// The name.
        client: ClientId,
    },
    /// A key was shown that a newer one had replaced.
    #[error(
        "two machines have used the identity of client `{client}`, or one went back to an older copy: it is locked until an \
         administrator approves or evicts it"
    )]
    Locked {
        /// The name.
        client: ClientId,
    },
    /// Its updates were rejected again and again.
    #[error(
        "client `{client}` is in quarantine: its updates were rejected in {rejections} rounds in a row; an administrator approves or \
         evicts it"
    )]
    Quarantined {
        /// The name.
        client: ClientId,
        /// Rounds in a row.
        rejections: u32,
    },
    /// A person has evicted it.
    #[error("client `{client}` was evicted: {reason}")]
    Evicted {
        /// The name.
        client: ClientId,
        /// Why, as the person said.
        reason: String,
    },
    /// It was away for too long.
    #[error(
        "the certificate of client `{client}` ended at {ended}, and may be renewed for {absence} after that"
    )]
    Absent {
        /// The name.
        client: ClientId,
        /// When its certificate ended.
        ended: Timestamp,
        /// For how long it may be renewed then.
        absence: Millis,
    },
    /// A certificate of the federation's, or the wish for one, of a client that came with one of a site's own authority.
    #[error(
        "the certificates of client `{client}` are of another authority: that gives and renews them"
    )]
    OtherAuthority {
        /// The name.
        client: ClientId,
    },
    /// A renewal right after another.
    #[error("client `{client}` has had a new key a moment ago")]
    TooSoon {
        /// The name.
        client: ClientId,
        /// How long it is to wait.
        wait: Millis,
    },
    /// A renewal that is for no new key.
    #[error("the key was used before: a certificate for a new one is needed")]
    UsedKey,
}

impl From<MemberRefusal> for Refusal {
    fn from(refusal: MemberRefusal) -> Self {
        let reason = match &refusal {
            MemberRefusal::Unknown { .. } | MemberRefusal::OtherKey { .. } => {
                RefusalReason::ClientUnknown
            }
            MemberRefusal::Waiting { .. } => RefusalReason::ApprovalPending,
            MemberRefusal::Locked { .. } => RefusalReason::ClientLocked,
            MemberRefusal::Quarantined { .. } => RefusalReason::ClientQuarantined,
            MemberRefusal::Evicted { .. } => RefusalReason::ClientEvicted,
            MemberRefusal::Absent { .. } => RefusalReason::CertificateExpired,
            MemberRefusal::OtherAuthority { .. } => RefusalReason::NotPermitted,
            MemberRefusal::UsedKey => RefusalReason::InvalidRequest,
            MemberRefusal::TooSoon { wait, .. } => {
                let wait = *wait;
                return Self::new(RefusalReason::Busy, refusal).with_retry_after(wait);
            }
        };
        Self::new(reason, refusal)
    }
}
