//! A client's directory and what is written in it at enrolment: `client.toml` and the identity.
//!
//! Resolved once, into types that cannot be wrong. The key never leaves the directory and is readable by its owner
//! alone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::ids::{ClientId, FederationName};
use serde::{Deserialize, Serialize};

use crate::link::address::ServerAddress;

/// Paths in a client's directory.
#[derive(Clone, Debug)]
pub struct ClientDirectory {
    root: PathBuf,
}

impl ClientDirectory {
    /// The directory at `root`, whether it is there or not.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The same directory, wherever a process goes from here.
    ///
    /// # Errors
    /// When the working directory is gone.
    pub fn absolute(&self) -> io::Result<Self> {
        std::path::absolute(&self.root).map(Self::new)
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `client.toml`: its presence says that the directory is enrolled.
    #[must_use]
    pub fn settings(&self) -> PathBuf {
        self.root.join("client.toml")
    }

    /// The directory of key and certificates.
    #[must_use]
    pub fn identity(&self) -> PathBuf {
        self.root.join("identity")
    }

    /// The client's private key, PEM.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.identity().join("client.key")
    }

    /// The client's certificate, PEM.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.identity().join("client.pem")
    }

    /// The private key of the next certificate, while it is asked for, PEM.
    #[must_use]
    pub fn next_key(&self) -> PathBuf {
        self.identity().join("next.key")
    }

    /// The next certificate, before it takes the place of the present one, PEM.
    #[must_use]
    pub fn next_certificate(&self) -> PathBuf {
        self.identity().join("next.pem")
    }

    /// The federation's certificate authority, PEM.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.identity().join("ca.pem")
    }

    /// Bases that were downloaded.
    #[must_use]
    pub fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// What the site lets out, where it says so.
    #[must_use]
    pub fn policy(&self) -> PathBuf {
        self.root.join("policy.toml")
    }

    /// What has left the site, line by line.
    #[must_use]
    pub fn site_log(&self) -> PathBuf {
        self.root.join("site-log.jsonl")
    }

    /// The round in hand.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    /// A training that is tried.
    #[must_use]
    pub fn rehearsal(&self) -> PathBuf {
        self.root.join("rehearsal")
    }

    /// What is finished of the round in hand.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.root.join("journal.json")
    }

    /// The line of bases that the client was led along.
    #[must_use]
    pub fn lineage(&self) -> PathBuf {
        self.root.join("lineage.json")
    }

    /// What the encodings of accepted updates lost.
    #[must_use]
    pub fn residual(&self) -> PathBuf {
        self.root.join("residual.safetensors")
    }

    /// Log files.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    /// Held by the one process that uses the directory.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }
}

/// What `client.toml` holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where the server is.
    pub server: ServerAddress,
    /// The federation this client was admitted to.
    pub federation: FederationName,
    /// The name it was admitted under.
    pub client: ClientId,
    /// The certificate that it shows, where its site's own authority gave it one; else that in the directory's `identity/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<OwnCertificate>,
}

/// A certificate that a site's own authority gave a machine, kept where the site's tools keep it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnCertificate {
    /// The certificate, and those that lead from it to the authority, PEM.
    pub chain: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// Why a client's settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadSettingsError {
    /// The directory is not enrolled.
    #[error("{} is not the directory of an enrolled client", directory.display())]
    NotEnrolled {
        /// The directory.
        directory: PathBuf,
    },
    /// The file cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not what enrolment wrote.
    #[error("{} is not a client's settings", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
}

impl From<ReadSettingsError> for Failure {
    fn from(error: ReadSettingsError) -> Self {
        let failure = Self::from_error(ExitCode::BadConfiguration, &error);
        match error {
            ReadSettingsError::NotEnrolled { .. } => failure.with_hint(
                "enrol first: fedmerge client enrol --server URL --token STRING --dir DIR",
            ),
            ReadSettingsError::Read { .. } | ReadSettingsError::Parse { .. } => failure,
        }
    }
}

impl Settings {
    /// Reads `client.toml`.
    ///
    /// # Errors
    /// When it is missing, unreadable or not what enrolment wrote.
    pub fn read(directory: &ClientDirectory) -> Result<Self, ReadSettingsError> {
        let path = directory.settings();
        let text = fs::read_to_string(&path).map_err(|source| {
            if source.kind() == io::ErrorKind::NotFound {
                let directory = directory.root().to_owned();
                ReadSettingsError::NotEnrolled { directory }
            } else {
                let path = path.clone();
                ReadSettingsError::Read { path, source }
            }
        })?;
        toml::from_str(&text).map_err(|source| ReadSettingsError::Parse {
            path,
            source: Box::new(source),
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_being_written_and_read() {
        let root = tempfile::tempdir().unwrap();
        let directory = ClientDirectory::new(root.path());
        let settings = Settings {
            server: "localhost:7600".parse().unwrap(),
            federation: "digits".parse().unwrap(),
            client: "ward-3".parse().unwrap(),
            certificate: None,
        };
        let own = OwnCertificate {
            chain: "/etc/site/ward-3.pem".into(),
            key: "/etc/site/ward-3.key".into(),
        };
        for certificate in [None, Some(own)] {
            let settings = Settings {
                certificate,
                ..settings.clone()
            };
            fs::write(directory.settings(), toml::to_string(&settings).unwrap()).unwrap();
            assert_eq!(Settings::read(&directory).unwrap(), settings);
        }
    }

    #[test]
    fn a_directory_without_settings_is_not_enrolled() {
        let root = tempfile::tempdir().unwrap();
        let error = Settings::read(&ClientDirectory::new(root.path())).unwrap_err();
        assert!(matches!(error, ReadSettingsError::NotEnrolled { .. }));
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let directory = ClientDirectory::new(root.path());
        fs::write(directory.settings(), "servre = \"x\"").unwrap();
        let error = Settings::read(&directory).unwrap_err();
        assert!(matches!(error, ReadSettingsError::Parse { .. }));
    }
}
