//! `fedmerge server token …`: works on the ledger, whether or not the server runs.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use fedmerge_common::clock::Clock;
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::identity::check_label;
use fedmerge_common::ids::TokenId;
use fedmerge_common::output::Output;
use fedmerge_common::units::{Millis, Timestamp};
use fedmerge_proto::convert::admin::TokenRequest;

use super::DirectoryArguments;
use super::list::table;
use crate::enrolment::authority::Authority;
use crate::enrolment::token;
use crate::store::ledger::{Revocation, TokenRow};

/// The deeds with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print its join string, which is shown this once
    #[command(
        after_help = "Example:\n  fedmerge server token create --dir hub --uses 20 --ttl 24h --label site=ward-3"
    )]
    Create(CreateArguments),
    /// List tokens, without their secrets
    #[command(after_help = "Example:\n  fedmerge server token list --dir hub")]
    List(DirectoryArguments),
    /// Let nobody enrol with a token any more; who has enrolled stays
    #[command(after_help = "Example:\n  fedmerge server token revoke --dir hub TOKEN")]
    Revoke(RevokeArguments),
}

/// What `server token create` takes.
#[derive(Debug, Args)]
pub struct CreateArguments {
    /// Where the server is.
    #[command(flatten)]
    pub directory: DirectoryArguments,
    /// How many machines may use it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub uses: u32,
    /// How long it lives
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    pub ttl: Millis,
    /// A label for the clients that use it, several times if need be
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// Let its clients take part only once a person has approved each: fedmerge server clients approve
    #[arg(long)]
    pub require_approval: bool,
    /// Strike its clients off by themselves when their certificates end, for machines that come and go
    #[arg(long)]
    pub ephemeral: bool,
}

/// What `server token revoke` takes.
#[derive(Debug, Args)]
pub struct RevokeArguments {
    /// The token's id: the third part of its join string
    #[arg(value_name = "TOKEN")]
    pub token: String,
    /// Where the server is.
    #[command(flatten)]
    pub directory: DirectoryArguments,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    check_label(key, value).map_err(|error| error.to_string())?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(super) async fn run(command: TokenCommand, output: &Output) -> Result<(), Failure> {
    match command {
        TokenCommand::Create(arguments) => create(arguments, output).await,
        TokenCommand::List(arguments) => list(&arguments, output).await,
        TokenCommand::Revoke(arguments) => revoke(&arguments, output).await,
    }
}

async fn create(arguments: CreateArguments, output: &Output) -> Result<(), Failure> {
    let authority = Authority::load(&arguments.directory.directory()?, Clock::system().now())?;
    let ledger = arguments.directory.ledger().await?;
    let labels: BTreeMap<String, String> = arguments.labels.into_iter().collect();
    let request = TokenRequest {
        uses: arguments.uses,
        ttl: arguments.ttl,
        labels,
        needs_approval: arguments.require_approval,
        is_ephemeral: arguments.ephemeral,
    };
    if request.ttl == Millis::ZERO {
        return Err(Failure::new(
            ExitCode::Usage,
            "a token that lives 0 s is of no use",
        ));
    }
    let created = token::create(&request, authority.pin(), Clock::system().now());
    let (row, join) = created.map_err(|error| {
        Failure::new(ExitCode::Unavailable, "no secret can be made").with_source(&error)
    })?;
    ledger.add_token(&row).await?;
    ledger.close().await;
    output.line(&join);
    output.json(&serde_json::json!({
        "event": "token-created",
        "join_string": join.to_string(),
        "token": row.id,
        "uses": row.uses,
        "expires": row.expires.to_string(),
    }));
    Ok(())
}

async fn list(arguments: &DirectoryArguments, output: &Output) -> Result<(), Failure> {
    let ledger = arguments.ledger().await?;
    let tokens = ledger.tokens().await?;
    let now = Clock::system().now();
    let rows = tokens.iter().map(|token| {
        [
            token.id.to_string(),
            format!("{} of {}", token.used, token.uses),
            token.expires.to_second(),
            state(token, now).to_owned(),
        ]
    });
    output.line(table(["token", "used", "expires", "state"], rows));
    for token in &tokens {
        output.json(&serde_json::json!({
            "token": token.id,
            "uses": token.uses,
            "used": token.used,
            "created": token.created.to_string(),
            "expires": token.expires.to_string(),
            "state": state(token, now),
            "labels": token.labels,
            "require_approval": token.needs_approval,
            "ephemeral": token.is_ephemeral,
        }));
    }
    Ok(())
}

fn state(token: &TokenRow, now: Timestamp) -> &'static str {
    if token.is_revoked {
        "revoked"
    } else if now >= token.expires {
        "expired"
    } else if token.used >= token.uses {
        "used up"
    } else {
        "valid"
    }
}

async fn revoke(arguments: &RevokeArguments, output: &Output) -> Result<(), Failure> {
    let unknown = || {
        let message = format!("there is no token `{}`", arguments.token);
        Failure::new(ExitCode::Usage, message)
            .with_hint("fedmerge server token list shows those that there are")
    };
    let id: TokenId = arguments.token.parse().map_err(|_| unknown())?;
    let ledger = arguments.directory.ledger().await?;
    match ledger.revoke_token(&id, Clock::system().now()).await? {
        Revocation::Unknown => Err(unknown()),
        Revocation::Revoked | Revocation::AlreadyRevoked => {
            output.line(format_args!("revoked {id}"));
            output.json(&serde_json::json!({ "event": "token-revoked", "token": id }));
            Ok(())
        }
    }
}
