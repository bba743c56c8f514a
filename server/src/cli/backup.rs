//! `fedmerge server backup`: a copy of the ledger, whether or not the server runs.

use std::path::PathBuf;

use clap::Args;
use fedmerge_common::failure::Failure;
use fedmerge_common::output::Output;
use fedmerge_common::units::ByteSize;

use super::DirectoryArguments;

pub(super) const EXAMPLES: &str = "\
Example:
  fedmerge server backup ledger-monday.sqlite --dir hub

To restore it, stop the server, copy it to DIR/state/ledger.sqlite, remove ledger.sqlite-wal and
ledger.sqlite-shm there, and start the server: it goes on from the round of the backup.";

/// What `server backup` takes.
#[derive(Debug, Args)]
pub struct BackupArguments {
    /// File to make; nothing may be there
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Where the server is.
    #[command(flatten)]
    pub directory: DirectoryArguments,
}

pub(super) async fn run(arguments: &BackupArguments, output: &Output) -> Result<(), Failure> {
    let ledger = arguments.directory.ledger().await?;
    let file = std::path::absolute(&arguments.file).unwrap_or_else(|_| arguments.file.clone());
    let bytes = ledger.back_up(&file).await?;
    ledger.close().await;
    output.line(format_args!(
        "{} holds the ledger, {}; keep models/, identity/ and the .toml files too",
        file.display(),
        ByteSize::new(bytes)
    ));
    output.json(&serde_json::json!({
        "event": "backed-up",
        "path": file,
        "bytes": bytes,
    }));
    Ok(())
}
