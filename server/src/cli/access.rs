//! `fedmerge server access …`: the certificate authority, and the certificates of people and programs that administer or watch.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use fedmerge_common::clock::Clock;
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::hex;
use fedmerge_common::identity::Identity;
use fedmerge_common::ids::AdminName;
use fedmerge_common::lock::DirectoryLock;
use fedmerge_common::output::Output;
use fedmerge_common::units::Millis;
use tokio::time::{Instant, sleep};

use super::{DirectoryArguments, ask};
use crate::audit::AuditEvent;
use crate::directory::ServerDirectory;
use crate::enrolment::authority::Authority;
use crate::publish;

/// How long the running server may take to see that its identity has changed.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two questions whether it has.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// The deeds with access.
#[derive(Debug, Subcommand)]
pub enum AccessCommand {
    /// Make a key and a certificate for an administrator or an observer
    #[command(
        after_help = "Examples:\n  fedmerge server access create --dir hub grafana --role observer --out grafana\n  grpcurl -cacert \
                      grafana/ca.pem -cert grafana/grafana.pem -key grafana/grafana.key \\\n    -servername fedmerge-server \
                      $(cat hub/state/admin-address) fedmerge.v1.Admin/GetStatus"
    )]
    Create(CreateAccessArguments),
    /// Put a new certificate authority into the place of the present one; the running server takes it up by itself
    #[command(after_help = "Example:\n  fedmerge server access rotate --dir hub --overlap 45d")]
    Rotate(RotateArguments),
}

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Everything
    Admin,
    /// Look at status, clients and rounds, and change nothing
    Observer,
}

/// What `server access create` takes.
#[derive(Debug, Args)]
pub struct CreateAccessArguments {
    /// A name for the log, a-z 0-9 . _ -
    #[arg(value_name = "NAME")]
    pub name: String,
    /// What the certificate allows
    #[arg(long, value_enum)]
    pub role: Role,
    /// How long it is valid: it is neither renewed nor revoked
    #[arg(long, value_name = "DURATION", default_value = "30d")]
    pub ttl: Millis,
    /// A directory for NAME.pem, NAME.key and ca.pem
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Where the server is.
    #[command(flatten)]
    pub directory: DirectoryArguments,
}

/// What `server access rotate` takes.
#[derive(Debug, Args)]
pub struct RotateArguments {
    /// How long clients and join strings that know the present authority are served: clients learn of the new one when they renew
    #[arg(long, value_name = "DURATION", default_value = "45d")]
    pub overlap: Millis,
    /// Where the server is.
    #[command(flatten)]
    pub directory: DirectoryArguments,
}

pub(super) async fn run(command: &AccessCommand, output: &Output) -> Result<(), Failure> {
    match command {
        AccessCommand::Create(arguments) => create(arguments, output).await,
        AccessCommand::Rotate(arguments) => rotate(arguments, output).await,
    }
}

async fn rotate(arguments: &RotateArguments, output: &Output) -> Result<(), Failure> {
    let directory = arguments.directory.directory()?;
    let now = Clock::system().now();
    let old = Authority::load(&directory, now)?;
    let new = old.rotate(&directory, now, arguments.overlap)?;
    let until = now + arguments.overlap;
    let ledger = arguments.directory.ledger().await?;
    let rotated = AuditEvent::AuthorityRotated {
        key_sha256: hex::encode(&new.pin()),
        before_sha256: hex::encode(&old.pin()),
        overlap_until: until.to_string(),
    };
    ledger.note(now, rotated).await?;
    ledger.close().await;
    if DirectoryLock::holder_of(&directory.lock()).is_some() {
        until_taken_up(&directory, output).await;
    }
    prove_models(&directory, (&old, &new), output)?;
    output.line(format_args!(
        "the authority's key is now sha256:{}; whoever knows the one before it is served until {}",
        hex::encode(&new.pin()),
        until.to_second()
    ));
    output.json(&serde_json::json!({
        "event": "authority-rotated",
        "key_sha256": hex::encode(&new.pin()),
        "before_sha256": hex::encode(&old.pin()),
        "overlap_until": until.to_string(),
    }));
    Ok(())
}

/// Models that were signed before are signed anew, so that whoever knows the new authority alone can check them.
fn prove_models(
    directory: &ServerDirectory,
    (old, new): (&Authority, &Authority),
    output: &Output,
) -> Result<(), Failure> {
    let unproven = publish::prove_again(directory, old.certificate(), new);
    let unproven = unproven.map_err(|error| {
        let message = "the authority is new, but not every model could be signed anew";
        Failure::new(ExitCode::Unavailable, message)
            .with_source(&error)
            .with_hint("`identity/old-ca.pem` proves those that were not")
    })?;
    if !unproven.is_empty() {
        let versions: Vec<String> = unproven.iter().map(ToString::to_string).collect();
        output.note(format_args!(
            "not what the authority before this one signed, and not signed anew: models {}",
            versions.join(", ")
        ));
    }
    Ok(())
}

/// Waits until the running server shows certificates of the new authority, and takes those of it.
async fn until_taken_up(directory: &ServerDirectory, output: &Output) {
    let end = Instant::now() + PATIENCE;
    while ask::connect(directory).await.is_err() {
        if Instant::now() >= end {
            output.note(
                "the running server has not taken up the new authority yet; its log says why",
            );
            return;
        }
        sleep(LOOK_AGAIN).await;
    }
}

async fn create(arguments: &CreateAccessArguments, output: &Output) -> Result<(), Failure> {
    let directory = arguments.directory.directory()?;
    let name: AdminName = arguments.name.parse().map_err(|error| {
        let message = format!("`{}` cannot be a name", arguments.name);
        Failure::new(ExitCode::Usage, message).with_source(&error)
    })?;
    let identity = match arguments.role {
        Role::Admin => Identity::Admin(name),
        Role::Observer => Identity::Observer(name),
    };
    let now = Clock::system().now();
    let span = (now, arguments.ttl);
    let ledger = arguments.directory.ledger().await?;
    Authority::load(&directory, now)?.certify(&directory, &identity, span, &arguments.out)?;
    let created = AuditEvent::AccessCreated {
        identity: identity.to_string(),
        until: (now + arguments.ttl).to_string(),
    };
    ledger.note(now, created).await?;
    ledger.close().await;
    output.line(format_args!(
        "{identity} may come in until {}: its key, certificate and the authority's are in {}",
        (now + arguments.ttl).to_second(),
        arguments.out.display()
    ));
    output.json(&serde_json::json!({
        "event": "access-created",
        "identity": identity.to_string(),
        "until": (now + arguments.ttl).to_string(),
        "directory": arguments.out,
    }));
    Ok(())
}
