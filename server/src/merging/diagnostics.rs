//! What the engine noticed of the updates, in the words of `fedmerge.json`.
//!
//! The JSON is a contract: fields are added, never renamed. Matrices and lists of clients are in the order of the story's updates.
//! A number that does not exist, such as a cosine without a round before, is `null`. All but the matrices grows with the number of
//! clients, and these are told of a few alone.

use fedmerge_merge::{ClientDiagnostics, Diagnostics, MergeReport, TensorDiagnostics};
use serde_json::{Value, json};

use super::updates::Ordered;

/// Most clients of whom every pair is told. The matrices grow with the square of their number, and the ledger keeps them for ever: of
/// a thousand clients they would be fifty megabytes a round, in words for nobody to read.
const MOST_IN_PAIRS: usize = 64;

/// The diagnostics of a merge; nothing where it made none.
pub(super) fn told(report: &MergeReport, updates: &[Ordered]) -> Value {
    let Some(diagnostics) = &report.diagnostics else {
        return Value::Null;
    };
    let Diagnostics {
        cosines,
        effective_clients,
        gradient_diversity,
        shrinkage,
        drift,
        clients,
        tensors,
        overlaps,
    } = diagnostics;
    let clients = updates.iter().zip(clients);
    let clients: Vec<_> = clients
        .map(|(update, client)| client_in_words(update, client))
        .collect();
    let (least, greatest) = range(cosines);
    let mut told = json!({
        "effective_clients": effective_clients,
        "gradient_diversity": gradient_diversity,
        "shrinkage": shrinkage,
        "drift": drift,
        "least_cosine": least,
        "greatest_cosine": greatest,
        "clients": clients,
        "tensors": tensors.iter().map(tensor_in_words).collect::<Vec<_>>(),
    });
    if updates.len() <= MOST_IN_PAIRS {
        told["cosines"] = json!(cosines);
        told["overlaps"] = json!(overlaps);
    }
    told
}

/// The least and the greatest number of a symmetric matrix beside its diagonal; none where it has one row.
fn range(matrix: &[Vec<f64>]) -> (Option<f64>, Option<f64>) {
    let rows = matrix.iter().enumerate();
    let pairs = rows.flat_map(|(number, row)| row.iter().take(number).copied());
    (pairs.clone().reduce(f64::min), pairs.reduce(f64::max))
}

fn client_in_words(update: &Ordered, client: &ClientDiagnostics) -> Value {
    let ClientDiagnostics {
        distance,
        disagreement,
        active,
        shared_ratio,
        hoyer,
        top_mass: [top_1, top_10, top_20],
        previous,
        step,
    } = client;
    json!({
        "client": update.client,
        "distance": distance,
        "sign_disagreement": disagreement,
        "active": active,
        "shared_ratio": shared_ratio,
        "hoyer": hoyer,
        "mass_in_top": { "1%": top_1, "10%": top_10, "20%": top_20 },
        "cosine_to_previous": previous,
        "cosine_to_last_step": step,
    })
}

fn tensor_in_words(tensor: &TensorDiagnostics) -> Value {
    let TensorDiagnostics {
        name,
        conflict_rate,
        mass_agreement,
    } = tensor;
    json!({
        "name": name,
        "conflict_rate": conflict_rate,
        "mass_agreement": mass_agreement,
    })
}
