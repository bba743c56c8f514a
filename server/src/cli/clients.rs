//! `fedmerge server clients …`: read and written in the ledger, whether or not the server runs; a running server evicts by itself.

use clap::{Args, Subcommand};
use fedmerge_common::clock::Clock;
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::hex;
use fedmerge_common::ids::ClientId;
use fedmerge_common::lock::DirectoryLock;
use fedmerge_common::output::Output;
use fedmerge_common::reason::{NO_REASON, one_line};
use fedmerge_common::units::Timestamp;
use fedmerge_proto::v1;

use super::list::table;
use super::{DirectoryArguments, ask};
use crate::store::ledger::{Approval, ClientState, EnrolledClient};

/// The deeds with clients.
#[derive(Debug, Subcommand)]
pub enum ClientsCommand {
    /// List enrolled clients, and those that wait for approval
    #[command(after_help = "Example:\n  fedmerge server clients list --dir hub")]
    List(DirectoryArguments),
    /// Say all that is known of a client
    #[command(after_help = "Example:\n  fedmerge server clients show --dir hub ward-3")]
    Show(ClientArguments),
    /// Let a client take part that waits for approval, is locked because two machines used its identity, or is in quarantine
    #[command(after_help = "Example:\n  fedmerge server clients approve --dir hub ward-3")]
    Approve(ClientArguments),
    /// Strike a client off: its connections are cut, its keys are never taken again, and its name is free
    #[command(
        after_help = "Example:\n  fedmerge server clients evict --dir hub ward-3 --reason 'the machine was lost'"
    )]
    Evict(EvictArguments),
}

/// A client of a server.
#[derive(Debug, Args)]
pub struct ClientArguments {
    /// The client's name
    #[arg(value_name = "CLIENT")]
    pub client: String,
    /// Where the server is.
    #[command(flatten)]
    pub directory: DirectoryArguments,
}

/// What `server clients evict` takes.
#[derive(Debug, Args)]
pub struct EvictArguments {
    /// Whom.
    #[command(flatten)]
    pub client: ClientArguments,
    /// Why: one line, which the client is told
    #[arg(long, value_name = "TEXT", default_value = NO_REASON)]
    pub reason: String,
}

impl ClientArguments {
    fn id(&self) -> Result<ClientId, Failure> {
        self.client.parse().map_err(|_| self.unknown())
    }

    fn unknown(&self) -> Failure {
        let message = format!("there is no client `{}`", self.client);
        Failure::new(ExitCode::Usage, message)
            .with_hint("fedmerge server clients list shows those that there are")
    }
}

pub(super) async fn run(command: &ClientsCommand, output: &Output) -> Result<(), Failure> {
    match command {
        ClientsCommand::List(arguments) => list(arguments, output).await,
        ClientsCommand::Show(arguments) => show(arguments, output).await,
        ClientsCommand::Approve(arguments) => approve(arguments, output).await,
        ClientsCommand::Evict(arguments) => evict(arguments, output).await,
    }
}

async fn list(arguments: &DirectoryArguments, output: &Output) -> Result<(), Failure> {
    let ledger = arguments.ledger().await?;
    let clients = ledger.clients().await?;
    let now = Clock::system().now();
    let rows = clients.iter().map(|client| {
        [
            client.id.to_string(),
            client.state.to_string(),
            client.enrolled.to_second(),
            certificate(client, now),
            token(client),
            labels(client),
        ]
    });
    let heading = [
        "client",
        "state",
        "enrolled",
        "certificate until",
        "token",
        "labels",
    ];
    output.line(table(heading, rows));
    clients.iter().for_each(|client| output.json(&json(client)));
    Ok(())
}

async fn show(arguments: &ClientArguments, output: &Output) -> Result<(), Failure> {
    let ledger = arguments.directory.ledger().await?;
    let client = ledger.client(&arguments.id()?).await?;
    let client = client.ok_or_else(|| arguments.unknown())?;
    let state = match client.state {
        ClientState::Waiting => "waits for approval",
        ClientState::Admitted => "takes part",
        ClientState::Locked => "locked: two machines used its identity",
        ClientState::Quarantined => "in quarantine: its updates were rejected round after round",
        ClientState::Evicted => "evicted: whatever certificate names it, it is refused",
    };
    let stay = if client.is_ephemeral {
        "until its certificate ends"
    } else {
        "until it is evicted"
    };
    let lines = [
        ("client", client.id.to_string()),
        ("state", state.to_owned()),
        ("enrolled", client.enrolled.to_second()),
        ("certificate", certificate(&client, Clock::system().now())),
        ("renewed", format!("{} times", client.renewals)),
        (
            "rejected",
            format!("in {} rounds in a row", client.rejections),
        ),
        ("stays", stay.to_owned()),
        ("token", token(&client)),
        ("labels", labels(&client)),
        ("key", format!("sha256:{}", hex::encode(&client.key))),
    ];
    for (name, value) in lines {
        output.line(format_args!("{name:<12} {value}"));
    }
    output.json(&json(&client));
    Ok(())
}

async fn approve(arguments: &ClientArguments, output: &Output) -> Result<(), Failure> {
    let client = arguments.id()?;
    let ledger = arguments.directory.ledger().await?;
    let words = match ledger.approve(&client, Clock::system().now()).await? {
        Approval::Unknown => return Err(arguments.unknown()),
        Approval::Approved => "takes part from now on",
        Approval::AlreadyAdmitted => "takes part already",
    };
    ledger.close().await;
    output.line(format_args!("{client} {words}"));
    output.json(&serde_json::json!({ "event": "client-approved", "client": client }));
    Ok(())
}

async fn evict(arguments: &EvictArguments, output: &Output) -> Result<(), Failure> {
    let client = arguments.client.id()?;
    let directory = arguments.client.directory.directory()?;
    let ledger = arguments.client.directory.ledger().await?;
    let Some(known) = ledger.client(&client).await? else {
        return Err(arguments.client.unknown());
    };
    if DirectoryLock::holder_of(&directory.lock()).is_some() {
        let request = v1::EvictClientRequest {
            client_id: client.to_string(),
            reason: arguments.reason.clone(),
        };
        let evicted = ask::connect(&directory).await?.evict_client(request).await;
        evicted.map_err(|status| ask::refused(&status))?;
    } else {
        let reason = one_line(&arguments.reason);
        let now = Clock::system().now();
        ledger.evict(&client, &reason, now).await?;
    }
    ledger.close().await;
    let rest = match known.token {
        Some(_) => "its keys are refused from now on, and its name is free",
        None => {
            "whatever certificate names it is refused from now on, until `clients approve` takes that back"
        }
    };
    output.line(format_args!("evicted {client}: {rest}"));
    output.json(&serde_json::json!({ "event": "client-evicted", "client": client }));
    Ok(())
}

fn certificate(client: &EnrolledClient, now: Timestamp) -> String {
    match client.until {
        None => "none".to_owned(),
        Some(until) if until <= now => format!("{} (over)", until.to_second()),
        Some(until) => until.to_second(),
    }
}

/// How it came in.
fn token(client: &EnrolledClient) -> String {
    let token = client.token.as_ref();
    token.map_or_else(|| "none: the site's CA".to_owned(), ToString::to_string)
}

fn labels(client: &EnrolledClient) -> String {
    let labels = client.labels.iter();
    let labels = labels.map(|(key, value)| format!("{key}={value}"));
    labels.collect::<Vec<_>>().join(" ")
}

fn json(client: &EnrolledClient) -> serde_json::Value {
    serde_json::json!({
        "client": client.id,
        "state": client.state.as_str(),
        "enrolled": client.enrolled.to_string(),
        "certificate_until": client.until.map(|until| until.to_string()),
        "renewals": client.renewals,
        "rejections": client.rejections,
        "ephemeral": client.is_ephemeral,
        "token": client.token,
        "labels": client.labels,
        "key_sha256": hex::encode(&client.key),
    })
}
