//! `fedmerge server clients|rounds|models list`: read from the ledger, whether or not the server runs.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use comfy_table::{ContentArrangement, Table, presets};
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::ids::RoundNumber;
use fedmerge_common::output::Output;
use fedmerge_common::units::{ByteSize, Millis};

use super::DirectoryArguments;
use crate::closed_round::ClosedRound;
use crate::files;
use crate::store::ledger::RoundStory;

/// The deeds with clients.
#[derive(Debug, Subcommand)]
pub enum ClientsCommand {
    /// List enrolled clients
    #[command(after_help = "Example:\n  fedmerge server clients list --dir hub")]
    List(DirectoryArguments),
}

/// The deeds with rounds.
#[derive(Debug, Subcommand)]
pub enum RoundsCommand {
    /// List the rounds that are over
    #[command(after_help = "Example:\n  fedmerge server rounds list --dir hub")]
    List(DirectoryArguments),
    /// Show what became of each client in a round
    #[command(after_help = "Example:\n  fedmerge server rounds show 3 --dir hub")]
    Show(ShowArguments),
}

/// The deeds with models.
#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// List the models that were published
    #[command(after_help = "Example:\n  fedmerge server models list --dir hub")]
    List(DirectoryArguments),
}

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

/// Rows with a heading, in columns that fit the terminal.
pub(super) fn table<const N: usize>(
    heading: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(heading);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines = table.to_string();
    let lines: Vec<&str> = lines.lines().map(str::trim_end).collect();
    lines.join("\n")
}

pub(super) async fn clients(command: &ClientsCommand, output: &Output) -> Result<(), Failure> {
    let ClientsCommand::List(arguments) = command;
    let ledger = arguments.ledger().await?;
    let clients = ledger.clients().await?;
    let rows = clients.iter().map(|client| {
        let labels = client
            .labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"));
        [
            client.id.to_string(),
            client.enrolled.to_second(),
            client.token.to_string(),
            labels.collect::<Vec<_>>().join(" "),
        ]
    });
    output.line(table(["client", "enrolled", "token", "labels"], rows));
    for client in &clients {
        output.json(&serde_json::json!({
            "client": client.id,
            "enrolled": client.enrolled.to_string(),
            "token": client.token,
            "labels": client.labels,
        }));
    }
    Ok(())
}

pub(super) async fn rounds(command: &RoundsCommand, output: &Output) -> Result<(), Failure> {
    match command {
        RoundsCommand::List(arguments) => {
            let rounds = read(arguments, RoundNumber::new(0)).await?;
            let rows = rounds.iter().map(|round| {
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
            });
            let heading = [
                "round", "outcome", "accepted", "rejected", "missing", "merge", "wall",
            ];
            output.line(table(heading, rows));
            for round in &rounds {
                output.json(round);
            }
            Ok(())
        }
        RoundsCommand::Show(arguments) => show(arguments, output).await,
    }
}

async fn read(
    arguments: &DirectoryArguments,
    first: RoundNumber,
) -> Result<Vec<ClosedRound>, Failure> {
    let (directory, ledger) = (arguments.directory()?, arguments.ledger().await?);
    let stories: Vec<RoundStory> = ledger.rounds(first).await?;
    let rounds = stories
        .iter()
        .map(|story| ClosedRound::new(&story.summary, story.merge.as_ref(), &directory));
    Ok(rounds.collect())
}

async fn show(arguments: &ShowArguments, output: &Output) -> Result<(), Failure> {
    let wanted = RoundNumber::new(arguments.round);
    let rounds = read(&arguments.directory, wanted).await?;
    let Some(round) = rounds.into_iter().find(|round| round.round == wanted) else {
        let message = format!("round {wanted} is not over, or never was");
        return Err(Failure::new(ExitCode::Usage, message)
            .with_hint("fedmerge server rounds list shows those that are over"));
    };
    output.line(format_args!("round {wanted}: {}", round.in_one_line()));
    let rows = round.clients.iter().map(|client| {
        let examples = match client.outcome {
            "accepted" => client.num_examples.to_string(),
            _ => String::new(),
        };
        [
            client.client.to_string(),
            client.outcome.to_owned(),
            examples,
            client.reason.clone(),
        ]
    });
    output.line(table(["client", "outcome", "examples", "reason"], rows));
    output.json(&round);
    Ok(())
}

pub(super) async fn models(command: &ModelsCommand, output: &Output) -> Result<(), Failure> {
    let ModelsCommand::List(arguments) = command;
    let (directory, ledger) = (arguments.directory()?, arguments.ledger().await?);
    let models = ledger.models().await?;
    let path = |version| -> PathBuf { directory.model(version).join(files::MODEL) };
    let rows = models.iter().map(|stored| {
        [
            stored.model.version.to_string(),
            stored
                .round
                .map_or("-".to_owned(), |round| round.to_string()),
            ByteSize::new(stored.model.size_bytes).to_string(),
            stored.published.to_second(),
            format!("blake3:{}…", stored.model.digest.short()),
            path(stored.model.version).display().to_string(),
        ]
    });
    let heading = ["model", "round", "size", "published", "digest", "path"];
    output.line(table(heading, rows));
    for stored in &models {
        output.json(&serde_json::json!({
            "model": stored.model.version,
            "round": stored.round,
            "bytes": stored.model.size_bytes,
            "published": stored.published.to_string(),
            "digest": stored.model.digest,
            "parent": stored.parent,
            "path": path(stored.model.version),
        }));
    }
    Ok(())
}
