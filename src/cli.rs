//! The command line: reads it, hands the command to its crate, and turns a failure into a message and an exit code.
//!
//! Wrong usage exits 64 like every program of sysexits; the other codes are those of `fedmerge_common::failure`.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use fedmerge_client::cli::ClientArguments;
use fedmerge_common::failpoint;
use fedmerge_common::failure::{self, Failure};
use fedmerge_common::output::{Output, OutputFormat};
use fedmerge_server::cli::{MergeArguments, PrivacyArguments, ServerArguments};

use crate::inspect::InspectArguments;
use crate::simulate::{AttackArguments, PraiseArguments, SimulateArguments};
use crate::verify::VerifyArguments;

/// Federated model merging: clients fine-tune a base on data that stays with them, a server merges their task vectors
/// robustly into the next base, round after round.
#[derive(Debug, Parser)]
#[command(
    name = "fedmerge",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
#[command(after_help = "Examples:
  fedmerge simulate                                    a whole federation on this machine
  fedmerge simulate --attack sign-flip --attackers 2   the same with two clients that lie
  fedmerge server init hub && fedmerge server run --dir hub
  fedmerge client enrol --server https://hub:7600 --token fm1.… --dir site
  fedmerge merge recipe.toml --out merged              checkpoints on disk, without a federation

Exit codes: 0 ok, 64 usage, 65 bad data, 69 unavailable, 70 bug, 75 temporary (try again),
77 not permitted, 78 bad configuration.")]
struct Cli {
    #[command(flatten)]
    global: GlobalArguments,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Args)]
struct GlobalArguments {
    /// What standard output carries
    #[arg(long, global = true, value_enum, default_value_t = Format::Text, help_heading = "Output")]
    format: Format,

    /// Print results and errors only
    #[arg(long, short, global = true, help_heading = "Output")]
    quiet: bool,

    /// Say more; twice, still more
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Output")]
    verbose: u8,

    /// Stop when the process that started this one is gone, however it went
    #[arg(long, global = true, hide = true)]
    stop_with_parent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For programs: documented and stable
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a server and many client processes on this machine: real training, TLS and tokens
    Simulate(Box<SimulateArguments>),
    /// Hold a federation: make it, serve it, let clients in, look at it
    Server(Box<ServerArguments>),
    /// Take part in a federation
    Client(Box<ClientArguments>),
    /// Merge checkpoints on disk by a recipe, with the engine of the federation
    Merge(Box<MergeArguments>),
    /// Show what is in a checkpoint, a task vector or a residual, tensor by tensor
    Inspect(InspectArguments),
    /// Reckon what noise costs in ε, or how much of it a privacy budget needs
    Privacy(PrivacyArguments),
    /// See whether a published model is what the server of its federation signed
    Verify(VerifyArguments),
    /// Print a completion script for a shell
    #[command(
        after_help = "Example:\n  fedmerge completions bash > ~/.local/share/bash-completion/completions/fedmerge"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// A trainer that lies, for `simulate --attack`
    #[command(hide = true)]
    AttackTrainer(Box<AttackArguments>),
    /// An evaluator that lies, for `simulate --attack`
    #[command(hide = true)]
    AttackEvaluator(PraiseArguments),
}

/// Reads the command line, runs the command and answers with the exit code.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return explain(&error),
    };
    if cli.global.stop_with_parent {
        stop_with_parent();
    }
    let output = Output {
        format: match cli.global.format {
            Format::Text => OutputFormat::Text,
            Format::Json => OutputFormat::Json,
        },
        quiet: cli.global.quiet,
        verbosity: cli.global.verbose,
    };
    let ended = failpoint::arm()
        .map_err(Failure::from)
        .and_then(|()| run(cli.command, &output));
    match ended {
        Ok(()) => exit_code(failure::ExitCode::Ok),
        Err(failure) => {
            report(&failure);
            exit_code(failure.exit)
        }
    }
}

fn run(command: Command, output: &Output) -> Result<(), Failure> {
    match command {
        Command::Simulate(arguments) => crate::simulate::run(*arguments, output),
        Command::Server(arguments) => fedmerge_server::cli::run(*arguments, output),
        Command::Client(arguments) => fedmerge_client::cli::run(*arguments, output),
        Command::Merge(arguments) => fedmerge_server::cli::merge(*arguments, output),
        Command::Inspect(arguments) => crate::inspect::run(&arguments, output),
        Command::Privacy(arguments) => fedmerge_server::cli::privacy(&arguments, output),
        Command::Verify(arguments) => crate::verify::run(&arguments, output),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "fedmerge", &mut script);
            output.line(String::from_utf8_lossy(&script).trim_end());
            Ok(())
        }
        Command::AttackTrainer(arguments) => crate::simulate::lie(&arguments),
        Command::AttackEvaluator(arguments) => crate::simulate::praise(&arguments),
    }
}

/// Asks the system for a polite signal at the end of the parent, which may be killed before it can stop anybody.
fn stop_with_parent() {
    let signal = Some(rustix::process::Signal::TERM);
    // A system that cannot do this leaves it to the parent, which stops its children unless it is killed.
    let _unsupported = rustix::process::set_parent_process_death_signal(signal);
}

/// Help and version are answers, everything else is wrong usage.
fn explain(error: &clap::Error) -> ExitCode {
    // A reader that has gone away is no failure of ours.
    let _ = error.print();
    exit_code(if error.use_stderr() {
        failure::ExitCode::Usage
    } else {
        failure::ExitCode::Ok
    })
}

fn report(failure: &Failure) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{failure}");
}

fn exit_code(code: failure::ExitCode) -> ExitCode {
    ExitCode::from(code as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
