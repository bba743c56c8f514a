//! What `server run` tells its operator on standard output: a line a round for people, one JSON object an event for programs.
//!
//! The text may change; the JSON (`event` in kebab-case, and the fields below) is a contract. A round is told once, also
//! after a restart, which goes through its last round again.

use fedmerge_common::digest::Digest;
use fedmerge_common::ids::{ClientId, ModelVersion, RoundNumber};
use fedmerge_common::output::Output;
use fedmerge_common::units::{ByteSize, Millis, Timestamp};
use fedmerge_common::update::ModelRef;
use fedmerge_coordinator::{ClientOutcome, EndReason, RoundOutcome, RoundSummary, Task, View};
use serde::Serialize;

use crate::directory::ServerDirectory;
use crate::files;
use crate::store::ledger::MergeNote;

/// An event as a program reads it.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Line<'a> {
    /// Clients can connect.
    Listening { address: &'a str },
    /// Invitations went out.
    RoundOpened { round: RoundNumber, invited: usize },
    /// A round is over.
    RoundClosed(ClosedRound),
    /// The federation is over.
    Ended { reason: String, model: ModelRef },
}

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
    pub path: std::path::PathBuf,
}

/// A client's part in a round.
#[derive(Debug, Clone, Serialize)]
pub struct ClosedClient {
    /// Its name.
    pub client: ClientId,
    /// `accepted`, `rejected`, `declined` or `silent`.
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
    /// A round from its story, and that of its merge where there was one.
    #[must_use]
    pub fn new(
        summary: &RoundSummary,
        merge: Option<&MergeNote>,
        directory: &ServerDirectory,
    ) -> Self {
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
            merge_ms: merge.map_or(0, |merge| merge.elapsed_ms),
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

/// Tells the operator.
#[derive(Debug)]
pub struct Announcer {
    output: Output,
    directory: ServerDirectory,
    /// The last round whose end was told, 0 before the first.
    told: u64,
    /// Invitations of the round that opens.
    inviting: Option<(RoundNumber, usize)>,
    opened: u64,
    waiting: String,
}

impl Announcer {
    /// `told` is the last round that an earlier run has told.
    #[must_use]
    pub fn new(output: Output, directory: ServerDirectory, told: Option<RoundNumber>) -> Self {
        let told = told.map_or(0, RoundNumber::get);
        Self {
            output,
            directory,
            told,
            inviting: None,
            opened: told,
            waiting: String::new(),
        }
    }

    /// Clients can connect.
    pub fn listening(&self, address: &str, federation: &str, base: &ModelRef) {
        self.output.line(format_args!(
            "federation {federation}: listening on {address}, base {} (blake3:{}…, {})",
            base.version,
            base.digest.short(),
            ByteSize::new(base.size_bytes)
        ));
        self.output.json(&Line::Listening { address });
    }

    /// A client is invited; told with the others of its round.
    pub(crate) fn invited(&mut self, _client: &ClientId, task: &Task) {
        let count = self
            .inviting
            .filter(|(round, _)| *round == task.round)
            .map_or(0, |(_, count)| count);
        self.inviting = Some((task.round, count + 1));
    }

    /// How things stand: tells what is waited for when that is another thing than before.
    pub(crate) fn standing(&mut self, view: &View) {
        if let Some((round, invited)) = self.inviting.take()
            && round.get() > self.opened
        {
            self.opened = round.get();
            self.output.json(&Line::RoundOpened { round, invited });
            let until = view.deadline.map(Timestamp::to_second).unwrap_or_default();
            self.output.line(format_args!(
                "round {round}: {invited} invited, open until {until}"
            ));
        }
        if view.phase == "gathering" && view.waiting_for != self.waiting {
            self.output
                .line(format_args!("waiting for {}", view.waiting_for));
        }
        self.waiting.clone_from(&view.waiting_for);
    }

    /// A round is over.
    pub(crate) fn closed(&mut self, summary: &RoundSummary, merge: Option<&MergeNote>) {
        if summary.round.get() <= self.told {
            return;
        }
        self.told = summary.round.get();
        let closed = ClosedRound::new(summary, merge, &self.directory);
        let round = closed.round;
        self.output
            .line(format_args!("round {round}: {}", closed.in_one_line()));
        for client in closed
            .clients
            .iter()
            .filter(|client| client.outcome != "accepted")
        {
            let (name, outcome, reason) = (&client.client, client.outcome, &client.reason);
            self.output
                .line(format_args!("  {name} {outcome}: {reason}"));
        }
        self.output.json(&Line::RoundClosed(closed));
    }

    /// The federation is over.
    pub(crate) fn ended(&self, reason: EndReason, last: &ModelRef) {
        let path = self.directory.model(last.version).join(files::MODEL);
        self.output.line(format_args!(
            "the federation ended: {reason}; the last model is {}",
            path.display()
        ));
        self.output.json(&Line::Ended {
            reason: reason.to_string(),
            model: *last,
        });
    }
}
