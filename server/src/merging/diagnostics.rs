//! What the engine noticed of the updates, in the words of `fedmerge.json`.
//!
//! The JSON is a contract: fields are added, never renamed. Matrices and lists of clients are in the order of the story's updates.
//! A number that does not exist, such as a cosine without a round before, is `null`.

use fedmerge_merge::{ClientDiagnostics, Diagnostics, MergeReport, TensorDiagnostics};
use serde_json::{Value, json};

use super::updates::Ordered;

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
    json!({
        "effective_clients": effective_clients,
        "gradient_diversity": gradient_diversity,
        "shrinkage": shrinkage,
        "drift": drift,
        "cosines": cosines,
        "overlaps": overlaps,
        "clients": clients,
        "tensors": tensors.iter().map(tensor_in_words).collect::<Vec<_>>(),
    })
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
