//! `fedmerge server clients list`: read from the ledger, whether or not the server runs. And how every list looks.

use clap::{Args, Subcommand};
use comfy_table::{ContentArrangement, Table, presets};
use fedmerge_common::failure::Failure;
use fedmerge_common::output::Output;

use super::DirectoryArguments;

/// The deeds with clients.
#[derive(Debug, Subcommand)]
pub enum ClientsCommand {
    /// List enrolled clients
    #[command(after_help = "Example:\n  fedmerge server clients list --dir hub")]
    List(DirectoryArguments),
}

/// What a list that grows for ever takes.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// Where the server is.
    #[command(flatten)]
    pub directory: DirectoryArguments,
    /// How many, the newest
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub last: u32,
    /// All of them
    #[arg(long, conflicts_with = "last")]
    pub all: bool,
}

impl ListArguments {
    /// How many are wanted, at most.
    pub(super) fn count(&self) -> u32 {
        if self.all { u32::MAX } else { self.last }
    }
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
