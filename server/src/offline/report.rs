//! The report of a finished merge as JSON: what was read and written, how long it took, and how the models agree.
//!
//! The JSON is a contract: fields are added, never renamed. All that is known from the engine's report is put into words here and
//! nowhere else.

use std::time::Duration;

use fedmerge_merge::{ClientDiagnostics, ClientReport, Diagnostics, MergeReport, Pass};
use serde::Serialize;
use serde_json::{Value, json};

use super::FinishedMerge;
use super::summary::Summary;

/// How long a merge took, as its caller measured.
#[derive(Debug, Clone, Default)]
pub struct Times {
    /// Each pass over the inputs.
    pub passes: Vec<(Pass, Duration)>,
    /// All, from the opening of the inputs to the last rename.
    pub total: Duration,
}

/// What `--report` writes and `--format json` prints.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    event: &'static str,
    plan: &'a Summary,
    output: Value,
    models: Vec<Value>,
    step_norm: f64,
    bytes_read: u64,
    values_read: u64,
    passes: Vec<Value>,
    elapsed_ms: u128,
    #[serde(skip_serializing_if = "Option::is_none")]
    diagnostics: Option<Value>,
}

impl<'a> Report<'a> {
    /// The report of a merge that went as its summary said.
    #[must_use]
    pub fn of(plan: &'a Summary, finished: &FinishedMerge, times: &Times) -> Self {
        let report = &finished.report;
        Self {
            event: "merged",
            plan,
            output: output(finished),
            models: models(&plan.models, report),
            step_norm: report.step_norm,
            bytes_read: finished.bytes_read,
            values_read: report.values_read,
            passes: times
                .passes
                .iter()
                .map(|(pass, took)| json!({ "purpose": pass.purpose(), "ms": took.as_millis() }))
                .collect(),
            elapsed_ms: times.total.as_millis(),
            diagnostics: report.diagnostics.as_ref().map(diagnostics),
        }
    }
}

fn output(finished: &FinishedMerge) -> Value {
    let files = finished.files.iter().map(|file| {
        json!({ "name": file.name, "bytes": file.written.bytes, "digest": file.written.digest })
    });
    json!({
        "path": finished.path,
        "bytes": finished.bytes(),
        "digest": finished.digest(),
        "files": files.collect::<Vec<_>>(),
    })
}

fn models(names: &[String], report: &MergeReport) -> Vec<Value> {
    let among = |position: usize| {
        let diagnostics = report.diagnostics.as_ref()?;
        diagnostics.clients.get(position).map(among_others)
    };
    let pairs = names.iter().zip(&report.clients).enumerate();
    pairs
        .map(|(position, (name, client))| model(name, client, among(position)))
        .collect()
}

fn model(name: &str, client: &ClientReport, among_others: Option<Value>) -> Value {
    let mut words = json!({
        "name": name,
        "norm": client.norm,
        "clip_factor": client.clip_factor,
        "weight": client.weight,
        "weight_share": client.weight_share,
    });
    if let Some(among_others) = among_others {
        words["among_others"] = among_others;
    }
    words
}

fn among_others(client: &ClientDiagnostics) -> Value {
    json!({
        "distance": client.distance,
        "disagreement": client.disagreement,
        "active": client.active,
        "shared_ratio": client.shared_ratio,
        "hoyer": client.hoyer,
        "top_mass": client.top_mass,
    })
}

fn diagnostics(diagnostics: &Diagnostics) -> Value {
    let tensors = diagnostics.tensors.iter().map(|tensor| {
        json!({
            "name": tensor.name,
            "conflict_rate": tensor.conflict_rate,
            "mass_agreement": tensor.mass_agreement,
        })
    });
    json!({
        "cosines": diagnostics.cosines,
        "overlaps": diagnostics.overlaps,
        "effective_clients": diagnostics.effective_clients,
        "gradient_diversity": diagnostics.gradient_diversity,
        "shrinkage": diagnostics.shrinkage,
        "tensors": tensors.collect::<Vec<_>>(),
    })
}
