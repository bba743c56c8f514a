//! `fedmerge server status`: asks the running server; where none runs, says what the ledger knows, and fails all the same.
//!
//! The JSON is a contract: fields are added, never renamed.

use clap::Args;
use fedmerge_common::clock::Clock;
use fedmerge_common::digest::Digest;
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::output::Output;
use fedmerge_common::units::{ByteSize, Timestamp};
use fedmerge_common::update::ModelRef;
use fedmerge_coordinator::view::NAMED;
use fedmerge_proto::convert::nested;
use fedmerge_proto::v1;

use super::DirectoryArguments;
use super::ask;
use crate::app::restored;
use crate::directory::ServerDirectory;
use crate::plan::FederationPlan;
use crate::rpc;
use crate::store::ledger::Ledger;

pub(super) const EXAMPLES: &str = "\
Examples:
  fedmerge server status --dir hub
  fedmerge server rounds watch --dir hub   the same, a line each time that something changes";

/// What `server status` takes.
#[derive(Debug, Args)]
pub struct StatusArguments {
    /// Where the server is.
    #[command(flatten)]
    pub directory: DirectoryArguments,
}

/// Who says how things stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The running server: so it is now.
    Server,
    /// The ledger: so it was when the server was last there.
    Ledger,
}

pub(super) async fn run(arguments: &StatusArguments, output: &Output) -> Result<(), Failure> {
    let directory = arguments.directory.directory()?;
    let mut admin = match ask::connect(&directory).await {
        Ok(admin) => admin,
        Err(failure) => {
            if failure.exit == ExitCode::Unavailable && directory.ledger().exists() {
                let ledger = Ledger::open(&directory.ledger()).await?;
                if let Some(status) = last_known(&directory, &ledger).await? {
                    tell(&status, Source::Ledger, output)?;
                }
            }
            return Err(failure);
        }
    };
    let answer = admin.get_status(v1::GetStatusRequest {}).await;
    let answer = answer.map_err(|status| ask::refused(&status))?;
    tell(&whole(answer.into_inner().status)?, Source::Server, output)
}

fn tell(status: &v1::Status, source: Source, output: &Output) -> Result<(), Failure> {
    for line in in_lines(status, source, Clock::system().now())? {
        output.line(line);
    }
    output.json(&as_json(status, source)?);
    Ok(())
}

/// How things stood when the server was last there, with nobody connected; nothing before its first start.
pub(super) async fn last_known(
    directory: &ServerDirectory,
    ledger: &Ledger,
) -> Result<Option<v1::Status>, Failure> {
    let Some(newest) = ledger.newest_model().await? else {
        return Ok(None);
    };
    let plan = FederationPlan::read(&directory.plan())?;
    let (coordinator, _) = restored(ledger, &plan.round, newest.model).await?;
    Ok(Some(rpc::status(&plan.name, &coordinator.view())))
}

pub(super) fn whole(status: Option<v1::Status>) -> Result<v1::Status, Failure> {
    status.ok_or_else(|| Failure::new(ExitCode::Bug, "the server answered without a status"))
}

fn base(status: &v1::Status) -> Result<ModelRef, Failure> {
    nested("status.base", status.base.clone()).map_err(|error| {
        Failure::new(ExitCode::Bug, "the server's answer makes no sense").with_source(&error)
    })
}

pub(super) fn in_one_line(status: &v1::Status) -> String {
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

fn in_lines(
    status: &v1::Status,
    source: Source,
    moment: Timestamp,
) -> Result<Vec<String>, Failure> {
    let base = base(status)?;
    let is_now = source == Source::Server;
    let mut lines = vec![format!("federation   {}", status.federation)];
    if !is_now {
        lines.push("server       does not run; the ledger says how things stood".to_owned());
    }
    lines.push(format!(
        "base         {} (blake3:{}…, {})",
        base.version,
        base.digest.short(),
        ByteSize::new(base.size_bytes)
    ));
    if is_now {
        lines.push(format!("clients      {} attending", status.attending));
    }
    lines.push(format!("rounds       {} over", status.rounds_ended));
    if !status.ended.is_empty() {
        lines.push(format!("ended        {}", status.ended));
        return Ok(lines);
    }
    let label = if is_now { "now " } else { "then" };
    lines.push(format!("{label}         {}", now(status)));
    if status.invited > 0 {
        let updates = format!("{} of {} invited", status.accepted, status.invited);
        lines.push(format!("updates      {updates}"));
    }
    lines.push(format!("waiting for  {}", status.waiting_for));
    lines.extend(missing(status).map(|missing| format!("missing      {missing}")));
    if is_now && status.until_ms > 0 {
        let until = Timestamp::new(status.until_ms);
        let left = (until - moment).approximate();
        lines.push(format!(
            "until        {}, {left} from now",
            until.to_second()
        ));
    }
    lines.extend(refused(status).map(|refused| format!("refused      {refused}")));
    Ok(lines)
}

/// `busy 12, not-permitted 3, since it started`; nothing where nobody was.
fn refused(status: &v1::Status) -> Option<String> {
    let counts = status.refusals.iter();
    let counts: Vec<String> = counts
        .map(|(reason, count)| format!("{reason} {count}"))
        .collect();
    (!counts.is_empty()).then(|| format!("{}, since it started", counts.join(", ")))
}

/// The first names and how many more, where the sentence has not named all.
fn missing(status: &v1::Status) -> Option<String> {
    if status.awaited.len() <= NAMED {
        return None;
    }
    let named = u32::try_from(status.awaited.len()).unwrap_or(u32::MAX);
    let names = status.awaited.join(", ");
    Some(match status.awaited_count.saturating_sub(named) {
        0 => names,
        more => format!("{names} and {more} more"),
    })
}

pub(super) fn as_json(status: &v1::Status, source: Source) -> Result<serde_json::Value, Failure> {
    let base = base(status)?;
    let digest: Digest = base.digest;
    let until = Some(status.until_ms).filter(|until| *until > 0);
    Ok(serde_json::json!({
        "federation": status.federation,
        "running": source == Source::Server,
        "round": status.round,
        "phase": status.phase,
        "waiting_for": status.waiting_for,
        "awaited": status.awaited,
        "awaited_count": status.awaited_count,
        "until": until.map(|until| Timestamp::new(until).to_string()),
        "base": { "version": base.version, "digest": digest, "bytes": base.size_bytes },
        "attending": status.attending,
        "invited": status.invited,
        "accepted": status.accepted,
        "rounds_ended": status.rounds_ended,
        "ended": status.ended,
        "refusals": status.refusals,
    }))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use super::*;

    fn status() -> v1::Status {
        let base = ModelRef {
            version: fedmerge_common::ids::ModelVersion::new(3),
            digest: Digest::of(b"base"),
            size_bytes: 2048,
        };
        v1::Status {
            federation: "digits".to_owned(),
            round: 4,
            phase: "collecting".to_owned(),
            waiting_for: "1 of 6 updates, missing a, b and 3 more, until 12:10:00 UTC".to_owned(),
            awaited: ["a", "b", "c"].map(str::to_owned).to_vec(),
            awaited_count: 5,
            until_ms: 1_700_050_200_000,
            base: Some(base.into()),
            attending: 2,
            invited: 6,
            accepted: 1,
            rounds_ended: 3,
            ended: String::new(),
            refusals: [("busy".to_owned(), 12), ("not-permitted".to_owned(), 3)].into(),
        }
    }

    #[test]
    fn a_status_says_what_is_waited_for_by_whom_and_until_when() {
        let noon = Timestamp::new(1_700_049_600_000);
        let lines = in_lines(&status(), Source::Server, noon).unwrap();
        let digest = Digest::of(b"base").short();
        assert_eq!(
            lines,
            [
                "federation   digits",
                &format!("base         3 (blake3:{digest}…, 2 KiB)"),
                "clients      2 attending",
                "rounds       3 over",
                "now          round 4, collecting",
                "updates      1 of 6 invited",
                "waiting for  1 of 6 updates, missing a, b and 3 more, until 12:10:00 UTC",
                "missing      a, b, c and 2 more",
                "until        2023-11-15T12:10:00Z, 10 m 00 s from now",
                "refused      busy 12, not-permitted 3, since it started",
            ]
        );
    }

    #[test]
    fn a_status_of_the_ledger_does_not_speak_of_now() {
        let moment = Timestamp::new(0);
        let told = in_lines(&status(), Source::Ledger, moment)
            .unwrap()
            .join("\n");
        assert!(told.contains("server       does not run"), "{told}");
        assert!(told.contains("then         round 4, collecting"), "{told}");
        assert!(!told.contains("from now"), "{told}");
        assert!(!told.contains("attending"), "{told}");
    }

    #[test]
    fn programs_get_the_moment_and_the_names() {
        let json = as_json(&status(), Source::Server).unwrap();
        assert_eq!(json["until"], "2023-11-15T12:10:00Z");
        assert_eq!(json["awaited"], serde_json::json!(["a", "b", "c"]));
        assert_eq!(json["awaited_count"], 5);
        assert_eq!(json["running"], true);
        let idle = v1::Status {
            until_ms: 0,
            ..status()
        };
        let json = as_json(&idle, Source::Ledger).unwrap();
        assert_eq!(json["until"], serde_json::Value::Null);
        assert_eq!(json["running"], false);
    }
}
