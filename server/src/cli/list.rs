//! `fedmerge server clients|models list`: read from the ledger, whether or not the server runs.

use std::path::PathBuf;

use clap::Subcommand;
use comfy_table::{ContentArrangement, Table, presets};
use fedmerge_common::failure::Failure;
use fedmerge_common::output::Output;
use fedmerge_common::units::ByteSize;

use super::DirectoryArguments;
use crate::files;

/// The deeds with clients.
#[derive(Debug, Subcommand)]
pub enum ClientsCommand {
    /// List enrolled clients
    #[command(after_help = "Example:\n  fedmerge server clients list --dir hub")]
    List(DirectoryArguments),
}

/// The deeds with models.
#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// List the models that were published
    #[command(after_help = "Example:\n  fedmerge server models list --dir hub")]
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
