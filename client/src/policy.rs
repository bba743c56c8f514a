//! What this site lets out: `policy.toml` in the client's directory. Every update passes here before a byte of it leaves.
//!
//! The site's word is final: the server is told which rule an update broke, and no plan overrules it. Without the file a site lets
//! out what fits the plan. There is no rule against commands from the server, because it cannot send any: what trains and what
//! evaluates is said on the site's own command line alone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::reason::{Decline, DeclineKind};
use fedmerge_common::schema::Schema;
use fedmerge_common::task_vector::coded::{ReadTaskVectorError, TaskVector};
use fedmerge_common::task_vector::private::LocalNoise;
use fedmerge_common::units::ByteSize;
use fedmerge_common::update::UpdateHeader;
use serde::Deserialize;
use wildmatch::WildMatch;

use crate::link::address::ServerAddress;
use crate::submission::with_sources;

/// Values that are read at once.
const BLOCK_ELEMENTS: usize = 64 * 1024;

/// What this site lets out. Patterns know `*` for any characters and `?` for one.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Tensors that never leave, by pattern: updates leave them out, which counts as no change.
    pub withhold: Vec<String>,
    /// Largest update, which is what a round sends at most; none means the plan's limit alone.
    pub max_bytes: Option<ByteSize>,
    /// Largest Euclidean length of what is sent of a task vector; none means any.
    pub max_norm: Option<f64>,
    /// Least noise that updates carry, as a multiple of the length to which they are clipped; none lets out what has none.
    pub min_noise: Option<f64>,
    /// Servers that this site speaks with, `HOST:PORT` by pattern; none means any.
    pub servers: Option<Vec<String>>,
}

/// Why a policy cannot be obeyed.
#[derive(Debug, thiserror::Error)]
pub enum ReadPolicyError {
    /// The file is there and cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is no policy.
    #[error("{} is not a policy", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A number that makes no sense.
    #[error("{}: `{key}` is {found}, it must be a number from 0 up", path.display())]
    Number {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What it says.
        found: f64,
    },
}

impl From<ReadPolicyError> for Failure {
    fn from(error: ReadPolicyError) -> Self {
        Self::from_error(ExitCode::BadConfiguration, &error).with_hint(
            "nothing leaves this site before its policy is understood; the README has an example",
        )
    }
}

fn matches(patterns: &[String], text: &str) -> bool {
    let mut patterns = patterns.iter();
    patterns.any(|pattern| WildMatch::new(pattern).matches(text))
}

impl Policy {
    /// Reads a site's policy; without a file everything that fits the plan may leave.
    ///
    /// # Errors
    /// When the file is there and is no policy.
    pub fn read(path: &Path) -> Result<Self, ReadPolicyError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => {
                let path = path.to_owned();
                return Err(ReadPolicyError::Read { path, source });
            }
        };
        let policy: Self = toml::from_str(&text).map_err(|source| ReadPolicyError::Parse {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        for (key, number) in [
            ("max_norm", policy.max_norm),
            ("min_noise", policy.min_noise),
        ] {
            if let Some(found) = number.filter(|found| !found.is_finite() || *found < 0.0) {
                let path = path.to_owned();
                return Err(ReadPolicyError::Number { path, key, found });
            }
        }
        Ok(policy)
    }

    /// Refuses a server that the site does not speak with.
    ///
    /// # Errors
    /// The failure that ends the command.
    pub fn check_server(&self, server: &ServerAddress) -> Result<(), Failure> {
        let address = server.authority();
        match &self.servers {
            Some(servers) if !matches(servers, &address) => {
                let message = format!("this site's policy does not allow the server at {address}");
                Err(Failure::new(ExitCode::NotPermitted, message)
                    .with_hint("`servers` in policy.toml lists those that it allows"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Refuses a task whose plan asks for less noise than the site wants on what it sends.
    ///
    /// # Errors
    /// The decline that says so.
    pub fn check_noise(&self, noise: Option<&LocalNoise>) -> Result<(), Decline> {
        let Some(least) = self.min_noise else {
            return Ok(());
        };
        let multiplier = noise.map_or(0.0, LocalNoise::multiplier);
        if multiplier >= least {
            return Ok(());
        }
        Err(forbidden(format!(
            "the plan asks for noise of {multiplier} times the clip, this site's policy wants at least {least}"
        )))
    }

    /// Whether a tensor never leaves.
    #[must_use]
    pub fn withholds(&self, tensor: &str) -> bool {
        matches(&self.withhold, tensor)
    }

    /// Judges an update that is ready to leave, whose payload is at `payload` and whose base has the tensors of `base`.
    ///
    /// # Errors
    /// The decline that says which rule forbids it.
    pub fn check(
        &self,
        header: &UpdateHeader,
        server_limit: ByteSize,
        payload: &Path,
        base: &Schema,
    ) -> Result<(), Decline> {
        let size = ByteSize::new(header.payload_bytes);
        let refused = |whose: &str, limit: ByteSize| {
            forbidden(format!(
                "the update has {} bytes ({size}), {whose} at most {} ({limit})",
                size.get(),
                limit.get()
            ))
        };
        if size > server_limit {
            return Err(refused("the server accepts", server_limit));
        }
        if let Some(limit) = self.max_bytes.filter(|limit| size > *limit) {
            return Err(refused("this site's policy allows", limit));
        }
        let Some(limit) = self.max_norm else {
            return Ok(());
        };
        let norm = norm(payload, base).map_err(|error| {
            let words = with_sources("the update cannot be read back", &error);
            Decline::new(DeclineKind::Storage, words)
        })?;
        // What is no number is no length that is allowed.
        if norm <= limit {
            return Ok(());
        }
        Err(forbidden(format!(
            "the update's length is {norm:.4}, this site's policy allows at most {limit}"
        )))
    }
}

fn forbidden(detail: String) -> Decline {
    Decline::new(DeclineKind::Policy, detail)
}

/// Euclidean length of all that a task vector says.
fn norm(payload: &Path, base: &Schema) -> Result<f64, ReadTaskVectorError> {
    let vector = TaskVector::open(payload, base)?;
    let mut square = 0.0;
    for (tensor, spec) in vector.schema().iter().enumerate() {
        let mut block = vec![0.0; BLOCK_ELEMENTS.min(spec.elements())];
        for begin in (0..spec.elements()).step_by(BLOCK_ELEMENTS) {
            let length = BLOCK_ELEMENTS.min(spec.elements() - begin);
            let values = &mut block[..length];
            vector.read_f32(tensor, begin, values)?;
            let squares = values.iter().map(|value| f64::from(*value).powi(2));
            square += squares.sum::<f64>();
        }
    }
    Ok(square.sqrt())
}

#[cfg(test)]
mod tests;
