//! `fedmerge server rounds …`: what became of each round, and what the one that is open waits for.
//!
//! Lists and stories are read from the ledger, whether or not the server runs. The JSON of each command is a contract: fields are
//! added, never renamed.

pub(super) mod show;
mod watch;

use clap::{Args, Subcommand};
use fedmerge_common::failure::Failure;
use fedmerge_common::output::Output;
use fedmerge_common::units::Millis;

use super::DirectoryArguments;
use super::list::{ListArguments, table};
use crate::closed_round::ClosedRound;
use crate::store::ledger::Rounds;

/// The deeds with rounds.
#[derive(Debug, Subcommand)]
pub enum RoundsCommand {
    /// List the rounds that are over
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArguments),
    /// Tell the whole story of a round: its times, its clients, its merge, its model
    #[command(after_help = SHOW_EXAMPLES)]
    Show(ShowArguments),
    /// Follow the federation to its end: what is waited for, by whom and until when
    #[command(after_help = WATCH_EXAMPLES)]
    Watch(DirectoryArguments),
}

const LIST_EXAMPLES: &str = "\
Examples:
  fedmerge server rounds list --dir hub
  fedmerge server rounds list --dir hub --all --format json";

const SHOW_EXAMPLES: &str = "\
Examples:
  fedmerge server rounds show 3 --dir hub
  fedmerge server rounds show 3 --dir hub --format json";

const WATCH_EXAMPLES: &str = "\
Example:
  fedmerge server rounds watch --dir hub";

/// What `server rounds show` takes.
#[derive(Debug, Args)]
pub struct ShowArguments {
    /// The round, from 1
    #[arg(value_name = "ROUND")]
    pub round: u64,
    /// Where the server is.
    #[command(flatten)]
    pub directory: DirectoryArguments,
}

pub(super) async fn run(command: &RoundsCommand, output: &Output) -> Result<(), Failure> {
    match command {
        RoundsCommand::List(arguments) => list(arguments, output).await,
        RoundsCommand::Show(arguments) => show::run(arguments, output).await,
        RoundsCommand::Watch(arguments) => watch::run(arguments, output).await,
    }
}

async fn list(arguments: &ListArguments, output: &Output) -> Result<(), Failure> {
    let directory = arguments.directory.directory()?;
    let ledger = arguments.directory.ledger().await?;
    let wanted = Rounds::Newest(arguments.count());
    let stories = ledger.rounds(wanted).await?;
    let rounds: Vec<ClosedRound> = stories
        .iter()
        .map(|story| ClosedRound::new(&story.summary, story.merge_ms, &directory))
        .collect();
    let heading = [
        "round", "outcome", "accepted", "rejected", "missing", "merge", "wall",
    ];
    output.line(table(heading, rounds.iter().map(row)));
    for round in &rounds {
        output.json(round);
    }
    let total = ledger.round_count().await?;
    let earlier = total.saturating_sub(rounds.len().try_into().unwrap_or(u64::MAX));
    if earlier > 0 {
        output.note(format_args!(
            "{earlier} earlier rounds are not listed: --all lists them"
        ));
    }
    Ok(())
}

fn row(round: &ClosedRound) -> [String; 7] {
    let outcome = match &round.model {
        Some(model) => format!("published model {}", model.version),
        None => format!("abandoned: {}", round.reason),
    };
    [
        round.round.to_string(),
        outcome,
        round.accepted.to_string(),
        round.rejected.to_string(),
        (round.declined + round.silent).to_string(),
        Millis::new(round.merge_ms).approximate(),
        Millis::new(round.wall_ms).approximate(),
    ]
}
