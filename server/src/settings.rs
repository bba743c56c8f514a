//! The settings of one server: `server.toml`, read once into types that cannot be wrong.
//!
//! Settings bound what the server spends on others, and never change what a merge computes. Every key has a default; a
//! limit of zero would refuse everyone, so it is refused itself.

#[cfg(test)]
mod tests;

use std::net::Ipv6Addr;

use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::units::{ByteSize, Millis};
use serde::Deserialize;

use crate::compute::MOST_THREADS;
use crate::directory::ServerDirectory;
use crate::plan::document::{Document, KnownTable};
use crate::plan::fields::fields_of;
use crate::plan::{Place, ReadDocumentError};

const DAY: Millis = Millis::from_secs(24 * 60 * 60);

/// What `server.toml` holds.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Where to listen, `HOST:PORT`; every interface, port 7600. Port 0 takes a free one.
    pub listen: String,
    /// How administrators come in.
    pub admin: AdminSettings,
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

/// What clients may use: each limit keeps a hostile or broken client from harming the others.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Enrolled clients; 10,000. Bounds the ledger and the tables of rounds.
    pub clients: usize,
    /// Open connections; 2,000. Each costs a file descriptor and its windows.
    pub connections: usize,
    /// Peers that have shown no certificate, those in a handshake among them; 256. They are open to anyone: over the limit, the oldest of
    /// the address that has the most of them makes room.
    pub strangers: usize,
    /// Calls that a client makes in a second, in the long run, and an address from which machines enrol; 200. Five times as many are taken at once; more are told when to come
    /// back. A round takes a client about ten.
    pub calls: u32,
    /// Bytes of all incomplete uploads together; 16 GiB. Bounds the disk that clients can fill.
    pub staged_bytes: ByteSize,
    /// Uploads that are sent at the same time; 16. Each takes memory for what is on its way to the disk; whoever else wants to send is
    /// told when to come back.
    pub uploads: usize,
    /// Downloads that run at the same time; 64. Each takes memory for what is on its way to the wire; others wait their turn.
    pub downloads: usize,
    /// Rounds in a row in which a client's update may be rejected; 5. After that it is in quarantine until a person approves it.
    pub rejections: u32,
    /// Examples that an update may claim; 1,000,000,000. Bounds the weight that a claim can buy.
    pub examples: u64,
    /// Largest absolute value in a task vector; 1,000,000. Far above any training, and far from overflow.
    pub magnitude: f32,
    /// How many times as long as the median of the last merge an update may be; 100. What is more is no training any more.
    pub length: f64,
    /// Largest share of the base's weights that an update may put others in the place of, 0 to 1; 0.1. With 1 nothing is looked for.
    pub replaced: f64,
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
            limits: Limits::default(),
            enrolment: EnrolmentSettings::default(),
            merge: MergeSettings::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients: 10_000,
            connections: 2_000,
            strangers: 256,
            calls: 200,
            rejections: 5,
            staged_bytes: ByteSize::from_mebibytes(16 * 1024),
            uploads: 16,
            downloads: 64,
            examples: 1_000_000_000,
            magnitude: 1e6,
            length: 100.0,
            replaced: 0.1,
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

impl Limits {
    /// Upper ends are far above any use; they keep absurd numbers from overflowing where they are used.
    fn checks(&self) -> Vec<Check> {
        let is_magnitude = self.magnitude > 0.0 && self.magnitude.is_finite();
        let is_examples = (1..=1_000_000_000_000).contains(&self.examples);
        let count = |key, number: usize| {
            let holds = (1..=1_000_000).contains(&number);
            check(key, number, holds, "from 1 to 1000000")
        };
        vec![
            count("limits.clients", self.clients),
            count("limits.connections", self.connections),
            count("limits.strangers", self.strangers),
            count("limits.calls", self.calls as usize),
            count("limits.rejections", self.rejections as usize),
            count("limits.uploads", self.uploads),
            count("limits.downloads", self.downloads),
            check(
                "limits.staged_bytes",
                self.staged_bytes,
                self.staged_bytes.get() > 0,
                "at least 1 byte",
            ),
            check(
                "limits.examples",
                self.examples,
                is_examples,
                "from 1 to 1000000000000",
            ),
            check(
                "limits.magnitude",
                self.magnitude,
                is_magnitude,
                "over 0 and finite",
            ),
            check(
                "limits.length",
                self.length,
                self.length >= 1.0,
                "at least 1; inf is no limit",
            ),
            check(
                "limits.replaced",
                self.replaced,
                (0.0..=1.0).contains(&self.replaced),
                "a share, from 0 to 1",
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
