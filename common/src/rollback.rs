//! A rollback: an older model that is the base again, under a new version, because a person said so.
//!
//! The federation's authority signs it, so that a client can tell it from a server that lost its memory or lies about it. The
//! signature is ECDSA over P-256 with SHA-256 (ASN.1 DER) of [`statement`]. Invariant: what is signed says all that a client is told.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::authority::has_signed;
use crate::hex;
use crate::ids::{FederationName, ModelVersion};
use crate::update::ModelRef;

/// That a model is an older one again, with the authority's signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollback {
    /// The older version that has this content.
    pub of: ModelVersion,
    /// Why, as the person said who asked for it; one line.
    pub reason: String,
    /// The authority's signature, DER; in JSON as hexadecimal digits.
    #[serde(serialize_with = "to_hex", deserialize_with = "from_hex")]
    pub signature: Vec<u8>,
}

/// A rollback that the authority of the federation has not signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyRollbackError {
    /// The authority's certificate cannot be read.
    #[error("the authority's certificate cannot be read")]
    Authority,
    /// The signature is another's, or of other words.
    #[error("the federation's authority has not signed it")]
    Signature,
}

/// The words that the authority signs: one line each for the federation, the new model, the older version and the reason.
#[must_use]
pub fn statement(
    federation: &FederationName,
    model: &ModelRef,
    of: ModelVersion,
    reason: &str,
) -> Vec<u8> {
    let model = model.signed_line();
    format!("fedmerge rollback 1\nfederation {federation}\n{model}\nof {of}\nreason {reason}\n")
        .into_bytes()
}

impl Rollback {
    /// Whether the authority says that `model` is the older one again.
    ///
    /// # Errors
    /// When it does not.
    pub fn verify(
        &self,
        authority: &[u8],
        federation: &FederationName,
        model: &ModelRef,
    ) -> Result<(), VerifyRollbackError> {
        let words = statement(federation, model, self.of, &self.reason);
        match has_signed(authority, &words, &self.signature) {
            Ok(true) => Ok(()),
            Ok(false) => Err(VerifyRollbackError::Signature),
            Err(_) => Err(VerifyRollbackError::Authority),
        }
    }
}

fn to_hex<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex::encode(bytes))
}

fn from_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    hex::decode_all(&text).ok_or_else(|| serde::de::Error::custom("not hexadecimal digits"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, SigningKey};

    use super::*;
    use crate::digest::Digest;

    fn model() -> ModelRef {
        ModelRef {
            version: ModelVersion::new(6),
            digest: Digest::of(b"model 4"),
            size_bytes: 7,
        }
    }

    fn authority() -> (KeyPair, Vec<u8>) {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        (key, certificate.der().to_vec())
    }

    fn signed(key: &KeyPair, federation: &FederationName) -> Rollback {
        let of = ModelVersion::new(4);
        let reason = "as it was".to_owned();
        let words = statement(federation, &model(), of, &reason);
        Rollback {
            of,
            reason,
            signature: key.sign(&words).unwrap(),
        }
    }

    #[test]
    fn what_the_authority_signed_is_believed_and_nothing_else() {
        let federation: FederationName = "digits".parse().unwrap();
        let (key, certificate) = authority();
        let rollback = signed(&key, &federation);
        assert_eq!(rollback.verify(&certificate, &federation, &model()), Ok(()));

        let refused = Err(VerifyRollbackError::Signature);
        let other_federation = "letters".parse().unwrap();
        let verified = rollback.verify(&certificate, &other_federation, &model());
        assert_eq!(verified, refused);
        let other_model = ModelRef {
            version: ModelVersion::new(7),
            ..model()
        };
        let verified = rollback.verify(&certificate, &federation, &other_model);
        assert_eq!(verified, refused);
        let (_, another) = authority();
        assert_eq!(rollback.verify(&another, &federation, &model()), refused);
        for spoil in [
            |rollback: &mut Rollback| rollback.of = ModelVersion::new(3),
            |rollback: &mut Rollback| rollback.reason.push('!'),
            |rollback: &mut Rollback| rollback.signature.clear(),
        ] {
            let mut spoilt = rollback.clone();
            spoil(&mut spoilt);
            assert_eq!(spoilt.verify(&certificate, &federation, &model()), refused);
        }
        let no_certificate = rollback.verify(b"", &federation, &model());
        assert_eq!(no_certificate, Err(VerifyRollbackError::Authority));
    }

    #[test]
    fn a_rollback_survives_being_written_and_read() {
        let federation = "digits".parse().unwrap();
        let rollback = signed(&authority().0, &federation);
        let json = serde_json::to_string(&rollback).unwrap();
        assert_eq!(serde_json::from_str::<Rollback>(&json).unwrap(), rollback);
    }
}
