//! `fedmerge server status`: asks the running server.

use clap::Args;
use fedmerge_common::digest::Digest;
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::output::Output;
use fedmerge_common::units::ByteSize;
use fedmerge_common::update::ModelRef;
use fedmerge_proto::convert::nested;
use fedmerge_proto::v1;

use super::DirectoryArguments;
use super::ask;

pub(super) const EXAMPLES: &str = "\
Example:
  fedmerge server status --dir hub
  fedmerge server status --dir hub --watch";

/// What `server status` takes.
#[derive(Debug, Args)]
pub struct StatusArguments {
    /// Where the server is.
    #[command(flatten)]
    pub directory: DirectoryArguments,
    /// Go on: a line each time that something changes, until the federation ends
    #[arg(long)]
    pub watch: bool,
}

pub(super) async fn run(arguments: &StatusArguments, output: &Output) -> Result<(), Failure> {
    let mut admin = ask::connect(&arguments.directory.directory()?).await?;
    if arguments.watch {
        let answer = admin.watch_status(v1::WatchStatusRequest {}).await;
        let mut statuses = answer.map_err(|status| ask::refused(&status))?.into_inner();
        while let Some(message) = statuses
            .message()
            .await
            .map_err(|status| ask::refused(&status))?
        {
            let status = whole(message.status)?;
            output.line(in_one_line(&status));
            output.json(&as_json(&status)?);
            if !status.ended.is_empty() {
                return Ok(());
            }
        }
        return Ok(());
    }
    let answer = admin.get_status(v1::GetStatusRequest {}).await;
    let answer = answer.map_err(|status| ask::refused(&status))?;
    let status = whole(answer.into_inner().status)?;
    for line in in_lines(&status)? {
        output.line(line);
    }
    output.json(&as_json(&status)?);
    Ok(())
}

fn whole(status: Option<v1::Status>) -> Result<v1::Status, Failure> {
    status.ok_or_else(|| Failure::new(ExitCode::Bug, "the server answered without a status"))
}

fn base(status: &v1::Status) -> Result<ModelRef, Failure> {
    nested("status.base", status.base.clone()).map_err(|error| {
        Failure::new(ExitCode::Bug, "the server's answer makes no sense").with_source(&error)
    })
}

fn in_one_line(status: &v1::Status) -> String {
    if status.ended.is_empty() {
        format!("{}: waiting for {}", now(status), status.waiting_for)
    } else {
        format!("ended: {}", status.ended)
    }
}

fn now(status: &v1::Status) -> String {
    let (round, phase) = (status.round, &status.phase);
    if phase == "gathering" {
        format!("gathering for round {}", round.saturating_add(1))
    } else {
        format!("round {round}, {phase}")
    }
}

fn in_lines(status: &v1::Status) -> Result<Vec<String>, Failure> {
    let base = base(status)?;
    let mut lines = vec![
        format!("federation   {}", status.federation),
        format!(
            "base         {} (blake3:{}…, {})",
            base.version,
            base.digest.short(),
            ByteSize::new(base.size_bytes)
        ),
        format!("clients      {} attending", status.attending),
        format!("rounds       {} over", status.rounds_ended),
    ];
    if status.ended.is_empty() {
        lines.push(format!("now          {}", now(status)));
        if status.invited > 0 {
            let updates = format!("{} of {} invited", status.accepted, status.invited);
            lines.push(format!("updates      {updates}"));
        }
        lines.push(format!("waiting for  {}", status.waiting_for));
    } else {
        lines.push(format!("ended        {}", status.ended));
    }
    Ok(lines)
}

fn as_json(status: &v1::Status) -> Result<serde_json::Value, Failure> {
    let base = base(status)?;
    let digest: Digest = base.digest;
    Ok(serde_json::json!({
        "federation": status.federation,
        "round": status.round,
        "phase": status.phase,
        "waiting_for": status.waiting_for,
        "base": { "version": base.version, "digest": digest, "bytes": base.size_bytes },
        "attending": status.attending,
        "invited": status.invited,
        "accepted": status.accepted,
        "rounds_ended": status.rounds_ended,
        "ended": status.ended,
    }))
}
