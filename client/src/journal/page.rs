//! The form of a journal: JSON with a version, everything in it checked when it is read.
//!
//! Metrics are text, because JSON's numbers lose a last bit and the server knows an update again by every bit of them.

use std::collections::BTreeMap;
use std::num::ParseFloatError;

use fedmerge_common::digest::Digest;
use fedmerge_common::ids::{ClientId, FederationName, RoundNumber};
use fedmerge_common::task_vector::Encoding;
use fedmerge_common::units::Millis;
use fedmerge_common::update::UpdateHeader;
use serde::{Deserialize, Serialize};

use crate::agent::Memory;
use crate::trainer::Trained;

/// The form that is written, and the only one that is read.
pub(super) const VERSION: u64 = 1;

/// Largest page, bytes: far more than the largest memory takes.
pub(super) const MAX_BYTES: u64 = 1024 * 1024;

/// What a journal says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Page {
    pub(super) federation: FederationName,
    pub(super) client: ClientId,
    pub(super) memory: Memory,
}

/// Bytes that are no page.
#[derive(Debug, thiserror::Error)]
pub enum ReadPageError {
    /// A newer version of the program wrote it.
    #[error("version {found} is newer than {VERSION}")]
    Newer {
        /// Its version.
        found: u64,
    },
    /// It is of no version that was ever written.
    #[error("there is no version {found}")]
    Version {
        /// Its version.
        found: u64,
    },
    /// It is longer than any page.
    #[error("it has more than {MAX_BYTES} bytes")]
    TooLong,
    /// It is not the JSON of a page.
    #[error("it is not what was written")]
    Json(#[from] serde_json::Error),
    /// A metric is no number.
    #[error("a metric is no number")]
    Metric(#[from] ParseFloatError),
}

/// What every version has.
#[derive(Deserialize)]
struct Edition {
    version: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u64,
    federation: FederationName,
    client: ClientId,
    round: RoundNumber,
    base: Digest,
    finished: Finished,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Finished {
    Training {
        num_examples: Option<u64>,
        metrics: BTreeMap<String, String>,
        elapsed_ms: u64,
    },
    Update {
        encoding: Encoding,
        payload: Digest,
        payload_bytes: u64,
        num_examples: u64,
        metrics: BTreeMap<String, String>,
    },
}

fn to_text(metrics: &BTreeMap<String, f64>) -> BTreeMap<String, String> {
    let metrics = metrics.iter();
    metrics
        .map(|(name, value)| (name.clone(), value.to_string()))
        .collect()
}

fn to_numbers(metrics: BTreeMap<String, String>) -> Result<BTreeMap<String, f64>, ParseFloatError> {
    let metrics = metrics.into_iter();
    metrics
        .map(|(name, value)| Ok((name, value.parse()?)))
        .collect()
}

impl Page {
    pub(super) fn to_json(&self) -> Vec<u8> {
        let finished = match &self.memory {
            Memory::Trained { trained, .. } => Finished::Training {
                num_examples: trained.num_examples,
                metrics: to_text(&trained.metrics),
                elapsed_ms: trained.elapsed.get(),
            },
            Memory::Prepared(header) => Finished::Update {
                encoding: header.encoding,
                payload: header.payload,
                payload_bytes: header.payload_bytes,
                num_examples: header.num_examples,
                metrics: to_text(&header.metrics),
            },
        };
        let stored = Stored {
            version: VERSION,
            federation: self.federation.clone(),
            client: self.client.clone(),
            round: self.memory.round(),
            base: self.memory.base(),
            finished,
        };
        let mut json = serde_json::to_vec_pretty(&stored).expect("every key is a string");
        json.push(b'\n');
        json
    }

    pub(super) fn read(json: &[u8]) -> Result<Self, ReadPageError> {
        if json.len() as u64 > MAX_BYTES {
            return Err(ReadPageError::TooLong);
        }
        match serde_json::from_slice::<Edition>(json)?.version {
            VERSION => {}
            found if found > VERSION => return Err(ReadPageError::Newer { found }),
            found => return Err(ReadPageError::Version { found }),
        }
        let stored: Stored = serde_json::from_slice(json)?;
        let (round, base) = (stored.round, stored.base);
        let memory = match stored.finished {
            Finished::Training {
                num_examples,
                metrics,
                elapsed_ms,
            } => Memory::Trained {
                round,
                base,
                trained: Trained {
                    num_examples,
                    metrics: to_numbers(metrics)?,
                    elapsed: Millis::new(elapsed_ms),
                },
            },
            Finished::Update {
                encoding,
                payload,
                payload_bytes,
                num_examples,
                metrics,
            } => Memory::Prepared(UpdateHeader {
                round,
                base,
                encoding,
                payload,
                payload_bytes,
                num_examples,
                metrics: to_numbers(metrics)?,
            }),
        };
        Ok(Self {
            federation: stored.federation,
            client: stored.client,
            memory,
        })
    }
}
