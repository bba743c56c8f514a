//! What the federation's certificates say, and the reading of signing requests.
//!
//! Every certificate is made from these profiles: of a request, nothing but the public key is used.

use fedmerge_common::identity::{Identity, InvalidLabel, Labels, label_uri};
use fedmerge_common::ids::FederationName;
use fedmerge_common::tls;
use fedmerge_common::units::{Millis, Timestamp};
use fedmerge_proto::status::{Refusal, RefusalReason};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateSigningRequestParams,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType, SerialNumber, SigningKey, SubjectPublicKeyInfo,
};
use ring::digest::{SHA256, digest};
use rustls_pki_types::CertificateSigningRequestDer;
use time::OffsetDateTime;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use crate::enrolment::random::{RandomError, random_bytes};

/// Certificates begin to be valid this much before they are made, because clocks differ, or half of their life where that is less.
const BACKDATED: Millis = Millis::from_secs(3600);
/// 9999-12-31T23:59:59Z, the last moment that X.509 can write, seconds.
const LAST_SECOND: u64 = 253_402_300_799;

/// Why no certificate is made.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The request cannot be used, or whoever sent it does not hold the key in it.
    #[error("not a certificate signing request that is signed with its own key")]
    Request(#[source] rcgen::Error),
    /// A label of the client cannot be written into a certificate.
    #[error("the certificate cannot carry the client's labels")]
    Label(#[source] InvalidLabel),
    /// The certificate cannot be put together.
    #[error("the certificate cannot be made")]
    Certificate(#[source] rcgen::Error),
    /// A rollback cannot be signed.
    #[error("the rollback cannot be signed")]
    Rollback(#[source] rcgen::Error),
    /// An endorsement cannot be signed.
    #[error("the endorsement cannot be signed")]
    Endorsement(#[source] rcgen::Error),
    /// A model cannot be signed.
    #[error("the model cannot be signed")]
    Model(#[source] rcgen::Error),
    /// There is no serial number.
    #[error("no serial number can be drawn")]
    SerialNumber(#[source] RandomError),
}

impl From<SignError> for Refusal {
    fn from(error: SignError) -> Self {
        let reason = match &error {
            SignError::Request(_) => RefusalReason::InvalidRequest,
            SignError::Label(_)
            | SignError::Certificate(_)
            | SignError::Rollback(_)
            | SignError::Endorsement(_)
            | SignError::Model(_)
            | SignError::SerialNumber(_) => RefusalReason::Internal,
        };
        Self::new(reason, error)
    }
}

/// When a certificate is made and how long it lives from then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Validity {
    pub(super) now: Timestamp,
    pub(super) life: Millis,
}

/// The self-signed certificate of a federation's authority.
pub(super) fn sign_authority(
    federation: &FederationName,
    key: &KeyPair,
    validity: Validity,
) -> Result<Certificate, SignError> {
    let params = authority_params(federation, validity)?;
    params.self_signed(key).map_err(SignError::Certificate)
}

/// The certificate of a new authority's key by the one before it.
pub(super) fn sign_successor(
    issuer: &Issuer<'_, impl SigningKey>,
    federation: &FederationName,
    key: &KeyPair,
    validity: Validity,
) -> Result<Certificate, SignError> {
    let params = authority_params(federation, validity)?;
    params
        .signed_by(key, issuer)
        .map_err(SignError::Certificate)
}

/// The certificate of a server, client or administrator.
pub(super) fn sign_leaf(
    issuer: &Issuer<'_, impl SigningKey>,
    federation: &FederationName,
    (identity, labels): (&Identity, &Labels),
    key: &impl PublicKeyData,
    validity: Validity,
) -> Result<Certificate, SignError> {
    let (name, usage) = match identity {
        Identity::Server => (tls::SERVER_NAME, ExtendedKeyUsagePurpose::ServerAuth),
        Identity::Client(client) => (client.as_str(), ExtendedKeyUsagePurpose::ClientAuth),
        Identity::Admin(name) | Identity::Observer(name) => {
            (name.as_str(), ExtendedKeyUsagePurpose::ClientAuth)
        }
    };
    let mut params = params(name, validity)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    params.subject_alt_names = vec![SanType::URI(ascii(identity.uri(federation))?)];
    for (key, value) in labels {
        let uri = label_uri(key, value).map_err(SignError::Label)?;
        params.subject_alt_names.push(SanType::URI(ascii(uri)?));
    }
    if *identity == Identity::Server {
        let name = SanType::DnsName(ascii(tls::SERVER_NAME.to_owned())?);
        params.subject_alt_names.push(name);
    }
    params
        .signed_by(key, issuer)
        .map_err(SignError::Certificate)
}

fn authority_params(
    federation: &FederationName,
    validity: Validity,
) -> Result<CertificateParams, SignError> {
    let mut params = params(&format!("fedmerge CA {federation}"), validity)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    Ok(params)
}

fn params(name: &str, validity: Validity) -> Result<CertificateParams, SignError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(serial_number()?);
    let backdated = BACKDATED.min(Millis::new(validity.life.get() / 2));
    params.not_before = moment(validity.now - backdated);
    params.not_after = moment(validity.now + validity.life);
    Ok(params)
}

/// 126 random bits as a positive number of exactly 16 bytes.
fn serial_number() -> Result<SerialNumber, SignError> {
    let mut bytes = random_bytes::<16>().map_err(SignError::SerialNumber)?;
    bytes[0] = bytes[0] & 0x3f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn moment(at: Timestamp) -> OffsetDateTime {
    let seconds = i64::try_from(at.unix_seconds().min(LAST_SECOND)).expect("LAST_SECOND fits");
    OffsetDateTime::from_unix_timestamp(seconds).expect("years to 9999 are known")
}

fn ascii(text: String) -> Result<Ia5String, SignError> {
    Ia5String::try_from(text).map_err(SignError::Certificate)
}

/// The public key of a PKCS #10 request, DER, after its signature was checked.
pub(super) fn key_of_request(request: &[u8]) -> Result<SubjectPublicKeyInfo, SignError> {
    CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))
        .map_err(SignError::Request)?;
    // The library guesses the key's kind from the signature's, which for P-384 with SHA-256 is wrong: read the key itself.
    let (rest, parsed) = X509CertificationRequest::from_der(request)
        .map_err(|_| SignError::Request(rcgen::Error::CouldNotParseCertificationRequest))?;
    if !rest.is_empty() {
        return Err(SignError::Request(
            rcgen::Error::CouldNotParseCertificationRequest,
        ));
    }
    let raw = parsed.certification_request_info.subject_pki.raw;
    public_key(raw).map_err(SignError::Request)
}

/// A public key, DER, that would be written into a certificate byte for byte as it was read.
pub(super) fn public_key(raw: &[u8]) -> Result<SubjectPublicKeyInfo, rcgen::Error> {
    let key = SubjectPublicKeyInfo::from_der(raw)?;
    if key.subject_public_key_info() != raw {
        return Err(rcgen::Error::UnsupportedSignatureAlgorithm);
    }
    Ok(key)
}

/// SHA-256 of a public key as certificates carry it.
pub(super) fn key_hash(key: &impl PublicKeyData) -> [u8; 32] {
    digest(&SHA256, &key.subject_public_key_info())
        .as_ref()
        .try_into()
        .expect("SHA-256 has 32 bytes")
}
