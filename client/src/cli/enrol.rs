//! `fedmerge client enrol`.

use std::path::PathBuf;

use clap::Args;
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::ids::ClientId;
use fedmerge_common::output::Output;
use fedmerge_common::units::Millis;
use serde::Serialize;

use crate::enrolment::{self, Wish};
use crate::link::address::ServerAddress;
use crate::settings::{ClientDirectory, Settings};

pub(super) const EXAMPLES: &str = "\
Example:
  fedmerge client enrol --server https://fed.example:7600 --token fm1.… --dir ward-3";

/// What `client enrol` takes.
#[derive(Debug, Args)]
pub struct EnrolArguments {
    /// The server: https://HOST:PORT
    #[arg(long, value_name = "URL")]
    pub server: String,
    /// The join string that `fedmerge server token create` printed
    #[arg(
        long,
        value_name = "STRING",
        env = "FEDMERGE_TOKEN",
        hide_env_values = true
    )]
    pub token: String,
    /// Directory to make: the client's key, certificate and cache
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// The client's name, a-z 0-9 . _ - [default: this machine's name]
    #[arg(long, value_name = "ID")]
    pub name: Option<String>,
    /// How long to wait for a server that is not there yet
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    pub wait: Millis,
}

/// The JSON that `client enrol` prints.
#[derive(Debug, Serialize)]
struct Enrolled<'a> {
    event: &'static str,
    #[serde(flatten)]
    settings: &'a Settings,
    directory: &'a std::path::Path,
}

pub(super) fn run(arguments: EnrolArguments, output: &Output) -> Result<(), Failure> {
    let directory = ClientDirectory::new(arguments.dir);
    let wish = Wish {
        server: arguments.server.parse::<ServerAddress>().map_err(|error| {
            Failure::from_error(ExitCode::Usage, &error)
                .with_hint("write --server https://host:port")
        })?,
        join: arguments.token.parse().map_err(|error| {
            Failure::new(ExitCode::Usage, "--token is not a join string")
                .with_source(&error)
                .with_hint("paste the whole line that `fedmerge server token create` printed")
        })?,
        client: name(arguments.name)?,
        wait: arguments.wait,
    };
    let settings = super::block_on(enrolment::enrol(&directory, &wish, output))?;
    output.line(format_args!(
        "enrolled as {} in federation {} at {}",
        settings.client, settings.federation, settings.server
    ));
    output.line(format_args!(
        "next: fedmerge client run --dir {} --train 'COMMAND'",
        directory.root().display()
    ));
    output.json(&Enrolled {
        event: "enrolled",
        settings: &settings,
        directory: directory.root(),
    });
    Ok(())
}

fn name(asked: Option<String>) -> Result<ClientId, Failure> {
    if let Some(name) = asked {
        return name.parse().map_err(|error| {
            Failure::new(
                ExitCode::Usage,
                format!("`{name}` cannot be a client's name"),
            )
            .with_source(&error)
        });
    }
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name_from_machine(&machine).ok_or_else(|| {
        Failure::new(
            ExitCode::Usage,
            "this machine's name cannot be a client's name",
        )
        .with_hint("choose a name: --name ID")
    })
}

/// A machine's name in the letters that names may have.
fn name_from_machine(machine: &str) -> Option<ClientId> {
    let plain: String = machine
        .trim()
        .to_ascii_lowercase()
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') {
                c
            } else {
                '-'
            }
        })
        .take(64)
        .collect();
    plain.trim_start_matches(['.', '_', '-']).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_name_becomes_a_client_name() {
        let name = |machine: &str| name_from_machine(machine).map(|id| id.to_string());
        assert_eq!(
            name("Ward-3.Hospital\n").as_deref(),
            Some("ward-3.hospital")
        );
        assert_eq!(name("-é x").as_deref(), Some("x"));
        assert_eq!(
            name(&"a".repeat(200)).as_deref(),
            Some("a".repeat(64).as_str())
        );
        assert_eq!(name(" "), None);
    }
}
