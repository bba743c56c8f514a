//! `federation.toml` as it is written: optional values and names that nobody has judged yet.
//!
//! Every key of the file is a field here, and only here. Names keep their place in the text, so that a wrong one can be
//! pointed at. Unknown keys are refused before these types are read, hence no `deny_unknown_fields`.

use std::path::PathBuf;

use fedmerge_common::ids::FederationName;
use fedmerge_common::units::{ByteSize, Millis};
use serde::Deserialize;
use toml::Spanned;

use super::document::KnownTable;
use super::fields::fields_of;
use super::merge;

/// Keys at the top that a later version will know.
const PLANNED_TOP: &[&str] = &["evaluate"];

/// Keys of `[merge]` that a later version will know.
const PLANNED_MERGE: &[&str] = &[
    "rescale",
    "gamma",
    "epsilon",
    "t",
    "nu",
    "iterations",
    "radius",
    "size",
    "compat",
];

/// The whole file.
#[derive(Debug, Deserialize)]
pub(super) struct PlanFile {
    pub(super) name: Option<FederationName>,
    pub(super) base: Option<PathBuf>,
    #[serde(default)]
    pub(super) round: RoundTable,
    #[serde(default)]
    pub(super) merge: MergeTable,
    #[serde(default)]
    pub(super) update: UpdateTable,
}

/// `[round]`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RoundTable {
    pub(super) count: Option<u64>,
    pub(super) cohort: CohortTable,
    pub(super) quorum: Option<usize>,
    pub(super) deadline: Option<Millis>,
    pub(super) grace: Option<Millis>,
}

/// `cohort` of `[round]`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CohortTable {
    pub(super) target: Option<usize>,
    pub(super) fraction: Option<f64>,
    pub(super) over_select: Option<f64>,
}

/// `[merge]`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct MergeTable {
    pub(super) method: Option<Spanned<String>>,
    pub(super) tolerate: usize,
    pub(super) before: Vec<Spanned<BeforeTable>>,
    pub(super) weight: Option<Spanned<String>>,
    pub(super) lambda: Option<f64>,
    pub(super) density: Option<Spanned<f64>>,
    pub(super) scope: Option<Spanned<String>>,
    pub(super) elect: Option<Spanned<String>>,
    pub(super) normalize: Option<Spanned<bool>>,
    pub(super) freeze: Vec<Spanned<String>>,
    pub(super) seed: u64,
    pub(super) optimizer: Option<Spanned<OptimizerTable>>,
}

/// An element of `before` of `[merge]`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct BeforeTable {
    pub(super) method: Option<Spanned<String>>,
    pub(super) norm: Option<Spanned<Norm>>,
}

/// `norm` of a clip.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "expected a number or \"median\"")]
pub(super) enum Norm {
    Number(f64),
    Name(String),
}

/// `optimizer` of `[merge]`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct OptimizerTable {
    pub(super) method: Option<Spanned<String>>,
}

/// `[update]`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct UpdateTable {
    pub(super) encodings: Option<Vec<Spanned<String>>>,
    pub(super) max_bytes: Option<ByteSize>,
}

/// Every table of the file with its keys.
pub(super) fn tables() -> [KnownTable; 7] {
    [
        KnownTable {
            planned: PLANNED_TOP,
            planned_hint: "remove the table: this version publishes every merge",
            ..KnownTable::new("", fields_of::<PlanFile>())
        },
        KnownTable::new("round", fields_of::<RoundTable>()),
        KnownTable::new("round.cohort", fields_of::<CohortTable>()),
        KnownTable {
            planned: PLANNED_MERGE,
            planned_hint: "remove it: no merge method of this version has it",
            planned_methods: merge::METHODS.planned,
            ..KnownTable::new("merge", fields_of::<MergeTable>())
        },
        KnownTable {
            planned_methods: merge::STAGES.planned,
            ..KnownTable::new("merge.before", fields_of::<BeforeTable>())
        },
        KnownTable {
            planned_methods: merge::OPTIMIZERS.planned,
            ..KnownTable::new("merge.optimizer", fields_of::<OptimizerTable>())
        },
        KnownTable::new("update", fields_of::<UpdateTable>()),
    ]
}
