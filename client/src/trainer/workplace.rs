//! The directory of one round's training: what the trainer is given, where it writes, what it printed.
//!
//! Only the newest round's directory is kept: enough to look at a failure, never a growing pile.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fedmerge_common::digest::Digest;
use fedmerge_common::ids::{ClientId, FederationName, ModelVersion, RoundNumber};
use fedmerge_common::task_vector::Encoding;
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
    /// Where the update is written before it leaves.
    pub update: PathBuf,
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
        match fs::remove_dir_all(work) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
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
            update: directory.join("update.safetensors"),
        }
    }
}

fn directory(round: RoundNumber) -> String {
    format!("round-{round}")
}
