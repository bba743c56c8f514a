//! What a federation's authority has signed: certificates, words, and the certificate of the authority after it.
//!
//! Every authority of a federation has an ECDSA key over P-256 and signs with SHA-256 (ASN.1 DER). After a rotation the old one's
//! certificate of the new one's key (RFC 4210 §4.4, "new with old") leads whoever knows the old one to the new.

use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use x509_parser::prelude::X509Certificate;

use crate::identity::{ReadCertificateError, life_of, parse_certificate, public_key_sha256};
use crate::units::Timestamp;

/// Whether an authority signed a certificate, both DER.
#[must_use]
pub fn is_signed_by(certificate: &[u8], authority: &[u8]) -> bool {
    let (Ok(certificate), Ok(authority)) =
        (parse_certificate(certificate), parse_certificate(authority))
    else {
        return false;
    };
    let (words, signature) = (
        certificate.tbs_certificate.as_ref(),
        &certificate.signature_value.data,
    );
    is_signature(&authority, words, signature)
}

/// Whether an authority, given by its certificate in DER, signed these words.
///
/// # Errors
/// When the certificate cannot be read.
pub fn has_signed(
    authority: &[u8],
    words: &[u8],
    signature: &[u8],
) -> Result<bool, ReadCertificateError> {
    Ok(is_signature(
        &parse_certificate(authority)?,
        words,
        signature,
    ))
}

/// Whether a certificate is that of an authority, by its own word; DER.
#[must_use]
pub fn is_authority(certificate: &[u8]) -> bool {
    parse_certificate(certificate).is_ok_and(|certificate| certificate.is_ca())
}

/// Whether a certificate is that of the authority after `authority`, by this one, and valid now; both DER. A client's certificate is
/// none, though the authority signed that, too.
#[must_use]
pub fn is_successor(certificate: &[u8], authority: &[u8], now: Timestamp) -> bool {
    let is_alive = life_of(certificate).is_ok_and(|(begin, end)| begin <= now && now < end);
    is_alive && is_authority(certificate) && is_signed_by(certificate, authority)
}

/// What a server says of its federation's authority, certificates in DER.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthorityClaim<'a> {
    /// The authority's own certificate.
    pub authority: &'a [u8],
    /// While it is new: that of the authority before, and that of its key by the one before.
    pub change: Option<(&'a [u8], &'a [u8])>,
}

impl AuthorityClaim<'_> {
    /// Whether the authority is the one whose public key has this SHA-256, or the one that this one has named its successor. A server
    /// that merely speaks for the authority cannot make it another.
    #[must_use]
    pub fn follows(&self, pin: [u8; 32], now: Timestamp) -> bool {
        let is_pinned = |certificate| public_key_sha256(certificate) == Ok(pin);
        // What else it says of itself counts wherever it is trusted.
        if !is_signed_by(self.authority, self.authority) {
            return false;
        }
        let led = self.change.is_some_and(|(previous, successor)| {
            is_pinned(previous)
                && is_successor(successor, previous, now)
                && public_key_sha256(successor) == public_key_sha256(self.authority)
        });
        is_pinned(self.authority) || led
    }
}

fn is_signature(authority: &X509Certificate<'_>, words: &[u8], signature: &[u8]) -> bool {
    let key = &authority.public_key().subject_public_key.data;
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key);
    key.verify(words, signature).is_ok()
}
