//! What a simulation found: a row for each round and the end, as JSON for programs and in `summary.json`.
//!
//! The JSON is a contract: fields are added, never renamed.

use std::path::PathBuf;

use fedmerge_client::trainer::builtin::train::Evaluation;
use fedmerge_common::digest::Digest;
use serde::Serialize;

use super::server_event::RoundClosed;

/// How good a model is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Judgement {
    /// On the global test set.
    pub(super) evaluation: Evaluation,
    /// The share of triggered examples that it takes for the attacker's class, where somebody wants that.
    pub(super) backdoor: Option<f64>,
}

/// A round of the summary.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Round {
    /// From 1.
    pub(super) round: u64,
    /// `published` or `abandoned`.
    pub(super) outcome: String,
    /// Why it was abandoned.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) reason: String,
    /// Updates that counted.
    pub(super) accepted: usize,
    /// Updates that were refused.
    pub(super) rejected: usize,
    /// Size of the updates that counted, together.
    pub(super) update_bytes: u64,
    /// What travelled, client by client.
    pub(super) traffic: Vec<Traffic>,
    /// Accuracy of the base after the round on the global test set, 0 to 1.
    pub(super) accuracy: f64,
    /// Its mean cross-entropy in nats.
    pub(super) loss: f64,
    /// The share of triggered examples that it takes for the attacker's class, where there is a backdoor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) backdoor: Option<f64>,
    /// Time of the merge.
    pub(super) merge_ms: u64,
    /// From the first invitation to the end.
    pub(super) wall_ms: u64,
    /// Clients whose update did not count.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) refused: Vec<Refused>,
}

/// What travelled between a client and the server in a round, without what carries it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Traffic {
    /// Its name.
    pub(super) client: String,
    /// Of its updates, as they were on the wire.
    pub(super) up_bytes: u64,
    /// Of models that it lacked.
    pub(super) down_bytes: u64,
}

/// A client whose update did not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Refused {
    /// Its name.
    pub(super) client: String,
    /// `rejected`, `declined` or `silent`.
    pub(super) outcome: String,
    /// Why.
    pub(super) reason: String,
}

impl Round {
    /// The row of a round after which the base is as good as `judgement` says.
    pub(super) fn new(closed: &RoundClosed, judgement: Judgement) -> Self {
        let Judgement {
            evaluation,
            backdoor,
        } = judgement;
        let refused = closed
            .clients
            .iter()
            .filter(|client| client.outcome != "accepted")
            .map(|client| Refused {
                client: client.client.clone(),
                outcome: client.outcome.clone(),
                reason: client.reason.clone(),
            });
        let traffic = closed.clients.iter().map(|client| Traffic {
            client: client.client.clone(),
            up_bytes: client.up_bytes,
            down_bytes: client.down_bytes,
        });
        Self {
            round: closed.round,
            outcome: closed.outcome.clone(),
            reason: closed.reason.clone(),
            accepted: closed.accepted,
            rejected: closed.rejected,
            update_bytes: closed.clients.iter().map(|client| client.bytes).sum(),
            traffic: traffic.collect(),
            accuracy: evaluation.accuracy,
            loss: evaluation.loss,
            backdoor,
            merge_ms: closed.merge_ms,
            wall_ms: closed.wall_ms,
            refused: refused.collect(),
        }
    }
}

/// The base at the end.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Final {
    /// On the global test set, 0 to 1.
    pub(super) accuracy: f64,
    /// Mean cross-entropy in nats.
    pub(super) loss: f64,
    /// The share of triggered examples that it takes for the attacker's class, where there is a backdoor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) backdoor: Option<f64>,
    /// Digest of the model's file; absent when nothing was published.
    pub(super) model: Option<Digest>,
    /// The model's file.
    pub(super) path: PathBuf,
}

/// The whole simulation.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Summary {
    /// The seed.
    pub(super) seed: u64,
    /// Client processes.
    pub(super) clients: usize,
    /// How many of them lie.
    pub(super) attackers: usize,
    /// What these do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) attack: Option<&'static str>,
    /// How the examples were spread.
    pub(super) partition: String,
    /// The merge in words.
    pub(super) merge: String,
    /// How updates are sent, preferred first.
    pub(super) encodings: Vec<String>,
    /// What is between each client and the server, where there is a link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) link: Option<String>,
    /// The gate before publishing in words, where the plan has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gate: Option<String>,
    /// Where everything lies.
    pub(super) out: PathBuf,
    /// From the start of the server to the end.
    pub(super) elapsed_ms: u64,
    /// Peak memory of the server process, where the system tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) server_peak_bytes: Option<u64>,
    /// Round by round.
    pub(super) rounds: Vec<Round>,
    /// The end.
    #[serde(rename = "final")]
    pub(super) last: Final,
}
