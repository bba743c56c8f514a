//! The settings of one server: `server.toml`, read once into types that cannot be wrong.
//!
//! Settings bound what the server spends on others, and never change what a merge computes. Every key has a default; a
//! limit of zero would refuse everyone, so it is refused itself.

mod limits;
#[cfg(test)]
mod tests;

use std::net::Ipv6Addr;
use std::path::PathBuf;

use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::identity::{Labels, check_label};
use fedmerge_common::units::{ByteSize, Millis};
use serde::Deserialize;

use crate::compute::MOST_THREADS;
use crate::directory::ServerDirectory;
use crate::enrolment::site::NamePattern;
use crate::plan::document::{Document, KnownTable};
use crate::plan::fields::fields_of;
use crate::plan::{Place, ReadDocumentError};

pub use limits::Limits;

const DAY: Millis = Millis::from_secs(24 * 60 * 60);

/// What `server.toml` holds.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Where to listen, `HOST:PORT`; every interface, port 7600. Port 0 takes a free one.
    pub listen: String,
    /// How administrators come in.
    pub admin: AdminSettings,
    /// Whose certificates clients may come with.
    pub tls: TlsSettings,
    /// What clients may use.
    pub limits: Limits,
    /// How clients are admitted.
    pub enrolment: EnrolmentSettings,
    /// What a merge may use.
    pub merge: MergeSettings,
}

/// How administrators come in.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct AdminSettings {
    /// Where to listen for them, `HOST:PORT`; a free port of this machine alone. TLS and their certificates are needed there, too.
    pub listen: String,
}

impl Default for AdminSettings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:0".to_owned(),
        }
    }
}

/// Whose certificates clients may come with, beside the federation's own authority's.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct TlsSettings {
    /// Certificates of an authority that the site has already, PEM, seen from the server's directory: whoever has one of it takes part
    /// without a token. None by default.
    pub client_ca: Option<PathBuf>,
    /// What that authority has taken back, PEM.
    pub client_crl: Option<PathBuf>,
    /// Which names of its certificates name clients: `dns:*.wards.example`, `uri:spiffe://site/*`, `email:*@site.example`.
    pub client_names: Vec<NamePattern>,
    /// What its clients are labelled with, beside the labels of their certificates, and above them.
    pub client_labels: Labels,
    /// Whether a person has to approve each of its clients before it takes part.
    pub require_approval: bool,
}

/// How clients are admitted.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct EnrolmentSettings {
    /// How long a client's certificate is valid; 24 hours. It is renewed when two thirds of that are over.
    pub certificate_life: Millis,
    /// For how long after its certificate has ended a client may come back and renew it; 30 days. After that it enrols again.
    pub absence: Millis,
    /// How far a client's clock may be off; 5 minutes.
    pub clock_skew: Millis,
}

/// What a merge may use.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct MergeSettings {
    /// Memory of a merge; 512 MiB. Less makes blocks smaller, and never another result.
    pub memory: ByteSize,
    /// Threads of a merge; 0 takes all cores, which is the default.
    pub threads: usize,
    /// Rounds for which the updates are kept after their own, so that a merge can be repeated; 3.
    pub keep_updates: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: "0.0.0.0:7600".to_owned(),
            admin: AdminSettings::default(),
            tls: TlsSettings::default(),
            limits: Limits::default(),
            enrolment: EnrolmentSettings::default(),
            merge: MergeSettings::default(),
        }
    }
}

impl Default for EnrolmentSettings {
    fn default() -> Self {
        Self {
            certificate_life: DAY,
            absence: Millis::new(30 * DAY.get()),
            clock_skew: Millis::from_secs(5 * 60),
        }
    }
}

impl Default for MergeSettings {
    fn default() -> Self {
        Self {
            memory: ByteSize::from_mebibytes(512),
            threads: 0,
            keep_updates: 3,
        }
    }
}

/// Why a server's settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadSettingsError {
    /// The file cannot be read or understood.
    #[error(transparent)]
    Document(#[from] ReadDocumentError),
    /// A value is outside its range.
    #[error("{place}: `{key}` is {found}, it must be {expected}")]
    OutOfRange {
        /// The file.
        place: Place,
        /// The key, with its table.
        key: &'static str,
        /// What the file says.
        found: String,
        /// What is possible.
        expected: &'static str,
    },
}

impl From<ReadSettingsError> for Failure {
    fn from(error: ReadSettingsError) -> Self {
        match error {
            ReadSettingsError::Document(error) => error.into(),
            ReadSettingsError::OutOfRange { .. } => {
                Self::from_error(ExitCode::BadConfiguration, &error)
            }
        }
    }
}

/// A value, whether it is possible, and what would be.
struct Check {
    key: &'static str,
    found: String,
    holds: bool,
    expected: &'static str,
}

fn check(key: &'static str, found: impl ToString, holds: bool, expected: &'static str) -> Check {
    Check {
        key,
        found: found.to_string(),
        holds,
        expected,
    }
}

impl Settings {
    /// Reads `server.toml`.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn read(directory: &ServerDirectory) -> Result<Self, ReadSettingsError> {
        Self::of(&Document::read(&directory.settings())?)
    }

    fn of(document: &Document) -> Result<Self, ReadSettingsError> {
        document.refuse_unknown_keys(&[
            KnownTable::new("", fields_of::<Self>()),
            KnownTable::new("admin", fields_of::<AdminSettings>()),
            KnownTable::new("tls", fields_of::<TlsSettings>()),
            KnownTable::new("limits", fields_of::<Limits>()),
            KnownTable::new("enrolment", fields_of::<EnrolmentSettings>()),
            KnownTable::new("merge", fields_of::<MergeSettings>()),
        ])?;
        let settings: Self = document.values()?;
        match settings.checks().into_iter().find(|check| !check.holds) {
            None => Ok(settings),
            Some(check) => Err(ReadSettingsError::OutOfRange {
                place: document.whole(),
                key: check.key,
                found: check.found,
                expected: check.expected,
            }),
        }
    }

    fn checks(&self) -> Vec<Check> {
        let EnrolmentSettings {
            certificate_life: life,
            absence,
            clock_skew: skew,
        } = self.enrolment;
        let MergeSettings {
            memory,
            threads,
            keep_updates: _,
        } = self.merge;
        let is_life = life >= Millis::from_secs(1) && life <= Millis::new(3650 * DAY.get());
        let mut checks = self.limits.checks();
        checks.extend(self.tls.checks());
        checks.extend([
            check(
                "admin.listen",
                format!("{:?}", self.admin.listen),
                is_address(&self.admin.listen),
                "HOST:PORT, such as \"127.0.0.1:7601\"",
            ),
            check(
                "listen",
                format!("{:?}", self.listen),
                is_address(&self.listen),
                "HOST:PORT, such as \"0.0.0.0:7600\"",
            ),
            check(
                "enrolment.certificate_life",
                life,
                is_life,
                "from 1s to 3650d",
            ),
            check(
                "enrolment.absence",
                absence,
                absence <= Millis::new(3650 * DAY.get()),
                "at most 3650d",
            ),
            check("enrolment.clock_skew", skew, skew <= DAY, "at most 24h"),
            check("merge.memory", memory, memory.get() > 0, "at least 1 byte"),
            check(
                "merge.threads",
                threads,
                threads <= MOST_THREADS.into(),
                "at most 1024, or 0 for all cores",
            ),
        ]);
        checks
    }
}

impl TlsSettings {
    fn checks(&self) -> Vec<Check> {
        let has_authority = self.client_ca.is_some();
        let is_idle = self.client_crl.is_none()
            && self.client_names.is_empty()
            && self.client_labels.is_empty()
            && !self.require_approval;
        let mut labels = self.client_labels.iter();
        let label = labels.find(|(key, value)| check_label(key, value).is_err());
        vec![
            check(
                "tls.client_ca",
                "missing",
                has_authority || is_idle,
                "there for the other keys of [tls] to mean something",
            ),
            check(
                "tls.client_names",
                "empty",
                !has_authority || !self.client_names.is_empty(),
                "at least one pattern, such as [\"dns:*.wards.example\"]: without one nobody is named",
            ),
            check(
                "tls.client_labels",
                label.map_or_else(String::new, |(key, value)| format!("{key} = {value:?}")),
                label.is_none(),
                "of letters, digits and `. _ -`, in values also `: / @`, 63 at most",
            ),
        ]
    }
}

fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let has_plain_host = !host.is_empty() && !host.contains([':', '/', ' ', '[', ']']);
        let bracketed = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let is_version_6 = bracketed.is_some_and(|host| host.parse::<Ipv6Addr>().is_ok());
        (has_plain_host || is_version_6) && port.parse::<u16>().is_ok()
    })
}
