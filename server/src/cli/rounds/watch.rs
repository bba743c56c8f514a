//! `fedmerge server rounds watch`: what the federation waits for, a line each time that this changes, until it ends.
//!
//! The running server says what is waited for; that a round closed, and that the federation ended, is read from the ledger, so
//! that nothing is missed where the server was restarted meanwhile, or is gone. JSON: one object a line, with `event` being
//! `waiting` (and all of `server status`), `round-closed` (as `server run` tells it), `server-lost` or `ended`.

use std::time::Duration;

use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::ids::RoundNumber;
use fedmerge_common::output::Output;
use fedmerge_proto::v1;
use fedmerge_proto::v1::admin_client::AdminClient;
use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::cli::status::{self, Source};
use crate::cli::{DirectoryArguments, ask};
use crate::closed_round::ClosedRound;
use crate::directory::ServerDirectory;
use crate::store::ledger::{Ledger, Rounds};

/// Between two looks for a server that is not there.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How a stay with the server ended.
enum Stay {
    /// With the federation.
    Ended,
    /// With the server.
    Lost,
}

/// What was told so far.
struct Watch<'a> {
    output: &'a Output,
    directory: ServerDirectory,
    ledger: Ledger,
    /// The last round whose end was told.
    told: RoundNumber,
    /// The last line.
    said: String,
}

pub(super) async fn run(arguments: &DirectoryArguments, output: &Output) -> Result<(), Failure> {
    let ledger = arguments.ledger().await?;
    let mut watch = Watch {
        output,
        directory: arguments.directory()?,
        told: ledger.last_round().await?.unwrap_or(RoundNumber::new(0)),
        ledger,
        said: String::new(),
    };
    loop {
        match ask::connect(&watch.directory).await {
            Ok(admin) => match watch.stay(admin).await? {
                Stay::Ended => return Ok(()),
                Stay::Lost => {}
            },
            Err(failure) if failure.exit == ExitCode::Unavailable => {}
            Err(failure) => return Err(failure),
        }
        // A server that exits with its federation may be gone before it has said so.
        watch.tell_closed().await?;
        if let Some(last) = status::last_known(&watch.directory, &watch.ledger).await?
            && !last.ended.is_empty()
        {
            return watch.tell(&last);
        }
        watch.tell_lost();
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

impl Watch<'_> {
    /// Follows the server for as long as it is there.
    async fn stay(&mut self, mut admin: AdminClient<Channel>) -> Result<Stay, Failure> {
        let Ok(answer) = admin.watch_status(v1::WatchStatusRequest {}).await else {
            return Ok(Stay::Lost);
        };
        let mut statuses = answer.into_inner();
        while let Ok(Some(message)) = statuses.message().await {
            let status = status::whole(message.status)?;
            if status.rounds_ended > self.told.get() {
                self.tell_closed().await?;
            }
            self.tell(&status)?;
            if !status.ended.is_empty() {
                return Ok(Stay::Ended);
            }
        }
        Ok(Stay::Lost)
    }

    async fn tell_closed(&mut self) -> Result<(), Failure> {
        let stories = self.ledger.rounds(Rounds::From(self.told.next())).await?;
        for story in stories {
            let closed = ClosedRound::new(&story.summary, story.merge_ms, &self.directory);
            self.told = closed.round;
            let round = closed.round;
            self.output
                .line(format_args!("round {round}: {}", closed.in_one_line()));
            self.output.json(&event("round-closed", json!(closed)));
        }
        Ok(())
    }

    /// Says how things stand, unless that was said last.
    fn tell(&mut self, status: &v1::Status) -> Result<(), Failure> {
        let line = status::in_one_line(status);
        if line != self.said {
            self.output.line(&line);
            let name = if status.ended.is_empty() {
                "waiting"
            } else {
                "ended"
            };
            let told = status::as_json(status, Source::Server)?;
            self.output.json(&event(name, told));
            self.said = line;
        }
        Ok(())
    }

    fn tell_lost(&mut self) {
        let line = format!(
            "waiting for the server, which does not run in `{}`",
            self.directory.root().display()
        );
        if line != self.said {
            self.output.line(&line);
            self.output.json(&event("server-lost", json!({})));
            self.said = line;
        }
    }
}

/// An object that says first what it is.
fn event(name: &str, told: Value) -> Value {
    let mut event = json!({ "event": name });
    if let (Some(event), Value::Object(told)) = (event.as_object_mut(), told) {
        event.extend(told);
    }
    event
}
