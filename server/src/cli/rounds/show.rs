//! `fedmerge server rounds show`: the whole story of a round that is over, from the ledger alone.
//!
//! The JSON is that of a closed round, as `server run` tells it, and more: `base`, the times, what each client sent, and `merge`,
//! which is the story in the model's `fedmerge.json` without its tensors. It is a contract: fields are added, never renamed.

pub(in crate::cli) mod agreement;

use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::ids::RoundNumber;
use fedmerge_common::output::Output;
use fedmerge_common::units::{ByteSize, Millis};
use fedmerge_common::update::ModelRef;
use fedmerge_coordinator::{ClientOutcome, RoundSummary};
use serde_json::{Value, json};

use super::ShowArguments;
use crate::cli::list::table;
use crate::closed_round::{ClosedClient, ClosedRound};
use crate::console::indented;
use crate::store::ledger::{MergeNote, Rounds};

/// A round and all that is known of it.
struct Story {
    closed: ClosedRound,
    summary: RoundSummary,
    merge: Option<MergeNote>,
}

pub(super) async fn run(arguments: &ShowArguments, output: &Output) -> Result<(), Failure> {
    let directory = arguments.directory.directory()?;
    let ledger = arguments.directory.ledger().await?;
    let round = RoundNumber::new(arguments.round);
    let Some(row) = ledger.rounds(Rounds::Only(round)).await?.pop() else {
        let message = format!("round {round} is not over, or never was");
        return Err(Failure::new(ExitCode::Usage, message).with_hint(
            "`fedmerge server rounds list` shows those that are over, `fedmerge server status` the one that is open",
        ));
    };
    let merge = ledger.merge_note(round).await?;
    let closed = ClosedRound::new(&row.summary, row.merge_ms, &directory);
    let story = Story {
        closed: closed.told_by(merge.as_ref().map(|merge| &merge.report)),
        summary: row.summary,
        merge,
    };
    for line in story.lines() {
        output.line(line);
    }
    output.json(&story.as_json());
    Ok(())
}

impl Story {
    fn lines(&self) -> Vec<String> {
        let mut lines = vec![labelled(
            &format!("round {}", self.closed.round),
            &self.outcome(),
        )];
        lines.push(labelled("base", &model(&self.summary.base)));
        lines.extend(self.times());
        if let Some(made) = &self.closed.model {
            lines.push(labelled("model", &made.path.display().to_string()));
        }
        lines.push(String::new());
        lines.push(self.clients());
        lines.extend(
            self.closed
                .clients
                .iter()
                .filter_map(|told| self.more(told)),
        );
        lines.extend(self.evaluations());
        if let Some(merge) = &self.merge {
            lines.push(String::new());
            lines.extend(agreement::lines(&merge.report));
        }
        lines
    }

    fn outcome(&self) -> String {
        match self.summary.outcome.published() {
            Some(published) => format!("published model {}", model(published)),
            None => format!("abandoned: {}", self.closed.reason),
        }
    }

    fn times(&self) -> Vec<String> {
        let RoundSummary {
            opened,
            collected,
            closed,
            ..
        } = &self.summary;
        let mut lines = vec![labelled("opened", &opened.to_string())];
        if let Some(collected) = collected {
            let after = (*collected - *opened).approximate();
            lines.push(labelled(
                "collected",
                &format!("{collected}, {after} later"),
            ));
        }
        let after = (*closed - collected.unwrap_or(*opened)).approximate();
        let mut told = format!("{closed}, {after} later");
        if let Some(merge) = &self.merge {
            let took = Millis::new(merge.elapsed_ms).approximate();
            told += &format!(": the merge took {took}");
        }
        lines.push(labelled("closed", &told));
        lines
    }

    /// What the table does not say of a client.
    fn more(&self, told: &ClosedClient) -> Option<String> {
        let ClosedClient {
            client,
            outcome,
            reason,
            ..
        } = told;
        if *outcome != "accepted" {
            return Some(format!("  {client} {outcome}: {}", indented(reason)));
        }
        let origin = self.summary.origins.get(client)?;
        let (round, staleness) = (origin.round, origin.staleness(&self.summary.base));
        Some(format!(
            "  {client} {outcome}: for its task of round {round}, staleness {staleness}"
        ))
    }

    /// What each client said of the candidate; nothing where nobody was asked.
    fn evaluations(&self) -> Vec<String> {
        let told = self.closed.clients.iter().filter_map(|told| {
            let words = told.evaluation.as_ref()?.in_words();
            Some(format!("  {}: {}", told.client, indented(&words)))
        });
        let mut lines: Vec<String> = told.collect();
        if !lines.is_empty() {
            lines.splice(0..0, [String::new(), "evaluations".to_owned()]);
        }
        lines
    }

    /// Each client's part, and what became of its task.
    fn parts(&self) -> impl Iterator<Item = (&ClosedClient, &ClientOutcome)> {
        self.closed
            .clients
            .iter()
            .zip(self.summary.clients.values())
    }

    fn clients(&self) -> String {
        let rows = self.parts().map(|(told, outcome)| {
            let mut row = [
                told.client.to_string(),
                told.outcome.to_owned(),
                String::new(),
                String::new(),
                String::new(),
                String::new(),
            ];
            if let ClientOutcome::Accepted { update, at } = outcome {
                // What outlived its round may have been handed in between two of them.
                let after = if *at < self.summary.opened {
                    "before".to_owned()
                } else {
                    (*at - self.summary.opened).approximate()
                };
                let update_name = format!("blake3:{}…", update.payload.short());
                let size = ByteSize::new(update.bytes).to_string();
                row[2..].clone_from_slice(&[
                    after,
                    update.num_examples.to_string(),
                    size,
                    update_name,
                ]);
            }
            row
        });
        let heading = ["client", "outcome", "after", "examples", "size", "update"];
        table(heading, rows)
    }

    fn as_json(&self) -> Value {
        let mut story = json!(self.closed);
        let RoundSummary {
            base,
            opened,
            collected,
            closed,
            ..
        } = &self.summary;
        story["base"] = json!({
            "version": base.version, "digest": base.digest, "bytes": base.size_bytes,
        });
        story["opened"] = json!(opened.to_string());
        story["collected"] = json!(collected.map(|collected| collected.to_string()));
        story["closed"] = json!(closed.to_string());
        story["collect_ms"] = json!(collected.map(|collected| (collected - *opened).get()));
        let clients = self.parts();
        story["clients"] = clients
            .map(|(told, outcome)| self.client_as_json(told, outcome))
            .collect();
        story["merge"] = json!(self.merge.as_ref().map(|merge| &merge.report));
        story
    }

    fn client_as_json(&self, closed: &ClosedClient, outcome: &ClientOutcome) -> Value {
        let client = &closed.client;
        let mut told = json!(closed);
        match outcome {
            ClientOutcome::Accepted { update, at } => {
                told["update"] = json!(update.payload);
                told["accepted"] = json!(at.to_string());
                let merge = self.merge.as_ref();
                let share = merge.and_then(|merge| agreement::weight_share(&merge.report, client));
                told["weight_share"] = json!(share);
                if let Some(origin) = self.summary.origins.get(client) {
                    told["staleness"] = json!(origin.staleness(&self.summary.base));
                }
            }
            ClientOutcome::Rejected(rejection) => told["code"] = json!(rejection.code),
            ClientOutcome::Declined(decline) => told["code"] = json!(decline.kind),
            ClientOutcome::Silent { reason } => told["code"] = json!(reason),
            ClientOutcome::Lost { update, .. } => told["update"] = json!(update.payload),
            ClientOutcome::CarriedOver => {}
        }
        if let Some(origin) = self.summary.origins.get(client) {
            told["task_round"] = json!(origin.round);
        }
        told
    }
}

/// A line with its label before it, aligned with others.
pub(in crate::cli) fn labelled(label: &str, told: &str) -> String {
    format!("{label:<12} {told}")
}

fn model(model: &ModelRef) -> String {
    format!(
        "{} (blake3:{}…, {})",
        model.version,
        model.digest.short(),
        ByteSize::new(model.size_bytes)
    )
}

#[cfg(test)]
mod tests;
