//! `fedmerge client enrol`.

use std::path::PathBuf;

use clap::Args;
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::hex;
use fedmerge_common::ids::ClientId;
use fedmerge_common::join::JoinString;
use fedmerge_common::output::Output;
use fedmerge_common::units::Millis;
use serde::Serialize;

use crate::enrolment::own::{self, OwnWish};
use crate::enrolment::{self, Wish};
use crate::link::address::ServerAddress;
use crate::settings::{ClientDirectory, Settings};

pub(super) const EXAMPLES: &str = "\
Examples:
  fedmerge client enrol --server https://fed.example:7600 --token fm1.… --dir ward-3

  # with a certificate of the site's own authority, which the server's settings name in [tls]
  fedmerge client enrol --server https://fed.example:7600 --authority SHA256 \\
    --certificate ward-3.pem --key ward-3.key --dir ward-3";

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
        hide_env_values = true,
        required_unless_present = "certificate"
    )]
    pub token: Option<String>,
    /// Certificate that the site's own authority gave this machine, with its chain, PEM: it stays where it is
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["token", "name"],
        requires = "key",
        requires = "authority"
    )]
    pub certificate: Option<PathBuf>,
    /// Private key of that certificate, PEM
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub key: Option<PathBuf>,
    /// The federation's authority, beside a certificate of the site's own: `server check-config` prints it
    #[arg(long, value_name = "SHA256", requires = "certificate")]
    pub authority: Option<String>,
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
    let server = arguments.server.parse::<ServerAddress>().map_err(|error| {
        Failure::from_error(ExitCode::Usage, &error).with_hint("write --server https://host:port")
    })?;
    let wait = arguments.wait;
    let own = (arguments.certificate, arguments.key, arguments.authority);
    let settings = if let (Some(chain), Some(key), Some(authority)) = own {
        let wish = OwnWish {
            server,
            authority_pin: pin(&authority)?,
            certificate: own::absolute(chain, key)?,
            wait,
        };
        super::block_on(own::join(&directory, &wish, output))?
    } else {
        let wish = Wish {
            server,
            join: join(arguments.token.as_deref().unwrap_or_default())?,
            client: name(arguments.name)?,
            wait,
        };
        super::block_on(enrolment::enrol(&directory, &wish, output))?
    };
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

fn join(token: &str) -> Result<JoinString, Failure> {
    token.parse().map_err(|error| {
        Failure::new(ExitCode::Usage, "--token is not a join string")
            .with_source(&error)
            .with_hint("paste the whole line that `fedmerge server token create` printed")
    })
}

fn pin(authority: &str) -> Result<[u8; 32], Failure> {
    let digits = authority.strip_prefix("sha256:").unwrap_or(authority);
    hex::decode(digits).ok_or_else(|| {
        Failure::new(
            ExitCode::Usage,
            "--authority is not the SHA-256 of a public key: 64 hexadecimal digits",
        )
        .with_hint("`fedmerge server check-config` prints it")
    })
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
