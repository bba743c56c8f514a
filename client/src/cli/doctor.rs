//! `fedmerge client doctor`: what keeps a client from taking part, and what to mend.

use std::path::PathBuf;

use clap::Args;
use fedmerge_common::failure::Failure;
use fedmerge_common::output::Output;
use fedmerge_common::units::Millis;
use serde::Serialize;

use crate::doctor::{Checkup, Finding, Verdict, examine};
use crate::settings::ClientDirectory;
use crate::trainer::command::TrainerCommand;

pub(super) const EXAMPLES: &str = "\
Examples:
  fedmerge client doctor --dir ward-3
  fedmerge client doctor --dir ward-3 --train 'python train.py --data ward-3.csv'";

/// What `client doctor` takes.
#[derive(Debug, Args)]
pub struct DoctorArguments {
    /// The client's directory, as enrolled
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// Command to try on the present base, as `client run --train` would; nothing is sent
    #[arg(long, value_name = "COMMAND")]
    pub train: Option<String>,
    /// Longest run of the command
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "1h",
        requires = "train"
    )]
    pub train_timeout: Millis,
}

/// The JSON line of a finding.
#[derive(Debug, Serialize)]
struct Found<'a> {
    event: &'static str,
    #[serde(flatten)]
    finding: &'a Finding,
}

pub(super) fn run(arguments: DoctorArguments, output: &Output) -> Result<(), Failure> {
    let checkup = Checkup {
        directory: ClientDirectory::new(arguments.dir),
        trainer: arguments.train.map(|command| TrainerCommand {
            command,
            time_limit: arguments.train_timeout,
        }),
    };
    let tell = |finding: &Finding| {
        let Finding {
            check,
            verdict,
            detail,
            ..
        } = finding;
        output.line(format_args!("{verdict:<4}  {check:<12} {detail}"));
        if let Some(hint) = &finding.hint {
            output.line(format_args!("{:<4}  {:<12} hint: {hint}", "", ""));
        }
        output.json(&Found {
            event: "finding",
            finding,
        });
    };
    let findings = super::block_on(examine(&checkup, tell))?;
    let bad: Vec<&Finding> = findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Bad)
        .collect();
    let Some(first) = bad.first() else {
        output.line("nothing to mend");
        return Ok(());
    };
    let names: Vec<_> = bad.iter().map(|finding| finding.check).collect();
    Err(Failure::new(
        first.exit(),
        format_args!("to be mended: {}", names.join(", ")),
    ))
}
