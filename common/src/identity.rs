//! Who is at the other end: the identity that a certificate carries.
//!
//! Every certificate of a federation names its owner in exactly one URI, `fedmerge://FEDERATION/server`,
//! `…/client/ID` or `…/admin/NAME`. Reading a certificate here checks its form, not its signature:
//! that is TLS's work, done before.

use std::fmt;
use std::str::FromStr;

use ring::digest::{SHA256, digest};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::hex;
use crate::ids::{AdminName, ClientId, FederationName};
use crate::units::Timestamp;

const SCHEME: &str = "fedmerge://";

/// The owner of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    /// The federation's server.
    Server,
    /// An enrolled client.
    Client(ClientId),
    /// A person or program that administers the federation.
    Admin(AdminName),
}

impl Identity {
    /// The URI that stands in the certificate.
    #[must_use]
    pub fn uri(&self, federation: &FederationName) -> String {
        format!("{SCHEME}{federation}/{self}")
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server => formatter.write_str("server"),
            Self::Client(client) => write!(formatter, "client/{client}"),
            Self::Admin(name) => write!(formatter, "admin/{name}"),
        }
    }
}

/// A certificate that does not tell whose it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadCertificateError {
    /// The bytes are no X.509 certificate.
    #[error("not an X.509 certificate in DER")]
    Encoding,
    /// There is no URI of ours, or more than one.
    #[error("the certificate has {count} `fedmerge://` names, expected exactly one")]
    Names {
        /// How many there are.
        count: usize,
    },
    /// The URI is not one of the known forms.
    #[error("`{uri}` is not the name of a server, client or administrator")]
    Uri {
        /// What was there.
        uri: String,
    },
}

fn parse_uri(uri: &str) -> Option<(FederationName, Identity)> {
    let (federation, identity) = uri.strip_prefix(SCHEME)?.split_once('/')?;
    let identity = match identity.split_once('/') {
        None if identity == "server" => Identity::Server,
        Some(("client", id)) => Identity::Client(id.parse().ok()?),
        Some(("admin", name)) => Identity::Admin(name.parse().ok()?),
        _ => return None,
    };
    Some((FederationName::from_str(federation).ok()?, identity))
}

/// What a peer's certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// The federation it belongs to.
    pub federation: FederationName,
    /// Its owner.
    pub identity: Identity,
    /// First moment of its life.
    pub not_before: Timestamp,
    /// Last moment of its life.
    pub not_after: Timestamp,
    /// Serial number, lowercase hexadecimal.
    pub serial: String,
    /// SHA-256 of the subject's public key info, DER.
    pub public_key_sha256: [u8; 32],
}

impl PeerCertificate {
    /// Reads a certificate that TLS has verified.
    ///
    /// # Errors
    /// When the bytes are no certificate or it does not carry exactly one identity.
    pub fn parse(der: &[u8]) -> Result<Self, ReadCertificateError> {
        let certificate = parse_certificate(der)?;
        let (federation, identity) = identity_of(&certificate)?;
        let validity = certificate.validity();
        Ok(Self {
            federation,
            identity,
            not_before: Timestamp::from_unix_seconds(validity.not_before.timestamp()),
            not_after: Timestamp::from_unix_seconds(validity.not_after.timestamp()),
            serial: hex::encode(certificate.raw_serial()),
            public_key_sha256: sha256(certificate.public_key().raw),
        })
    }
}

/// SHA-256 of a certificate's subject public key info: what a join string pins of the authority.
///
/// # Errors
/// When the bytes are no certificate.
pub fn public_key_sha256(der: &[u8]) -> Result<[u8; 32], ReadCertificateError> {
    Ok(sha256(parse_certificate(der)?.public_key().raw))
}

fn sha256(content: &[u8]) -> [u8; 32] {
    digest(&SHA256, content)
        .as_ref()
        .try_into()
        .expect("SHA-256 has 32 bytes")
}

fn parse_certificate(der: &[u8]) -> Result<X509Certificate<'_>, ReadCertificateError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) | Err(_) => Err(ReadCertificateError::Encoding),
    }
}

fn identity_of(
    certificate: &X509Certificate<'_>,
) -> Result<(FederationName, Identity), ReadCertificateError> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| ReadCertificateError::Encoding)?;
    let names = names.map_or(&[][..], |extension| &extension.value.general_names);
    let uris: Vec<&str> = names
        .iter()
        .filter_map(|name| {
            if let GeneralName::URI(uri) = name {
                Some(*uri)
            } else {
                None
            }
        })
        .filter(|uri| uri.starts_with(SCHEME))
        .collect();
    let [uri] = uris[..] else {
        return Err(ReadCertificateError::Names { count: uris.len() });
    };
    parse_uri(uri).ok_or_else(|| ReadCertificateError::Uri {
        uri: uri.to_owned(),
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // Certificates themselves are read in the tests of `tls`, which makes some.

    #[test]
    fn every_identity_is_read_back_from_its_uri() {
        let federation: FederationName = "digits".parse().unwrap();
        for (identity, uri) in [
            (Identity::Server, "fedmerge://digits/server"),
            (
                Identity::Client("ward-3".parse().unwrap()),
                "fedmerge://digits/client/ward-3",
            ),
            (
                Identity::Admin("root".parse().unwrap()),
                "fedmerge://digits/admin/root",
            ),
        ] {
            assert_eq!(identity.uri(&federation), uri);
            assert_eq!(parse_uri(uri), Some((federation.clone(), identity)));
        }
    }

    proptest! {
        #[test]
        fn bytes_that_are_no_certificate_are_refused(bytes: Vec<u8>) {
            prop_assert_eq!(PeerCertificate::parse(&bytes), Err(ReadCertificateError::Encoding));
        }
    }
}
