//! An endorsement: at this moment, this model is the federation's base.
//!
//! The federation's authority signs it anew again and again, so that nobody who holds less than its key can keep a client at an old
//! base (TUF calls that a freeze attack), not even with the server's own key for TLS. The signature is ECDSA over P-256 with SHA-256
//! (ASN.1 DER) of [`statement`].

use crate::authority::{has_signed, is_successor};
use crate::identity::public_key_sha256;
use crate::ids::FederationName;
use crate::units::{Millis, Timestamp};
use crate::update::ModelRef;

/// An endorsement that is further away from a client's clock than this is not believed: as far as clocks may differ where certificates
/// are, which are valid from an hour before they are made.
pub const FRESH: Millis = Millis::from_secs(3600);

/// That a model is the base, as the authority signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endorsement {
    /// When.
    pub at: Timestamp,
    /// The authority's signature, DER.
    pub signature: Vec<u8>,
    /// While the authority is new: the certificate of its key by the one before it, DER.
    pub successor: Option<Vec<u8>>,
}

/// An endorsement that is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyEndorsementError {
    /// There is none.
    #[error("the federation's authority has not signed that it is the base")]
    Missing,
    /// The authority's certificate cannot be read.
    #[error("the authority's certificate cannot be read")]
    Authority,
    /// The signature is another's, or of other words.
    #[error(
        "the federation's authority has not signed that it is the base: the signature is not its own"
    )]
    Signature,
    /// It is too old, or of a moment to come.
    #[error(
        "the federation's authority signed at {at} that it is the base, and this machine's clock says {now}: the limit is {FRESH}"
    )]
    Stale {
        /// When it was signed.
        at: Timestamp,
        /// The client's time.
        now: Timestamp,
    },
}

/// The words that the authority signs: one line each for the federation, the model, and the moment in milliseconds since the Unix epoch.
#[must_use]
pub fn statement(federation: &FederationName, model: &ModelRef, at: Timestamp) -> Vec<u8> {
    let (model, at) = (model.signed_line(), at.get());
    format!("fedmerge endorsement 1\nfederation {federation}\n{model}\nat {at}\n").into_bytes()
}

impl Endorsement {
    /// Whether the authority, or the one after it, said not long ago that `model` is the base.
    ///
    /// # Errors
    /// When it did not.
    pub fn verify(
        &self,
        authority: &[u8],
        federation: &FederationName,
        model: &ModelRef,
        now: Timestamp,
    ) -> Result<(), VerifyEndorsementError> {
        public_key_sha256(authority).map_err(|_| VerifyEndorsementError::Authority)?;
        let words = statement(federation, model, self.at);
        let successor = self.successor.as_deref();
        let successor = successor.filter(|new| is_successor(new, authority, now));
        let is_signed = |by: &[u8]| has_signed(by, &words, &self.signature).unwrap_or(false);
        if !is_signed(authority) && !successor.is_some_and(is_signed) {
            return Err(VerifyEndorsementError::Signature);
        }
        if now.distance(self.at) > FRESH {
            return Err(VerifyEndorsementError::Stale { at: self.at, now });
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256,
        SigningKey,
    };

    use super::*;
    use crate::authority::AuthorityClaim;
    use crate::clock::Clock;
    use crate::digest::Digest;
    use crate::ids::ModelVersion;

    struct Authority {
        issuer: Issuer<'static, KeyPair>,
        certificate: Vec<u8>,
    }

    fn new_key() -> KeyPair {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
    }

    fn params(is_ca: IsCa) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.is_ca = is_ca;
        params
    }

    fn authority() -> Authority {
        let params = params(IsCa::Ca(BasicConstraints::Unconstrained));
        let key = new_key();
        let certificate = params.self_signed(&key).unwrap().der().to_vec();
        Authority {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    impl Authority {
        fn certify(&self, key: &KeyPair, is_ca: IsCa) -> Vec<u8> {
            let certificate = params(is_ca).signed_by(key, &self.issuer).unwrap();
            certificate.der().to_vec()
        }

        fn endorse(&self, at: Timestamp) -> Endorsement {
            endorse_by(self.issuer.key(), at)
        }
    }

    fn endorse_by(key: &KeyPair, at: Timestamp) -> Endorsement {
        Endorsement {
            at,
            signature: key.sign(&statement(&federation(), &model(), at)).unwrap(),
            successor: None,
        }
    }

    fn federation() -> FederationName {
        "digits".parse().unwrap()
    }

    fn model() -> ModelRef {
        ModelRef {
            version: ModelVersion::new(6),
            digest: Digest::of(b"model 6"),
            size_bytes: 7,
        }
    }

    fn now() -> Timestamp {
        Clock::system().now()
    }

    #[test]
    fn what_the_authority_signed_not_long_ago_is_believed_and_nothing_else() {
        let (ours, now) = (authority(), now());
        let endorsement = ours.endorse(now);
        let verify = |endorsement: &Endorsement, model, now| {
            endorsement.verify(&ours.certificate, &federation(), &model, now)
        };
        assert_eq!(verify(&endorsement, model(), now), Ok(()));
        for moment in [now + FRESH, now - FRESH] {
            assert_eq!(verify(&endorsement, model(), moment), Ok(()));
        }
        for moment in [now + FRESH + Millis::new(1), now - FRESH - Millis::new(1)] {
            let stale = VerifyEndorsementError::Stale {
                at: now,
                now: moment,
            };
            assert_eq!(verify(&endorsement, model(), moment), Err(stale));
        }

        let refused = Err(VerifyEndorsementError::Signature);
        let older = ModelRef {
            version: ModelVersion::new(5),
            ..model()
        };
        assert_eq!(verify(&endorsement, older, now), refused);
        let another = "letters".parse().unwrap();
        let verified = endorsement.verify(&ours.certificate, &another, &model(), now);
        assert_eq!(verified, refused);
        assert_eq!(verify(&authority().endorse(now), model(), now), refused);
        let dated_anew = Endorsement {
            at: now + Millis::new(1),
            ..endorsement
        };
        assert_eq!(verify(&dated_anew, model(), now), refused);
        let verified = dated_anew.verify(b"", &federation(), &model(), now);
        assert_eq!(verified, Err(VerifyEndorsementError::Authority));
    }

    #[test]
    fn a_server_names_no_other_authority_than_the_known_one_and_the_next() {
        let (old, now, key) = (authority(), now(), new_key());
        let pin = public_key_sha256(&old.certificate).unwrap();
        let is_ca = || IsCa::Ca(BasicConstraints::Unconstrained);
        let new = params(is_ca()).self_signed(&key).unwrap().der().to_vec();
        let (successor, foreign) = (old.certify(&key, is_ca()), authority());
        let follows = |authority: &[u8], change: Option<(&[u8], &[u8])>, now| {
            AuthorityClaim { authority, change }.follows(pin, now)
        };
        assert!(follows(&old.certificate, None, now));
        let change = (&old.certificate[..], &successor[..]);
        assert!(follows(&new, Some(change), now));
        assert!(!follows(&new, None, now));
        assert!(!follows(&new, Some(change), Timestamp::new(0)), "not yet");
        assert!(!follows(&foreign.certificate, Some(change), now));
        let by_another = foreign.certify(&key, is_ca());
        assert!(!follows(
            &new,
            Some((&foreign.certificate, &by_another)),
            now
        ));
        assert!(!follows(&new, Some((&old.certificate, &by_another)), now));
        let client = old.certify(&key, IsCa::ExplicitNoCa);
        assert!(!follows(&new, Some((&old.certificate, &client)), now));
        // The right key in a certificate that says something else of it.
        assert!(!follows(&successor, Some(change), now));
        assert!(!follows(b"", Some(change), now));
    }

    #[test]
    fn the_next_authority_is_believed_by_the_word_of_the_one_before_and_a_client_is_not() {
        let (old, now, key) = (authority(), now(), new_key());
        let verify = |successor: Option<Vec<u8>>, now| {
            let endorsement = Endorsement {
                successor,
                ..endorse_by(&key, now)
            };
            endorsement.verify(&old.certificate, &federation(), &model(), now)
        };
        let is_ca = || IsCa::Ca(BasicConstraints::Constrained(0));
        let refused = Err(VerifyEndorsementError::Signature);
        let successor = old.certify(&key, is_ca());
        assert_eq!(verify(Some(successor.clone()), now), Ok(()));
        assert_eq!(verify(None, now), refused);
        let client = old.certify(&key, IsCa::ExplicitNoCa);
        assert_eq!(verify(Some(client), now), refused);
        let foreign = authority().certify(&key, is_ca());
        assert_eq!(verify(Some(foreign), now), refused);
        let before_its_life = Timestamp::new(0);
        assert_eq!(verify(Some(successor), before_its_life), refused);
    }
}
