//! The reading of an identity directory, and the errors that name its files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::identity::PeerCertificate;
use fedmerge_common::tls::ConfigureTlsError;
use fedmerge_common::units::Timestamp;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::enrolment::authority::sign::SignError;
use crate::enrolment::site::{READ_SITE_HINT, ReadSiteAuthorityError};

/// Why an identity directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadAuthorityError {
    /// A file is not there.
    #[error("{} is missing", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A certificate is that of another key.
    #[error("{} and {} do not belong together", certificate.display(), key.display())]
    Mismatch {
        /// The certificate.
        certificate: PathBuf,
        /// The private key.
        key: PathBuf,
    },
    /// A certificate names somebody else than it should.
    #[error("{} is the certificate of `{found}`, expected one of {expected}", path.display())]
    Owner {
        /// The certificate.
        path: PathBuf,
        /// Whom it names.
        found: String,
        /// Whom it should name.
        expected: &'static str,
    },
    /// The administrator's certificate is not valid at this moment.
    #[error("{} is valid from {not_before} to {not_after}, and this machine's clock says {now}", path.display())]
    NotValid {
        /// The certificate.
        path: PathBuf,
        /// First moment of its life.
        not_before: Timestamp,
        /// Last moment of its life.
        not_after: Timestamp,
        /// This machine's time.
        now: Timestamp,
    },
    /// A certificate that nears its end cannot be renewed.
    #[error("{} cannot be renewed", path.display())]
    Renew {
        /// The certificate.
        path: PathBuf,
        /// Why.
        #[source]
        source: SignError,
    },
    /// A renewed certificate cannot be written.
    #[error("{} cannot be written", path.display())]
    Unwritable {
        /// The certificate.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The authority that the site brought along cannot be used.
    #[error(transparent)]
    Site(#[from] ReadSiteAuthorityError),
    /// Certificate and key cannot be used for TLS.
    #[error("{} and its key cannot be used", certificate.display())]
    Tls {
        /// The certificate.
        certificate: PathBuf,
        /// Why.
        #[source]
        source: ConfigureTlsError,
    },
}

impl From<LoadAuthorityError> for Failure {
    fn from(error: LoadAuthorityError) -> Self {
        match &error {
            LoadAuthorityError::Site(_) => {
                Self::from_error(ExitCode::BadConfiguration, &error).with_hint(READ_SITE_HINT)
            }
            LoadAuthorityError::Missing { .. } => {
                Self::from_error(ExitCode::BadConfiguration, &error)
                    .with_hint("make a server: fedmerge server init DIR")
            }
            LoadAuthorityError::Damaged { .. }
            | LoadAuthorityError::Mismatch { .. }
            | LoadAuthorityError::Owner { .. }
            | LoadAuthorityError::Tls { .. } => {
                Self::from_error(ExitCode::BadConfiguration, &error).with_hint(
                    "bring the directory's identity/ back from a backup, or make a server: fedmerge server init DIR",
                )
            }
            LoadAuthorityError::NotValid { .. } => Self::from_error(ExitCode::NotPermitted, &error)
                .with_hint("check the clock; if it is right, restart the server, which renews the certificate"),
            LoadAuthorityError::Unreadable { .. }
            | LoadAuthorityError::Renew { .. }
            | LoadAuthorityError::Unwritable { .. } => {
                Self::from_error(ExitCode::Unavailable, &error)
            }
        }
    }
}

/// A certificate of this directory.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) path: PathBuf,
    pub(super) certificate: CertificateDer<'static>,
    pub(super) content: PeerCertificate,
}

impl Stored {
    /// Reads the certificate of a server or administrator.
    pub(super) fn read(path: PathBuf) -> Result<Self, LoadAuthorityError> {
        let certificate = read_certificate(&path)?;
        let content =
            PeerCertificate::parse(&certificate).map_err(|error| damaged(&path, error))?;
        Ok(Self {
            path,
            certificate,
            content,
        })
    }

    /// Whether two thirds of its life are over.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        now >= self.content.renewal_due()
    }

    pub(super) fn owner_error(&self, expected: &'static str) -> LoadAuthorityError {
        LoadAuthorityError::Owner {
            path: self.path.clone(),
            found: self.content.identity.uri(&self.content.federation),
            expected,
        }
    }
}

pub(super) fn read_certificate(path: &Path) -> Result<CertificateDer<'static>, LoadAuthorityError> {
    CertificateDer::from_pem_slice(&read(path)?).map_err(|error| damaged(path, error))
}

pub(super) fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, LoadAuthorityError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| damaged(path, error))
}

fn read(path: &Path) -> Result<Vec<u8>, LoadAuthorityError> {
    fs::read(path).map_err(|source| {
        let path = path.to_owned();
        if source.kind() == io::ErrorKind::NotFound {
            LoadAuthorityError::Missing { path }
        } else {
            LoadAuthorityError::Unreadable { path, source }
        }
    })
}

pub(super) fn damaged(
    path: &Path,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> LoadAuthorityError {
    LoadAuthorityError::Damaged {
        path: path.to_owned(),
        source: error.into(),
    }
}
