//! `enrolment.proto`: what a machine shows to become a client.

use bytes::Bytes;
use fedmerge_common::ids::{ClientId, TokenId};
use fedmerge_common::join::Secret;
use fedmerge_common::renewal::RenewalProof;
use fedmerge_common::units::Timestamp;

use crate::convert::{InvalidMessage, parsed};
use crate::v1;

/// Largest certificate signing request that is read, bytes.
pub const MAX_CERTIFICATE_REQUEST_BYTES: usize = 16 * 1024;

/// Largest public key and largest signature that are read, bytes.
const MAX_PROOF_BYTES: usize = 1024;

fn sized(field: &'static str, bytes: &[u8], most: usize) -> Result<(), InvalidMessage> {
    if (1..=most).contains(&bytes.len()) {
        return Ok(());
    }
    let problem = format!("has {} bytes, expected 1 to {most}", bytes.len());
    Err(InvalidMessage::new(field, problem))
}

/// A client's wish for its next certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewalRequest {
    /// The client.
    pub client: ClientId,
    /// PKCS #10 certificate signing request of the new key, DER; not yet parsed.
    pub certificate_request: Bytes,
    /// The client's clock.
    pub client_time: Timestamp,
    /// What the key of its certificate has signed; not yet verified.
    pub proof: RenewalProof,
}

impl TryFrom<v1::RenewRequest> for RenewalRequest {
    type Error = InvalidMessage;

    fn try_from(message: v1::RenewRequest) -> Result<Self, Self::Error> {
        sized(
            "certificate_request",
            &message.certificate_request,
            MAX_CERTIFICATE_REQUEST_BYTES,
        )?;
        sized("key", &message.key, MAX_PROOF_BYTES)?;
        sized("signature", &message.signature, MAX_PROOF_BYTES)?;
        Ok(Self {
            client: parsed("client_id", &message.client_id)?,
            certificate_request: message.certificate_request,
            client_time: Timestamp::new(message.client_time_ms),
            proof: RenewalProof {
                key: message.key.into(),
                signature: message.signature.into(),
            },
        })
    }
}

impl From<RenewalRequest> for v1::RenewRequest {
    fn from(request: RenewalRequest) -> Self {
        Self {
            client_id: request.client.to_string(),
            certificate_request: request.certificate_request,
            client_time_ms: request.client_time.get(),
            key: request.proof.key.into(),
            signature: request.proof.signature.into(),
        }
    }
}

/// A machine's wish to become a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolmentRequest {
    /// Public part of the token.
    pub token: TokenId,
    /// Secret part of the token.
    pub secret: Secret,
    /// The name the client wants.
    pub client: ClientId,
    /// PKCS #10 certificate signing request, DER; not yet parsed.
    pub certificate_request: Bytes,
    /// The client's clock.
    pub client_time: Timestamp,
    /// The client's software version.
    pub software_version: String,
}

impl TryFrom<v1::EnrolRequest> for EnrolmentRequest {
    type Error = InvalidMessage;

    fn try_from(message: v1::EnrolRequest) -> Result<Self, Self::Error> {
        sized(
            "certificate_request",
            &message.certificate_request,
            MAX_CERTIFICATE_REQUEST_BYTES,
        )?;
        Ok(Self {
            token: parsed("token_id", &message.token_id)?,
            secret: Secret::new(message.token_secret),
            client: parsed("client_id", &message.client_id)?,
            certificate_request: message.certificate_request,
            client_time: Timestamp::new(message.client_time_ms),
            software_version: message.software_version,
        })
    }
}

impl From<EnrolmentRequest> for v1::EnrolRequest {
    fn from(request: EnrolmentRequest) -> Self {
        Self {
            token_id: request.token.to_string(),
            token_secret: request.secret.expose().to_owned(),
            client_id: request.client.to_string(),
            certificate_request: request.certificate_request,
            client_time_ms: request.client_time.get(),
            software_version: request.software_version,
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use super::*;
    use crate::convert::Spoiler;

    fn request() -> EnrolmentRequest {
        EnrolmentRequest {
            token: "t".parse().unwrap(),
            secret: Secret::new("s"),
            client: "ward-3".parse().unwrap(),
            certificate_request: Bytes::from_static(b"der"),
            client_time: Timestamp::new(5),
            software_version: "0.1.0".into(),
        }
    }

    #[test]
    fn an_enrolment_request_round_trips() {
        assert_eq!(
            EnrolmentRequest::try_from(v1::EnrolRequest::from(request())).unwrap(),
            request()
        );
    }

    fn renewal() -> RenewalRequest {
        RenewalRequest {
            client: "ward-3".parse().unwrap(),
            certificate_request: Bytes::from_static(b"der"),
            client_time: Timestamp::new(5),
            proof: RenewalProof {
                key: b"key".to_vec(),
                signature: b"signature".to_vec(),
            },
        }
    }

    #[test]
    fn a_renewal_round_trips_and_every_wrong_field_is_named() {
        let message = v1::RenewRequest::from(renewal());
        assert_eq!(RenewalRequest::try_from(message).unwrap(), renewal());
        let cases: [Spoiler<v1::RenewRequest>; 5] = [
            ("client_id", |message| message.client_id.clear()),
            ("certificate_request", |message| {
                message.certificate_request = Bytes::new();
            }),
            ("key", |message| message.key = Bytes::new()),
            ("signature", |message| message.signature = Bytes::new()),
            ("signature", |message| {
                message.signature = vec![0; MAX_PROOF_BYTES + 1].into();
            }),
        ];
        for (field, spoil) in cases {
            let mut message = v1::RenewRequest::from(renewal());
            spoil(&mut message);
            assert_eq!(RenewalRequest::try_from(message).unwrap_err().field, field);
        }
    }

    #[test]
    fn every_wrong_field_of_an_enrolment_request_is_named() {
        let cases: [Spoiler<v1::EnrolRequest>; 4] = [
            ("token_id", |message| message.token_id.clear()),
            ("client_id", |message| message.client_id = "a/b".into()),
            ("certificate_request", |message| {
                message.certificate_request = Bytes::new();
            }),
            ("certificate_request", |message| {
                message.certificate_request = vec![0; MAX_CERTIFICATE_REQUEST_BYTES + 1].into();
            }),
        ];
        for (field, spoil) in cases {
            let mut message = v1::EnrolRequest::from(request());
            spoil(&mut message);
            assert_eq!(
                EnrolmentRequest::try_from(message).unwrap_err().field,
                field
            );
        }
    }
}
