//! `fedmerge server clients list`: read from the ledger, whether or not the server runs. And how every list looks.

use clap::Subcommand;
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
