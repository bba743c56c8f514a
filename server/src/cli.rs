//! The commands of `fedmerge server`, and `fedmerge merge`: reads the command line, calls the deed, returns its failure.
//!
//! Strings become types here and in `settings`; nothing is decided here. What the ledger knows is read from the ledger,
//! whether or not the server runs; what only the running server knows is asked of it.

mod access;
mod ask;
mod audit;
mod backup;
mod clients;
mod init;
mod list;
mod merge;
mod models;
mod privacy;
mod rounds;
mod run;
mod status;
mod token;

use std::future::Future;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::output::Output;

use crate::directory::ServerDirectory;
use crate::store::ledger::Ledger;

pub use access::AccessCommand;
pub use audit::AuditCommand;
pub use backup::BackupArguments;
pub use clients::ClientsCommand;
pub use init::InitArguments;
pub use merge::MergeArguments;
pub use models::ModelsCommand;
pub use privacy::PrivacyArguments;
pub use rounds::RoundsCommand;
pub use run::RunArguments;
pub use status::StatusArguments;
pub use token::TokenCommand;

/// `fedmerge server …`
#[derive(Debug, Args)]
pub struct ServerArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: ServerCommand,
}

/// The deeds of a server.
#[derive(Debug, Subcommand)]
pub enum ServerCommand {
    /// Make a server's directory: certificate authority, settings and a plan
    #[command(after_help = init::EXAMPLES)]
    Init(InitArguments),
    /// Serve: gather clients, hold rounds, merge and publish
    #[command(after_help = run::EXAMPLES)]
    Run(RunArguments),
    /// Check the directory's settings, plan and base, and exit
    #[command(after_help = run::CHECK_EXAMPLES)]
    CheckConfig(DirectoryArguments),
    /// Say what the server does and what it waits for, by whom and until when
    #[command(after_help = status::EXAMPLES)]
    Status(StatusArguments),
    /// Make, list and revoke the tokens by which machines enrol
    #[command(subcommand)]
    Token(TokenCommand),
    /// Show who is enrolled, approve who waits, and evict
    #[command(subcommand)]
    Clients(ClientsCommand),
    /// Make certificates for administrators and observers, and rotate the certificate authority
    #[command(subcommand)]
    Access(AccessCommand),
    /// Show the rounds that were held, and follow the one that is open
    #[command(subcommand)]
    Rounds(RoundsCommand),
    /// Show and export the models that were published, and go back to an older one
    #[command(subcommand)]
    Models(ModelsCommand),
    /// Show what was done and why, and see whether that log is whole
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Copy the ledger as it is now, while the server runs or not
    #[command(after_help = backup::EXAMPLES)]
    Backup(BackupArguments),
}

/// Where a server is.
#[derive(Debug, Args)]
pub struct DirectoryArguments {
    /// The server's directory
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
}

impl DirectoryArguments {
    /// The directory of a server that was made before, as an absolute path: what is printed means the same elsewhere.
    fn directory(&self) -> Result<ServerDirectory, Failure> {
        let absolute = std::path::absolute(&self.dir).unwrap_or_else(|_| self.dir.clone());
        let directory = ServerDirectory::new(absolute);
        if directory.settings().exists() {
            return Ok(directory);
        }
        let message = format!("`{}` is not a server's directory", self.dir.display());
        Err(Failure::new(ExitCode::BadConfiguration, message)
            .with_hint("give --dir, or make one: fedmerge server init DIR"))
    }

    async fn ledger(&self) -> Result<Ledger, Failure> {
        Ok(Ledger::open(&self.directory()?.ledger()).await?)
    }
}

/// Runs a server's command to its end.
///
/// # Errors
/// The command's failure, with its exit code.
pub fn run(arguments: ServerArguments, output: &Output) -> Result<(), Failure> {
    match arguments.command {
        ServerCommand::Init(arguments) => block_on(init::run(&arguments, output)),
        ServerCommand::Run(arguments) => run::run(arguments, *output),
        ServerCommand::CheckConfig(arguments) => run::check(&arguments, output),
        ServerCommand::Status(arguments) => block_on(status::run(&arguments, output)),
        ServerCommand::Token(command) => block_on(token::run(command, output)),
        ServerCommand::Clients(command) => block_on(clients::run(&command, output)),
        ServerCommand::Access(command) => block_on(access::run(&command, output)),
        ServerCommand::Rounds(command) => block_on(rounds::run(&command, output)),
        ServerCommand::Models(command) => block_on(models::run(&command, output)),
        ServerCommand::Audit(command) => block_on(audit::run(&command, output)),
        ServerCommand::Backup(arguments) => block_on(backup::run(&arguments, output)),
    }
}

/// Merges checkpoints on disk: `fedmerge merge`.
///
/// # Errors
/// The command's failure, with its exit code.
pub fn merge(arguments: MergeArguments, output: &Output) -> Result<(), Failure> {
    block_on(merge::run(arguments, *output))
}

/// Reckons with noise and ε: `fedmerge privacy`.
///
/// # Errors
/// The command's failure, with its exit code.
pub fn privacy(arguments: &PrivacyArguments, output: &Output) -> Result<(), Failure> {
    privacy::run(arguments, output)
}

/// Threads that wait for the disk. More of them than a disk serves at a time would only take memory when a thousand clients upload.
const DISK_THREADS: usize = 64;

fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(DISK_THREADS)
        .build()
        .map_err(|error| {
            let message = "the server's threads cannot be started";
            Failure::new(ExitCode::Temporary, message).with_source(&error)
        })?;
    let result = runtime.block_on(future);
    runtime.shutdown_background();
    result
}
