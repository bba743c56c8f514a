//! What a run of the load generator is asked for, from the command line to types that cannot be wrong.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::output::{Output, OutputFormat};
use fedmerge_common::units::ByteSize;

use super::hub::{FEDERATION, Wish};

/// Connections beside those of the clients: who asks for the status, and those that end while others begin.
const SPARE_CONNECTIONS: usize = 100;

/// Puts a real server under load: many real clients in one process, and what the server takes for them.
#[derive(Debug, Parser)]
#[command(name = "load")]
pub(crate) struct Arguments {
    /// Clients that wait; one more comes when a round is to begin
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    clients: u32,
    /// How long the server is watched while they wait, seconds
    #[arg(long, value_name = "N", default_value_t = 20)]
    idle_seconds: u32,
    /// Rounds that all of them hold then
    #[arg(long, value_name = "N", default_value_t = 1)]
    rounds: u32,
    /// Size of the model's values, all of them f32
    #[arg(long, value_name = "SIZE", default_value = "100KiB")]
    model_bytes: ByteSize,
    /// How long each training lasts, seconds, in each of which it tells its progress
    #[arg(long, value_name = "N", default_value_t = 0)]
    train_seconds: u32,
    /// What a merge may use: the server refuses a cohort that needs more
    #[arg(long, value_name = "SIZE", default_value = "512MiB")]
    merge_memory: ByteSize,
    /// Uploads that the server takes at the same time; the others are told when to come back
    #[arg(long, value_name = "N", default_value_t = 16)]
    uploads: u32,
    /// Bytes of all incomplete uploads together that the server holds
    #[arg(long, value_name = "SIZE", default_value = "16GiB")]
    staged_bytes: ByteSize,
    /// The fedmerge that serves [default: the one beside this program's directory]
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// What standard output carries
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For programs, one object a line
    Json,
}

/// A run.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// Clients that wait, at least one; one more holds the rounds with them.
    pub(crate) clients: usize,
    /// How long the server is watched while they wait.
    pub(crate) idle: Duration,
    /// Rounds that are held then.
    pub(crate) rounds: u32,
    /// Values of the model, all f32; at least one.
    pub(crate) values: usize,
    /// How long each training lasts.
    pub(crate) training: Duration,
    /// What a merge may use.
    pub(crate) merge_memory: ByteSize,
    /// Uploads that the server takes at the same time.
    pub(crate) uploads: u32,
    /// Bytes of all incomplete uploads together that the server holds.
    pub(crate) staged_bytes: ByteSize,
    /// The fedmerge that serves.
    pub(crate) program: PathBuf,
}

impl Load {
    /// All clients, the last one too.
    pub(crate) fn all(&self) -> usize {
        self.clients + 1
    }

    /// A federation whose rounds wait for every client.
    pub(crate) fn wish(&self) -> Wish {
        let (all, rounds) = (self.all(), self.rounds.max(1));
        let connections = all + SPARE_CONNECTIONS;
        let (uploads, staged) = (self.uploads, self.staged_bytes.get());
        let memory = self.merge_memory.get();
        Wish {
            program: self.program.clone(),
            values: self.values,
            plan: format!(
                "name = \"{FEDERATION}\"\nbase = \"../base.safetensors\"\n\n\
                 [round]\ncount = {rounds}\ncohort = {{ target = {all} }}\nquorum = {all}\nallow_small_quorum = true\n\n\
                 [merge]\nmethod = \"mean\"\n\n[update]\nencodings = [\"f32\"]\n"
            ),
            settings: format!(
                "[limits]\nclients = {all}\nconnections = {connections}\nuploads = {uploads}\n\
                 staged_bytes = \"{staged}B\"\n\n[merge]\nmemory = \"{memory}B\"\n"
            ),
        }
    }
}

impl Arguments {
    /// Where the words go.
    pub(crate) fn output(&self) -> Output {
        Output {
            format: match self.format {
                Format::Text => OutputFormat::Text,
                Format::Json => OutputFormat::Json,
            },
            ..Output::default()
        }
    }

    /// The run that is asked for.
    ///
    /// # Errors
    /// When the model has no value, or there is no program to serve.
    pub(crate) fn load(self) -> Result<Load, Failure> {
        let values = self.model_bytes.get() / 4;
        let values = usize::try_from(values).ok().filter(|values| *values > 0);
        let values = values.ok_or_else(|| {
            let message = format!("a model of {} has no value", self.model_bytes);
            Failure::new(ExitCode::Usage, message)
        })?;
        Ok(Load {
            clients: usize::try_from(self.clients).unwrap_or(usize::MAX),
            idle: Duration::from_secs(self.idle_seconds.into()),
            rounds: self.rounds,
            values,
            training: Duration::from_secs(self.train_seconds.into()),
            merge_memory: self.merge_memory,
            uploads: self.uploads,
            staged_bytes: self.staged_bytes,
            program: self.program.map_or_else(built_beside, Ok)?,
        })
    }
}

/// `cargo` puts examples into a directory beside the program.
fn built_beside() -> Result<PathBuf, Failure> {
    let here = std::env::current_exe().unwrap_or_default();
    let directory = here.parent().and_then(|examples| examples.parent());
    let program = directory.map(|directory| directory.join("fedmerge"));
    program.filter(|path| path.exists()).ok_or_else(|| {
        Failure::new(ExitCode::Unavailable, "there is no fedmerge that serves")
            .with_hint("build it first: cargo build; or name one: --program PATH")
    })
}
