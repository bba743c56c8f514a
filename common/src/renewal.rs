//! A renewal: an enrolled client's wish for its next certificate, for a key that it has made anew.
//!
//! The key of the certificate that it has signs the wish, not the connection that carries it, so that a client whose certificate
//! ended while it was away can come back. Whoever repeats another's wish gains nothing: the certificate that comes of it is for a
//! key that only the client holds. The signature is ECDSA over P-256 with SHA-256 (ASN.1 DER) of [`statement`].

use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::hex;
use crate::identity::sha256;
use crate::ids::{ClientId, FederationName};
use crate::units::Timestamp;

/// That the holder of a key wants a renewal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewalProof {
    /// The public key of the certificate that the client has, subject public key info, DER.
    pub key: Vec<u8>,
    /// Its signature of the wish, DER.
    pub signature: Vec<u8>,
}

/// A wish that the key has not signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyRenewalError {
    /// The key is no public key over P-256.
    #[error("the key is not an ECDSA key over P-256")]
    Key,
    /// The signature is another key's, or of another wish.
    #[error("the key has not signed this renewal")]
    Signature,
}

/// The words that a client signs: one line each for the federation, the client, its time and the request (PKCS #10, DER).
#[must_use]
pub fn statement(
    federation: &FederationName,
    client: &ClientId,
    time: Timestamp,
    request: &[u8],
) -> Vec<u8> {
    let request = hex::encode(&sha256(request));
    let time = time.get();
    format!("fedmerge renewal 1\nfederation {federation}\nclient {client}\ntime {time}\nrequest sha256:{request}\n")
        .into_bytes()
}

impl RenewalProof {
    /// SHA-256 of the key, as the ledger knows it.
    #[must_use]
    pub fn key_sha256(&self) -> [u8; 32] {
        sha256(&self.key)
    }

    /// Whether the key has signed `words`, which [`statement`] made.
    ///
    /// # Errors
    /// When it has not, or is no key.
    pub fn verify(&self, words: &[u8]) -> Result<(), VerifyRenewalError> {
        let Ok(([], key)) = SubjectPublicKeyInfo::from_der(&self.key) else {
            return Err(VerifyRenewalError::Key);
        };
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &key.subject_public_key.data)
            .verify(words, &self.signature)
            .map_err(|_| VerifyRenewalError::Signature)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SigningKey};

    use super::*;

    fn words(client: &str, time: u64, request: &[u8]) -> Vec<u8> {
        let federation = "digits".parse().unwrap();
        statement(
            &federation,
            &client.parse().unwrap(),
            Timestamp::new(time),
            request,
        )
    }

    #[test]
    fn a_renewal_is_its_keys_and_of_its_words_alone() {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let signed = words("ward-3", 5, b"request");
        let proof = RenewalProof {
            key: key.subject_public_key_info(),
            signature: key.sign(&signed).unwrap(),
        };
        assert_eq!(proof.verify(&signed), Ok(()));
        for other in [
            words("ward-4", 5, b"request"),
            words("ward-3", 6, b"request"),
            words("ward-3", 5, b"another"),
        ] {
            assert_eq!(proof.verify(&other), Err(VerifyRenewalError::Signature));
        }
        let stranger = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let claimed = RenewalProof {
            key: stranger.subject_public_key_info(),
            ..proof.clone()
        };
        assert_eq!(claimed.verify(&signed), Err(VerifyRenewalError::Signature));
        for key in [
            Vec::new(),
            b"no key".to_vec(),
            [&proof.key[..], &[0]].concat(),
        ] {
            let broken = RenewalProof {
                key,
                ..proof.clone()
            };
            assert_eq!(broken.verify(&signed), Err(VerifyRenewalError::Key));
        }
    }
}
