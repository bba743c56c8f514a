//! A round that is over, as it is told: in the lines of `server run`, in `server rounds`, and over the wire.
//!
//! The JSON is a contract: fields are added, never renamed.

use std::path::PathBuf;

use fedmerge_common::digest::Digest;
use fedmerge_common::ids::{ClientId, ModelVersion, RoundNumber};
use fedmerge_common::units::Millis;
use fedmerge_coordinator::{ClientOutcome, RoundOutcome, RoundSummary};
use serde::Serialize;

use crate::directory::ServerDirectory;
use crate::files;

/// A round that is over, as programs read it: in events, in lists and from the ledger.
#[derive(Debug, Clone, Serialize)]
pub struct ClosedRound {
    /// From 1.
    pub round: RoundNumber,
    /// `published` or `abandoned`.
    pub outcome: &'static str,
    /// Why it was abandoned; empty when published.
    pub reason: String,
    /// Updates that counted.
    pub accepted: usize,
    /// Updates that were refused.
    pub rejected: usize,
    /// Invitations given back.
    pub declined: usize,
    /// Invitations that ended without an answer.
    pub silent: usize,
    /// Time of the merge, milliseconds; 0 without one.
    pub merge_ms: u64,
    /// From the first invitation to the end, milliseconds.
    pub wall_ms: u64,
    /// The new base.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<PublishedModel>,
    /// What became of each invited client, by name.
    pub clients: Vec<ClosedClient>,
}

/// A new base.
#[derive(Debug, Clone, Serialize)]
pub struct PublishedModel {
    /// Its version.
    pub version: ModelVersion,
    /// Digest of its file.
    pub digest: Digest,
    /// Its file.
    pub path: PathBuf,
}

/// A client's part in a round.
#[derive(Debug, Clone, Serialize)]
pub struct ClosedClient {
    /// Its name.
    pub client: ClientId,
    /// `accepted`, `rejected`, `declined`, `silent` or `carried-over`.
    pub outcome: &'static str,
    /// Why it did not count; empty when accepted.
    pub reason: String,
    /// Training examples; 0 unless accepted.
    pub num_examples: u64,
}

impl ClosedClient {
    /// A client's part, from the story of the round.
    #[must_use]
    pub fn new(client: &ClientId, outcome: &ClientOutcome) -> Self {
        let (name, reason, num_examples) = match outcome {
            ClientOutcome::Accepted { update, .. } => {
                ("accepted", String::new(), update.num_examples)
            }
            ClientOutcome::Rejected(rejection) => ("rejected", rejection.to_string(), 0),
            ClientOutcome::Declined(decline) => ("declined", decline.to_string(), 0),
            ClientOutcome::Silent { reason } => ("silent", reason.to_string(), 0),
            ClientOutcome::CarriedOver => {
                let reason = "it counts in the next round".to_owned();
                ("carried-over", reason, 0)
            }
        };
        Self {
            client: client.clone(),
            outcome: name,
            reason,
            num_examples,
        }
    }
}

impl ClosedRound {
    /// A round from its story, and how long its merge took, milliseconds, where there was one.
    #[must_use]
    pub fn new(summary: &RoundSummary, merge_ms: Option<u64>, directory: &ServerDirectory) -> Self {
        let clients: Vec<ClosedClient> = summary
            .clients
            .iter()
            .map(|(client, outcome)| ClosedClient::new(client, outcome))
            .collect();
        let count = |name| clients.iter().filter(|one| one.outcome == name).count();
        let (outcome, reason) = match &summary.outcome {
            RoundOutcome::Published(_) => ("published", String::new()),
            RoundOutcome::Abandoned(reason) => ("abandoned", reason.to_string()),
        };
        let model = summary.outcome.published().map(|model| PublishedModel {
            version: model.version,
            digest: model.digest,
            path: directory.model(model.version).join(files::MODEL),
        });
        Self {
            round: summary.round,
            outcome,
            reason,
            accepted: count("accepted"),
            rejected: count("rejected"),
            declined: count("declined"),
            silent: count("silent"),
            merge_ms: merge_ms.unwrap_or(0),
            wall_ms: summary.wall().get(),
            model,
            clients,
        }
    }

    /// The round in one line for people: `published model 3, 8 accepted, merged in 3ms, 410ms in all`.
    #[must_use]
    pub fn in_one_line(&self) -> String {
        let mut line = match &self.model {
            Some(model) => format!(
                "published model {} (blake3:{}…)",
                model.version,
                model.digest.short()
            ),
            None => format!("abandoned: {}", self.reason),
        };
        let counts = [
            (self.accepted, "accepted"),
            (self.rejected, "rejected"),
            (self.declined, "declined"),
            (self.silent, "silent"),
        ];
        if self.model.is_some() {
            for (count, name) in counts.into_iter().filter(|(count, _)| *count > 0) {
                line += &format!(", {count} {name}");
            }
            line += &format!(", merged in {}", Millis::new(self.merge_ms).approximate());
        }
        line + &format!(", {} in all", Millis::new(self.wall_ms).approximate())
    }
}
