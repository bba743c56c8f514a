//! A round that is over, as it is told: in the lines of `server run`, in `server rounds`, and over the wire.
//!
//! The JSON is a contract: fields are added, never renamed.

use std::path::PathBuf;

use fedmerge_common::digest::Digest;
use fedmerge_common::ids::{ClientId, ModelVersion, RoundNumber};
use fedmerge_common::units::Millis;
use fedmerge_coordinator::{ClientOutcome, EvaluationOutcome, Gain, RoundOutcome, RoundSummary};
use serde::{Deserialize, Serialize};

use crate::directory::ServerDirectory;
use crate::files;
use crate::privacy::PrivacyStory;

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
    /// What of the clients' privacy the merges have left until now, where the plan promises some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privacy: Option<PrivacyStory>,
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
    /// `accepted`, `rejected`, `declined`, `silent`, `carried-over` or `lost`.
    pub outcome: &'static str,
    /// Why it did not count; empty when accepted.
    pub reason: String,
    /// Training examples; 0 unless accepted.
    pub num_examples: u64,
    /// Size of the update, encoded; absent unless accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Bytes of updates that came from it since the round before closed, as they were on the wire; absent where nobody counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub up_bytes: Option<u64>,
    /// Bytes of models that were sent to it since then, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub down_bytes: Option<u64>,
    /// What came of asking it to evaluate the candidate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<ClosedEvaluation>,
}

/// What came of asking a client to evaluate a candidate.
#[derive(Debug, Clone, Serialize)]
pub struct ClosedEvaluation {
    /// `reported`, `declined` or `silent`.
    pub outcome: &'static str,
    /// By how much the candidate is better, in the unit of the metric; absent unless reported, and where it was no number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gain: Option<f64>,
    /// The metric of the candidate; absent likewise, and in a record from before it was kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Examples it was measured on, as the client says; 0 when it did not say.
    pub num_examples: u64,
    /// Why it declined; empty otherwise.
    pub reason: String,
}

impl ClosedEvaluation {
    fn new(outcome: &EvaluationOutcome) -> Self {
        let without_report = |outcome, reason| Self {
            outcome,
            gain: None,
            value: None,
            num_examples: 0,
            reason,
        };
        match outcome {
            EvaluationOutcome::Reported {
                gain,
                after,
                num_examples,
            } => Self {
                outcome: "reported",
                gain: gain.0,
                value: after.0,
                num_examples: *num_examples,
                reason: String::new(),
            },
            EvaluationOutcome::Declined(decline) => without_report("declined", decline.to_string()),
            EvaluationOutcome::Silent => without_report("silent", String::new()),
        }
    }

    /// It in a few words for people: `gain -0.31 on 36 examples`, `declined: no-evaluator: …`.
    #[must_use]
    pub fn in_words(&self) -> String {
        match (self.outcome, self.gain) {
            ("reported", gain) => {
                let gain = Gain(gain);
                match self.num_examples {
                    0 => format!("gain {gain}"),
                    1 => format!("gain {gain} on 1 example"),
                    count => format!("gain {gain} on {count} examples"),
                }
            }
            (outcome, _) if self.reason.is_empty() => outcome.to_owned(),
            (outcome, _) => format!("{outcome}: {}", self.reason),
        }
    }
}

impl ClosedClient {
    /// Each invited client's part, by name, from the story of the round.
    pub fn of(summary: &RoundSummary) -> impl Iterator<Item = Self> {
        summary.clients.iter().map(|(client, outcome)| {
            let evaluation = summary.evaluations.get(client);
            Self::new(client, outcome, evaluation.map(ClosedEvaluation::new))
        })
    }

    fn new(
        client: &ClientId,
        outcome: &ClientOutcome,
        evaluation: Option<ClosedEvaluation>,
    ) -> Self {
        let (name, reason) = match outcome {
            ClientOutcome::Accepted { .. } => ("accepted", String::new()),
            ClientOutcome::Rejected(rejection) => ("rejected", rejection.to_string()),
            ClientOutcome::Declined(decline) => ("declined", decline.to_string()),
            ClientOutcome::Silent { reason } => ("silent", reason.to_string()),
            ClientOutcome::Lost { detail, .. } => ("lost", detail.clone()),
            ClientOutcome::CarriedOver => {
                ("carried-over", "it counts in the next round".to_owned())
            }
        };
        let accepted = if let ClientOutcome::Accepted { update, .. } = outcome {
            Some(update)
        } else {
            None
        };
        Self {
            client: client.clone(),
            outcome: name,
            reason,
            num_examples: accepted.map_or(0, |update| update.num_examples),
            bytes: accepted.map(|update| update.bytes),
            up_bytes: None,
            down_bytes: None,
            evaluation,
        }
    }
}

impl ClosedRound {
    /// A round from its story, and how long its merge took, milliseconds, where there was one.
    #[must_use]
    pub fn new(summary: &RoundSummary, merge_ms: Option<u64>, directory: &ServerDirectory) -> Self {
        let clients: Vec<ClosedClient> = ClosedClient::of(summary).collect();
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
            privacy: None,
            clients,
        }
    }

    /// The same with what the merge's report says of privacy.
    #[must_use]
    pub fn told_by(self, report: Option<&serde_json::Value>) -> Self {
        let privacy = report.and_then(|report| report.get("privacy"));
        Self {
            privacy: privacy.and_then(|told| PrivacyStory::deserialize(told).ok()),
            ..self
        }
    }

    /// The clients that were asked to evaluate the candidate and did not, in the order of their names.
    pub fn missed_evaluations(&self) -> impl Iterator<Item = (&ClientId, &ClosedEvaluation)> {
        let asked = self.clients.iter();
        let asked = asked.filter_map(|one| Some((&one.client, one.evaluation.as_ref()?)));
        asked.filter(|(_, evaluation)| evaluation.outcome != "reported")
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
        if let Some(privacy) = &self.privacy {
            line += &format!(", {privacy} until now");
        }
        line + &format!(", {} in all", Millis::new(self.wall_ms).approximate())
    }
}
