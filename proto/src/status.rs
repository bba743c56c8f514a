//! Why a call is refused: the one table of reason, gRPC code and whether trying again can help.
//!
//! A refusal travels as a gRPC status whose metadata names the reason; the message is for people.
//! Rejected updates and declined invitations are answers, not refusals: they have their own messages.

use std::fmt;

use fedmerge_common::units::Millis;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use crate::convert::InvalidMessage;

/// Metadata key that names the reason.
pub const REASON_KEY: &str = "fedmerge-reason";

/// Metadata key of the time after which the call is worth another try, milliseconds.
pub const RETRY_AFTER_KEY: &str = "fedmerge-retry-after-ms";

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident, $name:literal, $code:ident, $retry:ident;)*) => {
        /// Why a call is refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum RefusalReason { $($(#[$doc])* $variant),* }

        impl RefusalReason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name that travels as [`REASON_KEY`].
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// The gRPC code that goes with it.
            #[must_use]
            pub const fn code(self) -> Code {
                match self { $(Self::$variant => Code::$code),* }
            }

            /// Whether the same call can succeed later without anybody doing anything.
            #[must_use]
            pub const fn is_retryable(self) -> bool {
                match self { $(Self::$variant => reasons!(@$retry)),* }
            }
        }
    };
    (@retry) => { true };
    (@give_up) => { false };
}

reasons! {
    /// There is no such token, or its secret is wrong.
    TokenUnknown, "token-unknown", PermissionDenied, give_up;
    /// The token was used as often as it may.
    TokenUsedUp, "token-used-up", PermissionDenied, give_up;
    /// The token's life is over.
    TokenExpired, "token-expired", PermissionDenied, give_up;
    /// The token was revoked.
    TokenRevoked, "token-revoked", PermissionDenied, give_up;
    /// Another machine enrolled under the name.
    NameTaken, "name-taken", AlreadyExists, give_up;
    /// The clocks of client and server are too far apart.
    ClockSkew, "clock-skew", FailedPrecondition, give_up;
    /// The message cannot be understood.
    InvalidRequest, "invalid-request", InvalidArgument, give_up;
    /// The call needs a certificate and came without.
    NotAuthenticated, "not-authenticated", Unauthenticated, give_up;
    /// The certificate does not allow the call.
    NotPermitted, "not-permitted", PermissionDenied, give_up;
    /// Another process attends under the same identity.
    IdentityInUse, "identity-in-use", AlreadyExists, give_up;
    /// The certificate is the authority's, but the client is not enrolled (any more).
    ClientUnknown, "client-unknown", PermissionDenied, give_up;
    /// A person has yet to approve the client.
    ApprovalPending, "approval-pending", FailedPrecondition, retry;
    /// A person has evicted the client.
    ClientEvicted, "client-evicted", PermissionDenied, give_up;
    /// Two machines have shown the client's identity; a person has to look.
    ClientLocked, "client-locked", PermissionDenied, give_up;
    /// The client's updates were rejected in too many rounds in a row; a person has to look.
    ClientQuarantined, "client-quarantined", PermissionDenied, give_up;
    /// The client's certificate ended too long ago to be renewed.
    CertificateExpired, "certificate-expired", PermissionDenied, give_up;
    /// The plan is for clients with other labels.
    NotSelected, "not-selected", PermissionDenied, give_up;
    /// There is no such model.
    ModelUnknown, "model-unknown", NotFound, give_up;
    /// There is no such upload: it has to begin again.
    UploadUnknown, "upload-unknown", NotFound, give_up;
    /// The chunk does not continue where the server stands.
    WrongOffset, "wrong-offset", OutOfRange, give_up;
    /// The chunk's bytes are not those of its digest.
    ChunkCorrupt, "chunk-corrupt", DataLoss, retry;
    /// More bytes than allowed.
    TooLarge, "too-large", ResourceExhausted, give_up;
    /// The server's disk is full.
    StorageFull, "storage-full", ResourceExhausted, retry;
    /// The server has too much to do.
    Busy, "busy", Unavailable, retry;
    /// The server is about to stop.
    ShuttingDown, "shutting-down", Unavailable, retry;
    /// The federation cannot do that as it stands.
    NotNow, "not-now", FailedPrecondition, give_up;
    /// A defect of the server.
    Internal, "internal", Internal, give_up;
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// A refused call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Refusal {
    /// The reason for programs.
    pub reason: RefusalReason,
    /// The reason for people.
    pub detail: String,
    /// When to come back, where the server can tell: not before that, and not all at once.
    pub retry_after: Option<Millis>,
}

impl Refusal {
    /// Refuses a call.
    #[must_use]
    pub fn new(reason: RefusalReason, detail: impl fmt::Display) -> Self {
        Self {
            reason,
            detail: detail.to_string(),
            retry_after: None,
        }
    }

    /// Says when to come back.
    #[must_use]
    pub fn with_retry_after(self, retry_after: Millis) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..self
        }
    }

    /// The refusal that a status carries; nothing when the status is not one of ours.
    #[must_use]
    pub fn from_status(status: &Status) -> Option<Self> {
        let name = status.metadata().get(REASON_KEY)?.to_str().ok()?;
        let reason = RefusalReason::ALL
            .iter()
            .find(|reason| reason.name() == name)?;
        let retry_after = status.metadata().get(RETRY_AFTER_KEY);
        let retry_after = retry_after.and_then(|text| text.to_str().ok()?.parse().ok());
        Some(Self {
            retry_after: retry_after.map(Millis::new),
            ..Self::new(*reason, status.message())
        })
    }

    /// Whether the same call can succeed later without anybody doing anything.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        self.reason.is_retryable()
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let mut status = Self::new(refusal.reason.code(), refusal.detail);
        let name = MetadataValue::from_static(refusal.reason.name());
        status.metadata_mut().insert(REASON_KEY, name);
        if let Some(retry_after) = refusal.retry_after {
            let milliseconds = MetadataValue::from(retry_after.get());
            status.metadata_mut().insert(RETRY_AFTER_KEY, milliseconds);
        }
        status
    }
}

impl From<InvalidMessage> for Refusal {
    fn from(invalid: InvalidMessage) -> Self {
        Self::new(RefusalReason::InvalidRequest, invalid)
    }
}

impl From<InvalidMessage> for Status {
    fn from(invalid: InvalidMessage) -> Self {
        Refusal::from(invalid).into()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_survives_the_wire() {
        for &reason in RefusalReason::ALL {
            let status = Status::from(Refusal::new(reason, "because"));
            assert_eq!(status.code(), reason.code());
            let refusal = Refusal::from_status(&status).unwrap();
            assert_eq!(refusal, Refusal::new(reason, "because"));
            assert_eq!(refusal.to_string(), "because");
        }
    }

    #[test]
    fn when_to_come_back_survives_the_wire_and_nonsense_is_no_time() {
        let refusal = Refusal::new(RefusalReason::Busy, "because");
        let refusal = refusal.with_retry_after(Millis::from_secs(3));
        let mut status = Status::from(refusal.clone());
        assert_eq!(Refusal::from_status(&status), Some(refusal));
        for nonsense in ["", "soon", "-1", "1.5"] {
            let value = MetadataValue::from_static(nonsense);
            status.metadata_mut().insert(RETRY_AFTER_KEY, value);
            let refusal = Refusal::from_status(&status).unwrap();
            assert_eq!(refusal.retry_after, None, "{nonsense}");
        }
    }

    #[test]
    fn no_two_reasons_share_a_name() {
        let names: BTreeSet<_> = RefusalReason::ALL
            .iter()
            .map(|reason| reason.name())
            .collect();
        assert_eq!(names.len(), RefusalReason::ALL.len());
    }

    #[test]
    fn what_is_unavailable_can_be_tried_again_and_a_permission_cannot() {
        let hopeless = [
            Code::PermissionDenied,
            Code::InvalidArgument,
            Code::Unauthenticated,
        ];
        for reason in RefusalReason::ALL {
            assert!(
                reason.code() != Code::Unavailable || reason.is_retryable(),
                "{reason}"
            );
            assert!(
                !hopeless.contains(&reason.code()) || !reason.is_retryable(),
                "{reason}"
            );
        }
    }

    #[test]
    fn a_status_of_another_kind_is_no_refusal() {
        assert_eq!(Refusal::from_status(&Status::unavailable("gone")), None);
        let mut status = Status::internal("odd");
        status
            .metadata_mut()
            .insert(REASON_KEY, MetadataValue::from_static("from-the-future"));
        assert_eq!(Refusal::from_status(&status), None);
    }

    #[test]
    fn an_invalid_message_names_its_field_to_the_sender() {
        let status = Status::from(InvalidMessage::new("header.round", "is 0"));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "field `header.round` is 0");
    }
}
