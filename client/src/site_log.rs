//! The site's log of all that leaves it: `site-log.jsonl`, one JSON object a line, never rewritten.
//!
//! A line is on disk before the first byte that it tells of is sent, and what cannot be written here is not sent: instead of a verdict
//! or a refusal nothing is said then but that. A line that broke off, on a full disk or in a crash, does not spoil the one after it. An
//! update that is sent again, after a loss or by a later process, has a line for each beginning. Signs of life (progress and loss of a
//! training) have none.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use fedmerge_common::checkpoint::{Checkpoint, ReadCheckpointError};
use fedmerge_common::clock::Clock;
use fedmerge_common::digest::Digest;
use fedmerge_common::ids::RoundNumber;
use fedmerge_common::reason::Decline;
use fedmerge_common::schema::{Schema, TensorSpec};
use fedmerge_common::task_vector::Encoding;
use fedmerge_common::update::UpdateHeader;
use fedmerge_proto::convert::evaluation::EvaluationReport;
use serde::Serialize;

/// A site's log.
#[derive(Clone, Debug)]
pub struct SiteLog {
    path: PathBuf,
    clock: Clock,
}

/// What leaves. Its JSON is a contract: fields are added, never renamed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Departure {
    /// An update, with every tensor that is in it.
    Update {
        /// The round that it is for.
        round: RoundNumber,
        /// Digest of the base that it was trained from.
        base: Digest,
        /// How it is encoded.
        encoding: Encoding,
        /// Digest of its payload.
        digest: Digest,
        /// Size of its payload.
        bytes: u64,
        /// Training examples, as the trainer said.
        num_examples: u64,
        /// What else the trainer said.
        metrics: BTreeMap<String, f64>,
        /// The tensors in it.
        tensors: Vec<SentTensor>,
    },
    /// How good a candidate is on this site's data.
    Evaluation {
        /// The round that made the candidate.
        round: RoundNumber,
        /// The metric of the base.
        before: f64,
        /// The metric of the candidate.
        after: f64,
        /// Examples it was measured on.
        num_examples: u64,
    },
    /// Why the site does not do what it was asked.
    Decline {
        /// The round.
        round: RoundNumber,
        /// Code and words, as the server and its operator see them.
        reason: String,
    },
}

/// A tensor of an update.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SentTensor {
    /// Its name.
    pub name: String,
    /// Its shape in the model.
    pub shape: Vec<usize>,
    /// What it takes in the payload.
    pub bytes: u64,
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    #[serde(flatten)]
    departure: &'a Departure,
}

impl Departure {
    /// An update whose payload is at `payload`. Its tensors have the shapes of the base, where that is known; without it those of an
    /// encoded one are told as the rows of bytes that they are.
    ///
    /// # Errors
    /// When the payload cannot be read.
    pub fn update(
        header: &UpdateHeader,
        payload: &Path,
        base: Option<&Schema>,
    ) -> Result<Self, ReadCheckpointError> {
        let payload = Checkpoint::open(payload)?;
        let tensors = payload.schema().iter().map(|sent| SentTensor {
            name: sent.name().to_owned(),
            shape: shape_of(sent, base),
            bytes: sent.byte_len(),
        });
        Ok(Self::Update {
            round: header.round,
            base: header.base,
            encoding: header.encoding,
            digest: header.payload,
            bytes: header.payload_bytes,
            num_examples: header.num_examples,
            metrics: header.metrics.clone(),
            tensors: tensors.collect(),
        })
    }
}

fn shape_of(sent: &TensorSpec, base: Option<&Schema>) -> Vec<usize> {
    let original = base.and_then(|base| base.get(sent.name()));
    original.unwrap_or(sent).shape().to_vec()
}

impl From<(RoundNumber, &Decline)> for Departure {
    fn from((round, decline): (RoundNumber, &Decline)) -> Self {
        Self::Decline {
            round,
            reason: decline.to_string(),
        }
    }
}

impl From<&EvaluationReport> for Departure {
    fn from(report: &EvaluationReport) -> Self {
        match &report.outcome {
            Ok(comparison) => Self::Evaluation {
                round: report.round,
                before: comparison.before,
                after: comparison.after,
                num_examples: comparison.num_examples,
            },
            Err(decline) => Self::from((report.round, decline)),
        }
    }
}

impl SiteLog {
    /// The log at `path`, whether it is there or not.
    #[must_use]
    pub fn new(path: PathBuf, clock: Clock) -> Self {
        Self { path, clock }
    }

    /// Adds a line, and answers when it is on disk.
    ///
    /// # Errors
    /// When it cannot be written: then what it tells of must not leave.
    pub fn add(&self, departure: &Departure) -> io::Result<()> {
        let time = self.clock.now().to_string();
        let mut line = serde_json::to_vec(&Line { time, departure })?;
        line.push(b'\n');
        let mut options = File::options();
        let mut file = options
            .create(true)
            .read(true)
            .append(true)
            .open(&self.path)?;
        let before = file.metadata()?.len();
        if !ends_a_line(&file, before)? {
            line.insert(0, b'\n');
        }
        let written = file.write_all(&line).and_then(|()| file.sync_data());
        if written.is_err() {
            // What was not sent has no line, and no half of one.
            file.set_len(before)?;
        }
        written
    }
}

fn ends_a_line(file: &File, length: u64) -> io::Result<bool> {
    let Some(last) = length.checked_sub(1) else {
        return Ok(true);
    };
    let mut byte = [0];
    file.read_exact_at(&mut byte, last)?;
    Ok(byte == *b"\n")
}

#[cfg(test)]
mod tests;
