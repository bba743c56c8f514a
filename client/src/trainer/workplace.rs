//! The directory of one round's training, and of the evaluation after it: what a program is given, where it writes, what it printed.
//!
//! Only the newest round's directory is kept: enough to look at a failure, never a growing pile. What a crash left half
//! written in it is removed before it is written again.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use fedmerge_common::digest::Digest;
use fedmerge_common::ids::{ClientId, FederationName, ModelVersion, RoundNumber};
use fedmerge_common::task_vector::Encoding;
use fedmerge_common::update::ModelRef;
use fedmerge_proto::convert::evaluation::EvaluationRequest;
use serde::Serialize;

use crate::task::Task;

/// Paths a trainer works with.
#[derive(Clone, Debug)]
pub struct Workplace {
    /// The round.
    pub round: RoundNumber,
    /// The base, read-only: `FEDMERGE_BASE`.
    pub base: PathBuf,
    /// Where the fine-tuned checkpoint goes, absent before the trainer wrote it: `FEDMERGE_OUT`.
    pub out: PathBuf,
    /// The task as JSON: `FEDMERGE_CONFIG`.
    pub config: PathBuf,
    /// Everything the trainer printed, up to a bound.
    pub log: PathBuf,
    /// Where the update is written before it leaves, in a directory of its own.
    pub update: PathBuf,
    /// Where what the update cannot say is written, beside it.
    pub residual: PathBuf,
}

/// What `FEDMERGE_CONFIG` holds; fields may be added, never changed.
#[derive(Debug, Serialize)]
struct TrainerConfig<'a> {
    federation: &'a FederationName,
    client: &'a ClientId,
    round: RoundNumber,
    base: TrainerBase<'a>,
    out: &'a Path,
    deadline_ms: u64,
    encodings: &'a [Encoding],
}

#[derive(Debug, Serialize)]
struct TrainerBase<'a> {
    version: ModelVersion,
    digest: &'a Digest,
    path: &'a Path,
}

impl Workplace {
    /// Empties `work` and makes the directory of the task's round in it.
    ///
    /// # Errors
    /// The file system's, as the disk may be full.
    pub fn prepare(
        work: &Path,
        task: &Task,
        base: PathBuf,
        whose: (&FederationName, &ClientId),
    ) -> io::Result<Self> {
        remove_directory(work)?;
        let place = Self::of(work, task.round, base);
        fs::create_dir_all(work.join(directory(task.round)))?;
        let config = TrainerConfig {
            federation: whose.0,
            client: whose.1,
            round: task.round,
            base: TrainerBase {
                version: task.base.version,
                digest: &task.base.digest,
                path: &place.base,
            },
            out: &place.out,
            deadline_ms: task.deadline.get(),
            encodings: &task.encodings,
        };
        let json = serde_json::to_vec_pretty(&config).map_err(io::Error::other)?;
        fs::write(&place.config, json)?;
        Ok(place)
    }

    /// Makes durable what the trainer wrote, so that it outlives the machine as well as the client. A trainer that wrote
    /// nothing is not judged here.
    ///
    /// # Errors
    /// The file system's.
    pub fn make_durable(&self) -> io::Result<()> {
        if self.out.is_dir() {
            for entry in fs::read_dir(&self.out)? {
                File::open(entry?.path())?.sync_all()?;
            }
        }
        match File::open(&self.out) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            opened => {
                opened?.sync_all()?;
                self.out
                    .parent()
                    .map_or(Ok(()), |parent| File::open(parent)?.sync_all())
            }
        }
    }

    /// Makes an empty directory for the update.
    ///
    /// # Errors
    /// The file system's.
    pub fn clear_update(&self) -> io::Result<()> {
        let Some(directory) = self.update.parent() else {
            return Ok(());
        };
        remove_directory(directory)?;
        fs::create_dir_all(directory)
    }

    /// The paths of a round's directory, whether it is there or not.
    #[must_use]
    pub fn of(work: &Path, round: RoundNumber, base: PathBuf) -> Self {
        let directory = work.join(directory(round));
        Self {
            round,
            base,
            out: directory.join("out.safetensors"),
            config: directory.join("config.json"),
            log: directory.join("trainer.log"),
            update: directory.join("update").join("update.safetensors"),
            residual: directory.join("update").join("residual.safetensors"),
        }
    }
}

/// Paths an evaluator works with, in the directory of its round.
#[derive(Clone, Debug)]
pub struct EvaluationPlace {
    /// The round that produced the candidate.
    pub round: RoundNumber,
    /// The model to measure, read-only: `FEDMERGE_BASE`.
    pub model: PathBuf,
    /// What is measured as JSON: `FEDMERGE_CONFIG`.
    pub config: PathBuf,
    /// Everything the evaluator printed, up to a bound.
    pub log: PathBuf,
}

/// What `FEDMERGE_CONFIG` holds for an evaluator; fields may be added, never changed.
#[derive(Debug, Serialize)]
struct EvaluatorConfig<'a> {
    federation: &'a FederationName,
    client: &'a ClientId,
    round: RoundNumber,
    base: TrainerBase<'a>,
    metric: &'a str,
    deadline_ms: u64,
}

impl EvaluationPlace {
    /// Makes the files of one measurement beside those of the round's training.
    ///
    /// # Errors
    /// The file system's, as the disk may be full.
    pub fn prepare(
        work: &Path,
        request: &EvaluationRequest,
        (model, path): (&ModelRef, PathBuf),
        whose: (&FederationName, &ClientId),
    ) -> io::Result<Self> {
        let directory = work.join(directory(request.round));
        fs::create_dir_all(&directory)?;
        let name = format!("evaluation-{}", model.version);
        let place = Self {
            round: request.round,
            model: path,
            config: directory.join(format!("{name}.json")),
            log: directory.join(format!("{name}.log")),
        };
        let config = EvaluatorConfig {
            federation: whose.0,
            client: whose.1,
            round: request.round,
            base: TrainerBase {
                version: model.version,
                digest: &model.digest,
                path: &place.model,
            },
            metric: &request.metric,
            deadline_ms: request.deadline.get(),
        };
        let json = serde_json::to_vec_pretty(&config).map_err(io::Error::other)?;
        fs::write(&place.config, json)?;
        Ok(place)
    }
}

fn remove_directory(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn directory(round: RoundNumber) -> String {
    format!("round-{round}")
}
