//! `fedmerge.json`: what a published model says about itself, beside its tensors.
//!
//! The JSON is a contract: fields are added, never renamed. It holds nothing that differs when the merge is repeated, so that
//! the same updates give the same bytes here too: no times, no paths.

use fedmerge_common::digest::Digest;
use fedmerge_common::ids::{ClientId, FederationName, ModelVersion, RoundNumber};
use fedmerge_merge::{Before, ClipNorm, Elect, MergeReport, Method, Recipe, TrimScope};
use serde::{Deserialize, Serialize};

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
    /// How it came about; absent for the model the federation began with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge: Option<MergeStory>,
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
    /// The updates that were merged, in the order of their digests.
    pub updates: Vec<MergedUpdate>,
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
    /// Euclidean length of the task vector as submitted.
    pub norm: f64,
    /// The factor by which it was shortened before the merge, 0 to 1.
    pub clip_factor: f64,
    /// Its share of the weight, 0 to 1.
    pub weight_share: f64,
}

impl MergedUpdate {
    /// The updates of a merge with what the engine saw of each, in the same order.
    pub(super) fn list(updates: &[super::Ordered], report: &MergeReport) -> Vec<Self> {
        let seen = updates.iter().zip(&report.clients);
        seen.map(|(update, seen)| Self {
            client: update.client.clone(),
            digest: update.update.payload,
            num_examples: update.update.num_examples,
            norm: seen.norm,
            clip_factor: seen.clip_factor,
            weight_share: seen.weight_share,
        })
        .collect()
    }
}

/// A recipe in the words of a plan's `[merge]`.
pub(super) fn recipe_in_words(recipe: &Recipe) -> serde_json::Value {
    let before: Vec<_> = recipe.before.iter().map(before_in_words).collect();
    let mut words = serde_json::json!({
        "method": recipe.method.name(),
        "before": before,
        "lambda": recipe.lambda,
    });
    match recipe.method {
        Method::Mean | Method::Median => {}
        Method::TrimmedMean { tolerate } => words["tolerate"] = tolerate.into(),
        Method::TaskArithmetic { normalize } => words["normalize"] = normalize.into(),
        Method::Ties {
            density,
            scope,
            elect,
        } => {
            words["density"] = density.into();
            words["scope"] = match scope {
                TrimScope::Tensor => "tensor".into(),
                TrimScope::Model => "model".into(),
            };
            words["elect"] = match elect {
                Elect::Mass => "mass".into(),
                Elect::Count => "count".into(),
            };
        }
    }
    words
}

fn before_in_words(stage: &Before) -> serde_json::Value {
    let Before::Clip { norm } = stage;
    match norm {
        ClipNorm::Median => serde_json::json!({ "method": "clip", "norm": "median" }),
        ClipNorm::Fixed(norm) => serde_json::json!({ "method": "clip", "norm": norm }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_is_told_in_the_words_of_a_plan() {
        let recipe = Recipe {
            before: vec![Before::Clip {
                norm: ClipNorm::Median,
            }],
            method: Method::Ties {
                density: 0.25,
                scope: TrimScope::Model,
                elect: Elect::Count,
            },
            lambda: 1.0,
        };
        assert_eq!(
            recipe_in_words(&recipe).to_string(),
            r#"{"before":[{"method":"clip","norm":"median"}],"density":0.25,"elect":"count","lambda":1.0,"method":"ties","scope":"model"}"#
        );
        let recipe = Recipe::of(Method::TrimmedMean { tolerate: 2 });
        assert_eq!(
            recipe_in_words(&recipe).to_string(),
            r#"{"before":[],"lambda":1.0,"method":"trimmed-mean","tolerate":2}"#
        );
    }
}
