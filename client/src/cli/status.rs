//! `fedmerge client status`: reads the directory; asks nobody.

use std::path::PathBuf;

use clap::Args;
use fedmerge_common::clock::Clock;
use fedmerge_common::failure::Failure;
use fedmerge_common::lock::DirectoryLock;
use fedmerge_common::output::Output;
use fedmerge_common::units::Timestamp;
use serde::Serialize;

use crate::enrolment::identity;

use crate::settings::{ClientDirectory, Settings};

pub(super) const EXAMPLES: &str = "\
Example:
  fedmerge client status --dir ward-3";

/// What `client status` takes.
#[derive(Debug, Args)]
pub struct StatusArguments {
    /// The client's directory
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
}

/// The JSON that `client status` prints.
#[derive(Debug, Serialize)]
struct ClientStatus {
    #[serde(flatten)]
    settings: Settings,
    certificate_until: String,
    certificate_valid: bool,
    process: Option<String>,
}

pub(super) fn run(arguments: &StatusArguments, output: &Output) -> Result<(), Failure> {
    let directory = ClientDirectory::new(&arguments.dir);
    let settings = Settings::read(&directory)?;
    let until: Timestamp = identity::life(&directory, &settings)?.1;
    let status = ClientStatus {
        certificate_until: until.to_string(),
        certificate_valid: Clock::system().now() < until,
        process: DirectoryLock::holder_of(&directory.lock()),
        settings,
    };
    output.line(format_args!("client       {}", status.settings.client));
    output.line(format_args!("federation   {}", status.settings.federation));
    output.line(format_args!("server       {}", status.settings.server));
    let expired = if status.certificate_valid {
        ""
    } else {
        " (expired)"
    };
    output.line(format_args!(
        "certificate  until {}{expired}",
        status.certificate_until
    ));
    match &status.process {
        Some(process) => output.line(format_args!("process      running (pid {process})")),
        None => output.line("process      not running"),
    }
    output.json(&status);
    Ok(())
}
