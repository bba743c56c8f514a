//! An authority that a site brought along: machines that have certificates of it take part without a token.
//!
//! Such a certificate says who its owner is in the site's own terms. Patterns of the settings make client names of its alternative
//! names, and one that fits none of them is nobody here: that an authority is trusted does not let everything in that it ever signed.
//! Roles and federations that it names count for nothing.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use fedmerge_common::authority::is_signed_by;
use fedmerge_common::identity::{
    AlternativeName, Labels, PeerCertificate, ReadCertificateError, public_key_sha256,
};
use fedmerge_common::ids::{ClientId, FederationName};
use fedmerge_common::reason::one_line;
use fedmerge_common::tls::{self, ClientAuthorities, ConfigureTlsError};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use serde::Deserialize;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::revocation_list::CertificateRevocationList;

use crate::directory::ServerDirectory;
use crate::settings::TlsSettings;

/// Which alternative names of a certificate name a client, and what of them is its name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct NamePattern {
    kind: NameKind,
    before: String,
    after: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NameKind {
    Dns,
    Uri,
    Email,
}

impl NameKind {
    const ALL: [Self; 3] = [Self::Dns, Self::Uri, Self::Email];

    const fn word(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Uri => "uri",
            Self::Email => "email",
        }
    }

    /// What ends a part of such a name: a `*` stands for one part.
    const fn separator(self) -> char {
        match self {
            Self::Dns => '.',
            Self::Uri => '/',
            Self::Email => '@',
        }
    }
}

/// A text that is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no pattern of names: write dns:, uri: or email: and a name with one `*` where the client's name stands"
)]
pub struct ParseNamePatternError {
    text: String,
}

impl TryFrom<String> for NamePattern {
    type Error = ParseNamePatternError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl FromStr for NamePattern {
    type Err = ParseNamePatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (word, pattern) = text.split_once(':')?;
            let kind = NameKind::ALL.into_iter().find(|kind| kind.word() == word)?;
            let (before, after) = pattern.split_once('*')?;
            let is_all = before.is_empty() && after.is_empty();
            let is_one = !is_all && !after.contains('*');
            // Hosts are the same in whatever case they are written.
            let written = |part: &str| match kind {
                NameKind::Dns => part.to_ascii_lowercase(),
                NameKind::Uri | NameKind::Email => part.to_owned(),
            };
            is_one.then(|| Self {
                kind,
                before: written(before),
                after: written(after),
            })
        };
        parse().ok_or_else(|| ParseNamePatternError {
            text: text.to_owned(),
        })
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, before, after) = (self.kind.word(), &self.before, &self.after);
        write!(formatter, "{word}:{before}*{after}")
    }
}

impl NamePattern {
    /// The client that an alternative name names, where it fits.
    fn client(&self, name: &AlternativeName<'_>) -> Option<ClientId> {
        let (kind, text) = match name {
            AlternativeName::Dns(text) => (NameKind::Dns, text.to_ascii_lowercase()),
            AlternativeName::Uri(text) => (NameKind::Uri, (*text).to_owned()),
            AlternativeName::Email(text) => (NameKind::Email, (*text).to_owned()),
        };
        let rest = text.strip_prefix(self.before.as_str())?;
        let part = rest.strip_suffix(self.after.as_str())?;
        let fits = kind == self.kind && !part.contains(kind.separator());
        fits.then(|| part.parse().ok())?
    }
}

/// A certificate that names no client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnnamedPeerError {
    /// It cannot be read, or is the federation's own and names nobody.
    #[error(transparent)]
    Certificate(#[from] ReadCertificateError),
    /// None of its names fits a pattern of the settings.
    #[error(
        "the certificate's names ({names}) fit none of {patterns}, by which this server knows its clients"
    )]
    NoName {
        /// What it has.
        names: String,
        /// What would fit.
        patterns: String,
    },
    /// Its names fit, and name several clients.
    #[error("the certificate names more than one client: `{first}` and `{second}`")]
    Several {
        /// One.
        first: ClientId,
        /// Another.
        second: ClientId,
    },
}

/// Why the files of a site's authority cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadSiteAuthorityError {
    /// A file cannot be read.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file holds nothing of the kind.
    #[error("{} holds no {what} in PEM", path.display())]
    Nothing {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// A file is no PEM.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// What is in the files cannot be used for TLS.
    #[error("{}, or the revocation lists beside it, cannot be used to verify clients", path.display())]
    Unusable {
        /// The authority's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: ConfigureTlsError,
    },
    /// What is in a file is not what it says.
    #[error("{}: number {number} is no {what}", path.display())]
    Nonsense {
        /// The file.
        path: PathBuf,
        /// Which of those in the file, from 1.
        number: usize,
        /// What it should be.
        what: &'static str,
    },
}

/// What to do about that.
pub(super) const READ_SITE_HINT: &str = "`client_ca` and `client_crl` in [tls] of server.toml are PEM files, seen from the server's directory";

/// Names of a certificate that are told where none fits.
const MOST_NAMED: usize = 4;

/// The authority that a site brought along, and how its certificates name clients.
#[derive(Clone, Debug)]
pub struct SiteAuthority {
    /// Its certificates, DER: roots, or whatever a site trusts.
    pub(super) certificates: Vec<CertificateDer<'static>>,
    /// What it has taken back, DER.
    pub(super) revoked: Vec<CertificateRevocationListDer<'static>>,
    names: Vec<NamePattern>,
    labels: Labels,
}

impl SiteAuthority {
    /// Reads the files that the settings name; nothing where they name none.
    ///
    /// # Errors
    /// When a file cannot be read, or holds something else.
    pub fn read(
        directory: &ServerDirectory,
        settings: &TlsSettings,
    ) -> Result<Option<Self>, ReadSiteAuthorityError> {
        let Some(authority) = &settings.client_ca else {
            return Ok(None);
        };
        let path = directory.root().join(authority);
        let is_certificate = |der: &CertificateDer<'_>| public_key_sha256(der).is_ok();
        let certificates = read_all(&path, "certificate", is_certificate)?;
        let revoked = match &settings.client_crl {
            Some(list) => {
                let is_list = |der: &CertificateRevocationListDer<'_>| {
                    CertificateRevocationList::from_der(der).is_ok()
                };
                read_all(&directory.root().join(list), "revocation list", is_list)?
            }
            None => Vec::new(),
        };
        let authorities = ClientAuthorities {
            authorities: certificates.clone(),
            revoked: revoked.clone(),
        };
        tls::check_client_authorities(authorities).map_err(|source| {
            ReadSiteAuthorityError::Unusable {
                path: path.clone(),
                source,
            }
        })?;
        Ok(Some(Self {
            certificates,
            revoked,
            names: settings.client_names.clone(),
            labels: settings.client_labels.clone(),
        }))
    }

    /// What this authority has taken back, without lists that speak for one of the federation's `authorities`: those would shut out
    /// everyone.
    pub(super) fn revocations(
        &self,
        authorities: &[CertificateDer<'static>],
    ) -> Vec<CertificateRevocationListDer<'static>> {
        let is_ours = |list: &CertificateRevocationListDer<'_>| {
            let Ok((_, list)) = CertificateRevocationList::from_der(list) else {
                return true;
            };
            authorities.iter().any(|authority| {
                X509Certificate::from_der(authority)
                    .is_ok_and(|(_, authority)| authority.subject() == list.issuer())
            })
        };
        let lists = self.revoked.iter();
        lists.filter(|list| !is_ours(list)).cloned().collect()
    }

    /// Whom a certificate names that TLS has verified as one of this authority.
    fn owner(
        &self,
        certificate: &[u8],
        federation: &FederationName,
    ) -> Result<PeerCertificate, UnnamedPeerError> {
        let name = |names: &[AlternativeName<'_>]| self.client(names);
        let mut owner = PeerCertificate::parse_of_site(certificate, federation, name)?;
        // What the server's operator says of a site's clients stands above what the site says.
        owner.labels.extend(self.labels.clone());
        Ok(owner)
    }

    fn client(&self, names: &[AlternativeName<'_>]) -> Result<ClientId, UnnamedPeerError> {
        let mut clients = names
            .iter()
            .flat_map(|name| self.names.iter().filter_map(|pattern| pattern.client(name)));
        let Some(first) = clients.next() else {
            let list = |names: Vec<String>| match &names[..] {
                [] => "none".to_owned(),
                names if names.len() > MOST_NAMED => {
                    format!("{}, …", names[..MOST_NAMED].join(", "))
                }
                names => names.join(", "),
            };
            return Err(UnnamedPeerError::NoName {
                names: list(names.iter().map(short).collect()),
                patterns: list(self.names.iter().map(ToString::to_string).collect()),
            });
        };
        match clients.find(|client| *client != first) {
            None => Ok(first),
            Some(second) => Err(UnnamedPeerError::Several { first, second }),
        }
    }
}

/// A name of a certificate, fit for a line of text.
fn short(name: &AlternativeName<'_>) -> String {
    one_line(&name.to_string()).chars().take(128).collect()
}

fn read_all<T: PemObject>(
    path: &Path,
    what: &'static str,
    is_one: impl Fn(&T) -> bool,
) -> Result<Vec<T>, ReadSiteAuthorityError> {
    let text = fs::read(path).map_err(|source| ReadSiteAuthorityError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    let found: Result<Vec<T>, _> = T::pem_slice_iter(&text).collect();
    let found = found.map_err(|source| ReadSiteAuthorityError::Damaged {
        path: path.to_owned(),
        source,
    })?;
    if found.is_empty() {
        let path = path.to_owned();
        return Err(ReadSiteAuthorityError::Nothing { path, what });
    }
    match found.iter().position(|one| !is_one(one)) {
        None => Ok(found),
        Some(index) => Err(ReadSiteAuthorityError::Nonsense {
            path: path.to_owned(),
            number: index + 1,
            what,
        }),
    }
}

/// Who peers are, by the certificates that TLS has verified.
#[derive(Clone, Debug)]
pub struct PeerNames {
    federation: FederationName,
    /// The federation's own authorities.
    authorities: Vec<CertificateDer<'static>>,
    site: Option<SiteAuthority>,
}

impl PeerNames {
    pub(super) const fn new(
        federation: FederationName,
        authorities: Vec<CertificateDer<'static>>,
        site: Option<SiteAuthority>,
    ) -> Self {
        Self {
            federation,
            authorities,
            site,
        }
    }

    /// Whose a certificate is. Only what an authority of the federation signed itself is read as one of its own: a site's authority
    /// could otherwise make administrators.
    ///
    /// # Errors
    /// When it names nobody.
    pub fn owner(&self, certificate: &[u8]) -> Result<PeerCertificate, UnnamedPeerError> {
        match &self.site {
            Some(site) if !self.is_ours(certificate) => site.owner(certificate, &self.federation),
            Some(_) | None => Ok(PeerCertificate::parse(certificate)?),
        }
    }

    fn is_ours(&self, certificate: &[u8]) -> bool {
        let mut authorities = self.authorities.iter();
        authorities.any(|authority| is_signed_by(certificate, authority))
    }
}

#[cfg(test)]
mod tests;
