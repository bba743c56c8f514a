//! `federation.toml` as it is written: optional values and names that nobody has judged yet.
//!
//! Every key of the file is a field here, and only here. Names keep their place in the text, so that a wrong one can be
//! pointed at. Unknown keys are refused before these types are read, hence no `deny_unknown_fields`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use fedmerge_common::ids::FederationName;
use fedmerge_common::units::{ByteSize, Millis};
use serde::Deserialize;
use toml::Spanned;

use super::document::KnownTable;
use super::fields::fields_of;
use super::merge;

/// The whole file.
#[derive(Debug, Deserialize)]
pub(super) struct PlanFile {
    pub(super) name: Option<FederationName>,
    pub(super) base: Option<PathBuf>,
    pub(super) keep: Option<KeepTable>,
    #[serde(default)]
    pub(super) round: RoundTable,
    #[serde(default)]
    pub(super) merge: MergeTable,
    #[serde(default)]
    pub(super) update: UpdateTable,
    pub(super) evaluate: Option<EvaluateTable>,
    pub(super) privacy: Option<Spanned<PrivacyTable>>,
}

/// `keep`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct KeepTable {
    pub(super) best: Option<usize>,
    pub(super) last: Option<Spanned<usize>>,
    pub(super) every: Option<u64>,
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
    pub(super) mode: Option<Spanned<String>>,
    pub(super) late: Option<Spanned<String>>,
    pub(super) max_staleness: Option<Spanned<u64>>,
    pub(super) allow_small_quorum: bool,
    pub(super) population: Option<PopulationTable>,
}

/// `population` of `[round]`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PopulationTable {
    pub(super) clients: usize,
    pub(super) hostile: usize,
    pub(super) risk: Option<f64>,
}

/// `cohort` of `[round]`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CohortTable {
    pub(super) target: Option<usize>,
    pub(super) fraction: Option<f64>,
    pub(super) over_select: Option<f64>,
    pub(super) labels: BTreeMap<String, String>,
}

/// `[merge]`: of a federation, and of a recipe for checkpoints on disk.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct MergeTable {
    pub(crate) method: Option<Spanned<String>>,
    pub(crate) tolerate: usize,
    pub(crate) before: Vec<Spanned<BeforeTable>>,
    pub(crate) sparsify: Option<Spanned<SparsifyTable>>,
    pub(crate) weight: Option<Spanned<String>>,
    pub(crate) max_weight: Option<Spanned<f64>>,
    pub(crate) lambda: Option<f64>,
    pub(crate) density: Option<Spanned<f64>>,
    pub(crate) normalize: Option<Spanned<bool>>,
    pub(crate) rescale: Option<Spanned<bool>>,
    pub(crate) gamma: Option<Spanned<f64>>,
    pub(crate) epsilon: Option<Spanned<f64>>,
    pub(crate) t: Option<Spanned<f64>>,
    pub(crate) nu: Option<Spanned<f64>>,
    pub(crate) iterations: Option<Spanned<usize>>,
    pub(crate) radius: Option<Spanned<f64>>,
    pub(crate) size: Option<Spanned<usize>>,
    pub(crate) scope: Option<Spanned<String>>,
    pub(crate) elect: Option<Spanned<String>>,
    pub(crate) compat: Option<Spanned<String>>,
    pub(crate) trusted: Option<Spanned<String>>,
    pub(crate) freeze: Vec<Spanned<String>>,
    pub(crate) seed: u64,
    pub(crate) optimizer: Option<Spanned<OptimizerTable>>,
}

/// An element of `before` of `[merge]`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct BeforeTable {
    pub(crate) method: Option<Spanned<String>>,
    pub(crate) norm: Option<Spanned<Norm>>,
    pub(crate) radius: Option<Spanned<f64>>,
    pub(crate) tolerate: Option<Spanned<usize>>,
    pub(crate) size: Option<Spanned<usize>>,
    pub(crate) scope: Option<Spanned<String>>,
}

/// `norm` of a clip.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "expected a number, \"median\" or \"adaptive\"")]
pub(crate) enum Norm {
    Number(f64),
    Name(String),
}

/// `sparsify` of `[merge]`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SparsifyTable {
    pub(crate) method: Option<Spanned<String>>,
    pub(crate) density: Option<Spanned<f64>>,
    pub(crate) epsilon: Option<Spanned<f64>>,
    pub(crate) gamma: Option<Spanned<f64>>,
    pub(crate) rescale: Option<Spanned<bool>>,
    pub(crate) scope: Option<Spanned<String>>,
}

/// `optimizer` of `[merge]`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct OptimizerTable {
    pub(crate) method: Option<Spanned<String>>,
    pub(crate) learning_rate: Option<Spanned<f64>>,
    pub(crate) beta: Option<Spanned<f64>>,
    pub(crate) beta1: Option<Spanned<f64>>,
    pub(crate) beta2: Option<Spanned<f64>>,
    pub(crate) epsilon: Option<Spanned<f64>>,
}

/// `[update]`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct UpdateTable {
    pub(super) encodings: Option<Vec<Spanned<String>>>,
    pub(super) density: Option<Spanned<f64>>,
    pub(super) max_bytes: Option<ByteSize>,
}

/// `[evaluate]`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct EvaluateTable {
    pub(super) metric: Option<Spanned<String>>,
    pub(super) goal: Option<Spanned<String>>,
    pub(super) accept: AcceptTable,
}

/// `accept` of `[evaluate]`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AcceptTable {
    pub(super) min_gain: Option<f64>,
    pub(super) rule: Option<Spanned<String>>,
    pub(super) quantile: Option<Spanned<f64>>,
    pub(super) tolerate: Option<Spanned<usize>>,
}

/// `[privacy]`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PrivacyTable {
    pub(super) clip: Option<Spanned<PrivateClip>>,
    pub(super) start: Option<Spanned<f64>>,
    pub(super) noise: Option<Spanned<f64>>,
    pub(super) by: Option<Spanned<String>>,
    pub(super) epsilon: Option<Spanned<f64>>,
    pub(super) delta: Option<Spanned<f64>>,
}

/// `clip` of `[privacy]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "expected a number or \"adaptive\"")]
pub(super) enum PrivateClip {
    Length(f64),
    Name(String),
}

/// Every table of the file with its keys.
pub(super) fn tables() -> Vec<KnownTable> {
    let mut tables = vec![
        KnownTable::new("", fields_of::<PlanFile>()),
        KnownTable::new("keep", fields_of::<KeepTable>()),
        KnownTable::new("round", fields_of::<RoundTable>()),
        KnownTable::new("round.cohort", fields_of::<CohortTable>()),
        KnownTable::new("round.population", fields_of::<PopulationTable>()),
    ];
    tables.extend(merge_tables());
    tables.extend([
        KnownTable::new("update", fields_of::<UpdateTable>()),
        KnownTable::new("evaluate", fields_of::<EvaluateTable>()),
        KnownTable::new("evaluate.accept", fields_of::<AcceptTable>()),
        KnownTable::new("privacy", fields_of::<PrivacyTable>()),
    ]);
    tables
}

/// `[merge]` and the tables in it.
pub(crate) fn merge_tables() -> [KnownTable; 4] {
    [
        KnownTable {
            planned_methods: merge::METHODS.planned,
            ..KnownTable::new("merge", fields_of::<MergeTable>())
        },
        KnownTable::new("merge.before", fields_of::<BeforeTable>()),
        KnownTable::new("merge.sparsify", fields_of::<SparsifyTable>()),
        KnownTable::new("merge.optimizer", fields_of::<OptimizerTable>()),
    ]
}
