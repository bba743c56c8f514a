//! Who is at the other end: the identity that a certificate carries.
//!
//! Every certificate of a federation names its owner in exactly one URI, `fedmerge://FEDERATION/server`,
//! `…/client/ID`, `…/admin/NAME` or `…/observer/NAME`. Labels of a client are further URIs,
//! `fedmerge-label:KEY=VALUE`. Reading a certificate here checks its form, not its signature: that is
//! TLS's work, done before.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use ring::digest::{SHA256, digest};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::hex;
use crate::ids::{AdminName, ClientId, FederationName};
use crate::units::{Millis, Timestamp};

const SCHEME: &str = "fedmerge://";
const LABEL_SCHEME: &str = "fedmerge-label:";
/// Longest key and longest value of a label, characters.
const MAX_LABEL_CHARACTERS: usize = 63;
/// Labels of a certificate that are read.
const MAX_LABELS: usize = 64;

/// What a client is labelled with: `site`, `tier`, …
pub type Labels = BTreeMap<String, String>;

/// A label that no certificate can carry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "label `{key}={value}`: a key has 1 to {MAX_LABEL_CHARACTERS} characters of `A-Z a-z 0-9 . _ -`, a value 0 to \
     {MAX_LABEL_CHARACTERS} of these and `: / @`"
)]
pub struct InvalidLabel {
    key: String,
    value: String,
}

/// Whether a certificate can carry a label.
///
/// # Errors
/// When it is too long or has other characters.
pub fn check_label(key: &str, value: &str) -> Result<(), InvalidLabel> {
    let is_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let is_value = |c: char| is_key(c) || matches!(c, ':' | '/' | '@');
    let fits = (1..=MAX_LABEL_CHARACTERS).contains(&key.len())
        && value.len() <= MAX_LABEL_CHARACTERS
        && key.chars().all(is_key)
        && value.chars().all(is_value);
    if fits {
        return Ok(());
    }
    Err(InvalidLabel {
        key: key.to_owned(),
        value: value.to_owned(),
    })
}

/// The URI by which a certificate carries a label.
///
/// # Errors
/// When it cannot.
pub fn label_uri(key: &str, value: &str) -> Result<String, InvalidLabel> {
    check_label(key, value)?;
    Ok(format!("{LABEL_SCHEME}{key}={value}"))
}

/// The owner of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    /// The federation's server.
    Server,
    /// An enrolled client.
    Client(ClientId),
    /// A person or program that administers the federation.
    Admin(AdminName),
    /// A person or program that may look on and change nothing.
    Observer(AdminName),
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
            Self::Observer(name) => write!(formatter, "observer/{name}"),
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
    #[error("`{uri}` is not the name of a server, client, administrator or observer")]
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
        Some(("observer", name)) => Identity::Observer(name.parse().ok()?),
        _ => return None,
    };
    Some((FederationName::from_str(federation).ok()?, identity))
}

/// Whose certificate it is that a peer shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Issuer {
    /// The federation's own authority: the certificate names its owner as this module says.
    Federation,
    /// An authority that a site brought along: its names mean what the server's settings make of them.
    Site,
}

/// What a peer's certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Whose it is.
    pub issuer: Issuer,
    /// The federation it belongs to.
    pub federation: FederationName,
    /// Its owner.
    pub identity: Identity,
    /// What its owner is labelled with.
    pub labels: Labels,
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
        let names = alternative_names(&certificate)?;
        let uris: Vec<&str> = names.iter().filter_map(AlternativeName::uri).collect();
        let (federation, identity) = identity_of(&uris)?;
        let owner = (Issuer::Federation, federation, identity);
        Ok(Self::of(&certificate, owner, labels_of(&uris)))
    }

    /// Reads a certificate that TLS has verified as one of a site's own authority. Whom it names is what `name` makes of its
    /// alternative names; what it says of federations and roles counts for nothing.
    ///
    /// # Errors
    /// When the bytes are no certificate, or `name` finds nobody.
    pub fn parse_of_site<E: From<ReadCertificateError>>(
        der: &[u8],
        federation: &FederationName,
        name: impl FnOnce(&[AlternativeName<'_>]) -> Result<ClientId, E>,
    ) -> Result<Self, E> {
        let certificate = parse_certificate(der)?;
        let names = alternative_names(&certificate)?;
        let client = name(&names)?;
        let uris: Vec<&str> = names.iter().filter_map(AlternativeName::uri).collect();
        let owner = (Issuer::Site, federation.clone(), Identity::Client(client));
        Ok(Self::of(&certificate, owner, labels_of(&uris)))
    }

    fn of(
        certificate: &X509Certificate<'_>,
        (issuer, federation, identity): (Issuer, FederationName, Identity),
        labels: Labels,
    ) -> Self {
        let (not_before, not_after) = life(certificate);
        Self {
            issuer,
            federation,
            identity,
            labels,
            not_before,
            not_after,
            serial: hex::encode(certificate.raw_serial()),
            public_key_sha256: sha256(certificate.public_key().raw),
        }
    }

    /// When it is time for the next one: two thirds of its life are over.
    #[must_use]
    pub fn renewal_due(&self) -> Timestamp {
        let life = self.not_after - self.not_before;
        self.not_after - Millis::new(life.get() / 3)
    }
}

/// First and last moment of a certificate's life, whoever it is for.
///
/// # Errors
/// When the bytes are no certificate.
pub fn life_of(der: &[u8]) -> Result<(Timestamp, Timestamp), ReadCertificateError> {
    Ok(life(&parse_certificate(der)?))
}

/// SHA-256 of a certificate's subject public key info: what a join string pins of the authority.
///
/// # Errors
/// When the bytes are no certificate.
pub fn public_key_sha256(der: &[u8]) -> Result<[u8; 32], ReadCertificateError> {
    Ok(sha256(parse_certificate(der)?.public_key().raw))
}

pub(crate) fn sha256(content: &[u8]) -> [u8; 32] {
    digest(&SHA256, content)
        .as_ref()
        .try_into()
        .expect("SHA-256 has 32 bytes")
}

pub(crate) fn parse_certificate(der: &[u8]) -> Result<X509Certificate<'_>, ReadCertificateError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) | Err(_) => Err(ReadCertificateError::Encoding),
    }
}

/// A name of a certificate's owner beside the subject's, of the kinds that can name a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlternativeName<'a> {
    /// A host.
    Dns(&'a str),
    /// A URI, such as a SPIFFE ID.
    Uri(&'a str),
    /// A mail address.
    Email(&'a str),
}

impl<'a> AlternativeName<'a> {
    fn uri(&self) -> Option<&'a str> {
        match self {
            Self::Uri(uri) => Some(uri),
            Self::Dns(_) | Self::Email(_) => None,
        }
    }
}

impl fmt::Display for AlternativeName<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => write!(formatter, "dns:{name}"),
            Self::Uri(name) => write!(formatter, "uri:{name}"),
            Self::Email(name) => write!(formatter, "email:{name}"),
        }
    }
}

fn alternative_names<'a>(
    certificate: &'a X509Certificate<'_>,
) -> Result<Vec<AlternativeName<'a>>, ReadCertificateError> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| ReadCertificateError::Encoding)?;
    let names = names.map_or(&[][..], |extension| &extension.value.general_names);
    let names = names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(AlternativeName::Dns(name)),
        GeneralName::URI(uri) => Some(AlternativeName::Uri(uri)),
        GeneralName::RFC822Name(address) => Some(AlternativeName::Email(address)),
        GeneralName::OtherName(..)
        | GeneralName::X400Address(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EDIPartyName(_)
        | GeneralName::IPAddress(_)
        | GeneralName::RegisteredID(_)
        | GeneralName::Invalid(..) => None,
    });
    Ok(names.collect())
}

fn life(certificate: &X509Certificate<'_>) -> (Timestamp, Timestamp) {
    let validity = certificate.validity();
    (
        Timestamp::from_unix_seconds(validity.not_before.timestamp()),
        Timestamp::from_unix_seconds(validity.not_after.timestamp()),
    )
}

fn labels_of(uris: &[&str]) -> Labels {
    let labels = uris.iter().filter_map(|uri| uri.strip_prefix(LABEL_SCHEME));
    let labels = labels.filter_map(|label| label.split_once('='));
    labels
        .filter(|(key, value)| check_label(key, value).is_ok())
        .take(MAX_LABELS)
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn identity_of(uris: &[&str]) -> Result<(FederationName, Identity), ReadCertificateError> {
    let uris: Vec<&str> = uris
        .iter()
        .copied()
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
            (
                Identity::Observer("ops".parse().unwrap()),
                "fedmerge://digits/observer/ops",
            ),
        ] {
            assert_eq!(identity.uri(&federation), uri);
            assert_eq!(parse_uri(uri), Some((federation.clone(), identity)));
        }
    }

    #[test]
    fn a_label_has_the_characters_that_a_certificate_can_carry() {
        let (long, longest) = ("k".repeat(64), "v".repeat(63));
        for (key, value, fits) in [
            ("site", "ward-3", true),
            ("site", "", true),
            ("image", "ghcr.io/a/b:1@2", true),
            ("k", &longest, true),
            ("", "v", false),
            ("site", "a b", false),
            ("site", "a=b", false),
            ("a/b", "v", false),
            ("ort", "Zürich", false),
            (&long, "v", false),
            ("k", &long, false),
        ] {
            assert_eq!(label_uri(key, value).is_ok(), fits, "{key}={value}");
        }
        let uris = [
            "fedmerge-label:site=ward-3",
            "fedmerge://digits/server",
            "fedmerge-label:x",
            "fedmerge-label:site=\u{1b}[2J",
        ];
        let labels = labels_of(&uris);
        assert_eq!(
            labels,
            Labels::from([("site".to_owned(), "ward-3".to_owned())])
        );
    }

    proptest! {
        #[test]
        fn bytes_that_are_no_certificate_are_refused(bytes: Vec<u8>) {
            prop_assert_eq!(PeerCertificate::parse(&bytes), Err(ReadCertificateError::Encoding));
        }
    }
}
