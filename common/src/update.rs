//! What travels about models and updates, apart from their bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::ids::{ModelVersion, RoundNumber};
use crate::task_vector::Encoding;

/// Names a published model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ModelRef {
    /// Its version, counted from 0.
    pub version: ModelVersion,
    /// Digest of its whole safetensors file.
    pub digest: Digest,
    /// Size of its safetensors file, bytes.
    pub size_bytes: u64,
}

impl ModelRef {
    /// The line by which an authority names the model in what it signs: `model VERSION DIGEST BYTES`.
    pub(crate) fn signed_line(&self) -> String {
        let Self {
            version,
            digest,
            size_bytes,
        } = self;
        format!("model {version} {digest} {size_bytes}")
    }
}

/// An update without its payload: what a client says about the task vector it submits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UpdateHeader {
    /// The round the update is for.
    pub round: RoundNumber,
    /// Digest of the base that was subtracted.
    pub base: Digest,
    /// How the task vector became bytes.
    pub encoding: Encoding,
    /// Digest of the payload.
    pub payload: Digest,
    /// Size of the payload, bytes.
    pub payload_bytes: u64,
    /// Training examples used: the update's weight where the plan weighs by examples.
    pub num_examples: u64,
    /// The trainer's metrics by name, for example `loss`.
    pub metrics: BTreeMap<String, f64>,
}
