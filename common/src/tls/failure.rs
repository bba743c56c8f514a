//! Why the other end could not be trusted, found in whatever error a transport wraps it in.

use std::error::Error as StdError;
use std::io;

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error, OtherError};

use crate::hex;
use crate::units::Timestamp;

/// Longest chain of causes that is followed.
const MAX_CAUSES: usize = 32;

/// TLS's alerts about the certificate of the one who receives them.
const CERTIFICATE_ALERTS: [(AlertDescription, &str); 9] = [
    (AlertDescription::BadCertificate, "bad certificate"),
    (
        AlertDescription::UnsupportedCertificate,
        "unsupported certificate",
    ),
    (AlertDescription::CertificateRevoked, "certificate revoked"),
    (AlertDescription::CertificateExpired, "certificate expired"),
    (AlertDescription::CertificateUnknown, "certificate unknown"),
    (AlertDescription::UnknownCA, "unknown certificate authority"),
    (AlertDescription::AccessDenied, "access denied"),
    (
        AlertDescription::CertificateRequired,
        "certificate required",
    ),
    // Of a certificate whose authority has the name of one that is trusted, and another key.
    (AlertDescription::DecryptError, "a signature is wrong"),
];

/// Why a handshake failed, as far as a person can do something about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsFailure {
    /// The server belongs to another federation than the join string, or somebody is in between.
    #[error(
        "the server's certificate authority is not the one that was pinned: expected {}, found {}",
        hex::encode(expected),
        found.map_or("none".to_owned(), |found| hex::encode(&found))
    )]
    AuthorityMismatch {
        /// The pinned SHA-256 of the authority's public key.
        expected: [u8; 32],
        /// That of the last certificate that the server sent after its own.
        found: Option<[u8; 32]>,
    },
    /// The peer's certificate begins to be valid later: one of the clocks is wrong.
    #[error(
        "the peer's certificate is not valid before {not_before}, but this machine's clock says {now}"
    )]
    NotValidYet {
        /// This machine's time.
        now: Timestamp,
        /// When the certificate begins to be valid.
        not_before: Timestamp,
    },
    /// The peer's certificate is not valid any more, or one of the clocks is wrong.
    #[error("the peer's certificate expired at {not_after}, and this machine's clock says {now}")]
    Expired {
        /// This machine's time.
        now: Timestamp,
        /// When the certificate stopped being valid.
        not_after: Timestamp,
    },
    /// The peer's certificate is not the authority's.
    #[error("the peer's certificate was not signed by this federation's certificate authority")]
    UnknownAuthority,
    /// The peer's certificate is valid, but not that of a server of ours.
    #[error("the peer's certificate is not that of a fedmerge server")]
    WrongName,
    /// The peer refused this end's certificate.
    #[error("the peer refused this machine's certificate: {alert}")]
    OwnCertificateRefused {
        /// TLS's word for the reason.
        alert: &'static str,
    },
    /// The other end speaks something else than TLS 1.3.
    #[error("the other end does not speak TLS 1.3")]
    NotTls,
}

/// Finds a [`TlsFailure`] in an error or its causes. It looks into `io::Error`, which hides what it wraps
/// from [`StdError::source`].
#[must_use]
pub fn failure_of(error: &(dyn StdError + 'static)) -> Option<TlsFailure> {
    let mut next = Some(error);
    for _ in 0..MAX_CAUSES {
        let error = next?;
        if let Some(failure) = error.downcast_ref::<TlsFailure>() {
            return Some(failure.clone());
        }
        if let Some(failure) = error.downcast_ref::<Error>().and_then(classify) {
            return Some(failure);
        }
        let wrapped = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

fn classify(error: &Error) -> Option<TlsFailure> {
    if let Error::InvalidCertificate(problem) = error {
        return classify_certificate(problem);
    }
    if let Error::AlertReceived(alert) = error {
        return classify_alert(*alert);
    }
    if let Error::Other(OtherError(inner)) = error {
        return failure_of(inner.as_ref());
    }
    matches!(error, Error::InvalidMessage(_) | Error::PeerIncompatible(_))
        .then_some(TlsFailure::NotTls)
}

fn classify_certificate(problem: &CertificateError) -> Option<TlsFailure> {
    if let CertificateError::Other(OtherError(inner)) = problem {
        return failure_of(inner.as_ref());
    }
    if let CertificateError::NotValidYetContext { time, not_before } = problem {
        return Some(TlsFailure::NotValidYet {
            now: timestamp(*time),
            not_before: timestamp(*not_before),
        });
    }
    if let CertificateError::ExpiredContext { time, not_after } = problem {
        return Some(TlsFailure::Expired {
            now: timestamp(*time),
            not_after: timestamp(*not_after),
        });
    }
    if matches!(
        problem,
        CertificateError::UnknownIssuer | CertificateError::BadSignature
    ) {
        return Some(TlsFailure::UnknownAuthority);
    }
    let is_name = matches!(
        problem,
        CertificateError::NotValidForName
            | CertificateError::NotValidForNameContext { .. }
            | CertificateError::InvalidPurpose
            | CertificateError::InvalidPurposeContext { .. }
    );
    is_name.then_some(TlsFailure::WrongName)
}

fn classify_alert(found: AlertDescription) -> Option<TlsFailure> {
    if found == AlertDescription::ProtocolVersion {
        return Some(TlsFailure::NotTls);
    }
    let (_, alert) = CERTIFICATE_ALERTS
        .into_iter()
        .find(|(alert, _)| *alert == found)?;
    Some(TlsFailure::OwnCertificateRefused { alert })
}

fn timestamp(time: UnixTime) -> Timestamp {
    Timestamp::new(time.as_secs().saturating_mul(1000))
}
