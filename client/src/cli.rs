//! The commands of `fedmerge client`: reads the command line, calls the deed, returns its failure.
//!
//! Strings become types here and in `settings`; nothing is decided here.

mod doctor;
mod enrol;
mod run;
mod status;

use std::future::Future;

use clap::{Args, Subcommand};
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::output::Output;

use crate::trainer::builtin::measure::EvaluateArguments;
use crate::trainer::builtin::{self, TrainArguments};

pub use doctor::DoctorArguments;
pub use enrol::EnrolArguments;
pub use run::RunArguments;
pub use status::StatusArguments;

/// `fedmerge client …`
#[derive(Debug, Args)]
pub struct ClientArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: ClientCommand,
}

/// The deeds of a client.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Exchange a join string for a certificate, once per machine
    #[command(visible_alias = "enroll", after_help = enrol::EXAMPLES)]
    Enrol(EnrolArguments),
    /// Take part: wait for invitations, train, submit
    #[command(after_help = run::EXAMPLES)]
    Run(RunArguments),
    /// Show what a client directory holds and whether a process uses it
    #[command(after_help = status::EXAMPLES)]
    Status(StatusArguments),
    /// Look for what keeps a client from taking part, and say what to mend
    #[command(after_help = doctor::EXAMPLES)]
    Doctor(DoctorArguments),
    /// The trainer that comes with the program: fine-tunes a small classifier, as a command for `run --train`
    Train(TrainArguments),
    /// The evaluator that comes with the program: measures a small classifier, as a command for `run --evaluate`
    Evaluate(EvaluateArguments),
}

/// Runs a client's command to its end.
///
/// # Errors
/// The command's failure, with its exit code.
pub fn run(arguments: ClientArguments, output: &Output) -> Result<(), Failure> {
    match arguments.command {
        ClientCommand::Enrol(arguments) => enrol::run(arguments, output),
        ClientCommand::Run(arguments) => run::run(arguments, output),
        ClientCommand::Status(arguments) => status::run(&arguments, output),
        ClientCommand::Doctor(arguments) => doctor::run(arguments, output),
        ClientCommand::Train(arguments) => builtin::run(&arguments, output),
        ClientCommand::Evaluate(arguments) => builtin::measure::run(&arguments),
    }
}

/// Runs a future on a runtime of its own, with two threads: a client waits more than it works.
fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| {
            Failure::new(
                ExitCode::Temporary,
                "the client's threads cannot be started",
            )
            .with_source(&error)
        })?;
    let result = runtime.block_on(future);
    runtime.shutdown_background();
    result
}
