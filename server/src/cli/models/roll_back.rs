//! `fedmerge server models rollback`: the running server is asked to make an older model the base again.

use clap::Args;
use fedmerge_common::failure::Failure;
use fedmerge_common::ids::ModelVersion;
use fedmerge_common::output::Output;
use fedmerge_common::reason::NO_REASON;
use fedmerge_common::update::ModelRef;
use fedmerge_proto::convert::nested;
use fedmerge_proto::v1;

use super::kept;
use crate::cli::DirectoryArguments;
use crate::cli::ask;

/// What `server models rollback` takes.
#[derive(Debug, Args)]
pub struct RollbackArguments {
    /// The older version
    #[arg(value_name = "VERSION")]
    pub model: u64,
    /// Why: one line, which every client is shown
    #[arg(long, value_name = "TEXT", default_value = NO_REASON)]
    pub reason: String,
    /// A version that clients know: the new one is higher. For a server that a backup has set back
    #[arg(
        long,
        value_name = "VERSION",
        default_value_t = 0,
        hide_default_value = true
    )]
    pub above: u64,
    /// Where the server is.
    #[command(flatten)]
    pub directory: DirectoryArguments,
}

pub(super) async fn run(arguments: &RollbackArguments, output: &Output) -> Result<(), Failure> {
    let directory = arguments.directory.directory()?;
    let ledger = arguments.directory.ledger().await?;
    let version = ModelVersion::new(arguments.model);
    let older = kept(&ledger, version).await?;
    ledger.close().await;
    let request = v1::RollBackModelRequest {
        version: version.get(),
        reason: arguments.reason.clone(),
        above: arguments.above,
    };
    let mut server = ask::connect(&directory).await?;
    let answer = server.roll_back_model(request).await;
    let answer = answer.map_err(|status| ask::refused(&status))?;
    let model: ModelRef =
        nested("model", answer.into_inner().model).map_err(|error| ask::nonsense(&error))?;
    output.line(format_args!(
        "model {} is model {version} again (blake3:{}…), and the base of the rounds that follow",
        model.version,
        older.model.digest.short()
    ));
    output.json(&serde_json::json!({
        "event": "rolled-back",
        "model": model,
        "of": version,
    }));
    Ok(())
}
