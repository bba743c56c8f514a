//! What `server run` tells its operator on standard output: a line a round for people, one JSON object an event for programs.
//!
//! The text may change; the JSON (`event` in kebab-case, and the fields below) is a contract. A round is told once, also
//! after a restart, which goes through its last round again.

use fedmerge_common::ids::{ClientId, FederationName, ModelVersion, RoundNumber};
use fedmerge_common::output::Output;
use fedmerge_common::rollback::Rollback;
use fedmerge_common::units::{ByteSize, Timestamp};
use fedmerge_common::update::ModelRef;
use fedmerge_coordinator::{EndReason, RoundSummary, Task, View};
use serde::Serialize;

use crate::app::PlanChange;
use crate::closed_round::ClosedRound;
use crate::directory::ServerDirectory;
use crate::files;
use crate::plan::Change;
use crate::store::ledger::MergeNote;
use crate::traffic::Traffic;

/// An event as a program reads it.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Line<'a> {
    /// Clients can connect.
    Listening { address: &'a str },
    /// The plan is not the one that the server ran with before.
    PlanChanged {
        first_round: RoundNumber,
        keys: Vec<&'a str>,
    },
    /// A federation that had ended goes on, because its plan has more rounds.
    Reopened,
    /// Invitations went out.
    RoundOpened { round: RoundNumber, invited: usize },
    /// A round is over.
    RoundClosed(ClosedRound),
    /// An older model is the base again.
    RolledBack {
        model: ModelRef,
        of: ModelVersion,
        reason: &'a str,
    },
    /// The federation is over.
    Ended { reason: String, model: ModelRef },
}

/// Tells the operator that clients can connect.
pub fn listening(output: &Output, address: &str, federation: &FederationName, base: &ModelRef) {
    output.line(format_args!(
        "federation {federation}: listening on {address}, base {} (blake3:{}…, {})",
        base.version,
        base.digest.short(),
        ByteSize::new(base.size_bytes)
    ));
    output.json(&Line::Listening { address });
}

/// Tells the operator that the plan was changed, which keys, and from which round on that holds.
pub fn plan_changed(output: &Output, change: &PlanChange) {
    let PlanChange {
        changes,
        first_round,
    } = change;
    let told: Vec<String> = changes.iter().map(Change::to_string).collect();
    output.line(format_args!(
        "the plan was changed, from round {first_round} on: {}",
        told.join(", ")
    ));
    output.json(&Line::PlanChanged {
        first_round: *first_round,
        keys: changes.iter().map(|change| change.key.as_str()).collect(),
    });
}

/// Tells the operator that a federation goes on that had ended.
pub fn reopened(output: &Output) {
    output.line(
        "the federation had ended with its last round: the plan has more now, and it goes on",
    );
    output.json(&Line::Reopened);
}

/// Tells the operator.
#[derive(Debug)]
pub struct Console {
    output: Output,
    directory: ServerDirectory,
    traffic: Traffic,
    /// The last round whose end was told, 0 before the first.
    told: u64,
    /// Invitations of the round that opens.
    inviting: Option<(RoundNumber, usize)>,
    opened: u64,
    waiting: String,
}

impl Console {
    /// `told` is the last round that an earlier run has told.
    #[must_use]
    pub fn new(output: Output, directory: ServerDirectory, told: Option<RoundNumber>) -> Self {
        let told = told.map_or(0, RoundNumber::get);
        Self {
            output,
            directory,
            traffic: Traffic::default(),
            told,
            inviting: None,
            opened: told,
            waiting: String::new(),
        }
    }

    /// Where to count what is sent.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.traffic.clone()
    }

    /// A client is invited; told with the others of its round.
    pub(crate) fn invited(&mut self, _client: &ClientId, task: &Task) {
        // A task of an earlier round may be told again to its client, and opens no round.
        let newest = self.inviting.filter(|(round, _)| *round >= task.round);
        self.inviting = match newest {
            Some((round, count)) if round == task.round => Some((round, count + 1)),
            Some(of_a_later_round) => Some(of_a_later_round),
            None => Some((task.round, 1)),
        };
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
        let merge_ms = merge.map(|merge| merge.elapsed_ms);
        let mut closed = ClosedRound::new(summary, merge_ms, &self.directory)
            .told_by(merge.map(|merge| &merge.report));
        let travelled = self.traffic.take();
        for client in &mut closed.clients {
            let bytes = travelled.get(&client.client).copied().unwrap_or_default();
            client.up_bytes = Some(bytes.up_bytes);
            client.down_bytes = Some(bytes.down_bytes);
        }
        let round = closed.round;
        self.output
            .line(format_args!("round {round}: {}", closed.in_one_line()));
        for client in closed
            .clients
            .iter()
            .filter(|client| client.outcome != "accepted")
        {
            let (name, outcome) = (&client.client, client.outcome);
            let reason = indented(&client.reason);
            self.output
                .line(format_args!("  {name} {outcome}: {reason}"));
        }
        for (name, evaluation) in closed.missed_evaluations() {
            let words = indented(&evaluation.in_words());
            self.output
                .line(format_args!("  {name} did not evaluate it, {words}"));
        }
        self.output.json(&Line::RoundClosed(closed));
    }

    /// An older model is the base again.
    pub(crate) fn rolled_back(&self, model: &ModelRef, rollback: &Rollback) {
        let Rollback { of, reason, .. } = rollback;
        self.output.line(format_args!(
            "rolled back: model {} is model {of} again (blake3:{}…): {reason}",
            model.version,
            model.digest.short()
        ));
        self.output.json(&Line::RolledBack {
            model: *model,
            of: *of,
            reason,
        });
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

/// A client's words, each line of them behind the margin: what a client says must not look like what the server says.
pub(crate) fn indented(reason: &str) -> String {
    reason.replace('\n', "\n    ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_a_clients_words_begins_where_the_servers_do() {
        assert_eq!(
            indented("first\nround 9: published"),
            "first\n    round 9: published"
        );
    }
}
