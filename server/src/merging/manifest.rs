//! `fedmerge.json`: what a published model says about itself, beside its tensors.
//!
//! The JSON is a contract: fields are added, never renamed. It holds nothing that differs when the merge is repeated, so that
//! the same updates give the same bytes here too: no times, no paths. Only diagnostics depend on the memory of a merge: they are left
//! out where they do not fit.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use fedmerge_common::checkpoint::{Checkpoint, ReadCheckpointError};
use fedmerge_common::digest::Digest;
use fedmerge_common::ids::{ClientId, FederationName, ModelVersion, RoundNumber};
use fedmerge_common::rollback::Rollback;
use fedmerge_merge::MergeReport;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::updates::Ordered;
use crate::files;
use crate::privacy::PrivacyStory;

/// The version of this form.
pub const FORMAT: u32 = 1;

/// What a published model says about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this form.
    pub format: u32,
    /// The federation.
    pub federation: FederationName,
    /// The model's version, from 0.
    pub version: ModelVersion,
    /// Digest of `model.safetensors`.
    pub digest: Digest,
    /// Its size, bytes.
    pub size_bytes: u64,
    /// Digest of each tensor's bytes, by name: what a client has already need not travel again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tensors: BTreeMap<String, Digest>,
    /// That it is an older model again, where it is one: what follows is then that model's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<RollbackStory>,
    /// How it came about; absent for the model the federation began with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge: Option<MergeStory>,
}

/// Digest of each tensor's bytes, by name.
///
/// # Errors
/// When the checkpoint cannot be read.
pub fn tensors(checkpoint: &Checkpoint) -> Result<BTreeMap<String, Digest>, ReadCheckpointError> {
    let tensors = checkpoint.schema().tensors().iter().enumerate();
    tensors
        .map(|(position, tensor)| {
            let digest = checkpoint.digest_of(position)?;
            Ok((tensor.name().to_owned(), digest))
        })
        .collect()
}

/// How an older model became the base again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackStory {
    /// The first version that had this content: the model before it is the one that it was merged from.
    pub origin: ModelVersion,
    /// What the federation's authority signed.
    #[serde(flatten)]
    pub signed: Rollback,
}

/// How a merge went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MergeStory {
    /// The round.
    pub round: RoundNumber,
    /// The base that the round started from.
    pub parent: Digest,
    /// The stages, as in a plan's `[merge]`.
    pub recipe: serde_json::Value,
    /// The plan's seed.
    pub seed: u64,
    /// Euclidean length of the step that was taken.
    pub step_norm: f64,
    /// The length to which an adaptive clip will shorten in the next merge of the lineage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_limit: Option<f64>,
    /// The optimizer's memory after this merge, where the recipe has an optimizer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optimizer: Option<OptimizerStory>,
    /// The updates that were merged, in the order of their digests.
    pub updates: Vec<MergedUpdate>,
    /// What the merge noticed about the updates and how they fit together.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub diagnostics: serde_json::Value,
    /// What the merge leaves of the clients' privacy, where the plan promises some. Then all that was seen of single updates is left out
    /// above, and `step_norm` is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privacy: Option<PrivacyStory>,
}

/// What an optimizer remembers, beside the model in `optimizer.safetensors`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptimizerStory {
    /// The optimizer, as in a plan.
    pub method: String,
    /// How many steps it remembers, this one included.
    pub steps: u64,
    /// Digest of the file.
    pub digest: Digest,
}

/// An update that was merged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MergedUpdate {
    /// Who sent it.
    pub client: ClientId,
    /// Digest of its payload.
    pub digest: Digest,
    /// Training examples, as the client declared them.
    pub num_examples: u64,
    /// The round whose task it answers, where that is an earlier one than the merge's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_round: Option<RoundNumber>,
    /// By how many versions its base is older than the merge's: the task vector was multiplied by `1/√(1 + staleness)`.
    #[serde(default, skip_serializing_if = "is_fresh")]
    pub staleness: u64,
    /// Euclidean length of the task vector after that, where the merge had to know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norm: Option<f64>,
    /// The factor by which it was shortened before the merge, 0 to 1.
    pub clip_factor: f64,
    /// The factor with which it is in the merged task vector, or nearly so where the method decides coordinate by coordinate.
    #[serde(default)]
    pub weight: f64,
    /// Its share of the weight, 0 to 1.
    pub weight_share: f64,
}

/// What the model in a directory says about itself, or as much of it as `T` takes; nothing where the file is not there.
///
/// # Errors
/// When it is there and cannot be read, or is none.
pub fn read<T: DeserializeOwned>(model: &Path) -> io::Result<Option<T>> {
    match fs::read(model.join(files::MANIFEST)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => Ok(Some(serde_json::from_slice(&read?)?)),
    }
}

impl Manifest {
    /// The first version that had this model's content.
    #[must_use]
    pub fn origin(&self) -> ModelVersion {
        let rollback = self.rollback.as_ref();
        rollback.map_or(self.version, |rollback| rollback.origin)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_fresh(staleness: &u64) -> bool {
    *staleness == 0
}

impl MergedUpdate {
    /// The updates of a merge with what the engine saw of each, in the same order.
    pub(super) fn list(round: RoundNumber, updates: &[Ordered], report: &MergeReport) -> Vec<Self> {
        let seen = updates.iter().zip(&report.clients);
        seen.map(|(Ordered { client, counted }, seen)| Self {
            client: client.clone(),
            digest: counted.update.payload,
            num_examples: counted.update.num_examples,
            task_round: Some(counted.round).filter(|task_round| *task_round != round),
            staleness: counted.staleness,
            norm: seen.norm,
            clip_factor: seen.clip_factor,
            weight: seen.weight,
            weight_share: seen.weight_share,
        })
        .collect()
    }
}
