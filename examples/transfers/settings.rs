//! What a measurement of transfers is asked for, from the command line to types that cannot be wrong.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, ValueEnum};
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::output::{Output, OutputFormat};
use fedmerge_common::units::ByteSize;

use super::hub::{FEDERATION, Wish};

/// Measures how fast models and updates travel, beside a plain TLS stream, and what the server takes for it.
#[derive(Debug, Parser)]
#[command(name = "transfers")]
pub(crate) struct Arguments {
    /// The rounds, each with a server of its own: clients, `x`, and the size of the f32 model
    #[arg(
        long,
        value_name = "NxSIZE",
        value_delimiter = ',',
        default_value = "1x1GB,8x1GB,8x100MB"
    )]
    pub(crate) rounds: Vec<Round>,
    /// Bytes that the yardstick sends
    #[arg(long, value_name = "SIZE", default_value = "1GB")]
    pub(crate) yardstick_bytes: ByteSize,
    /// What a merge may use
    #[arg(long, value_name = "SIZE", default_value = "32MiB")]
    merge_memory: ByteSize,
    /// Where the server's files are put [default: the system's temporary directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) server_files: Option<PathBuf>,
    /// Where the clients' files are put [default: memory, where this machine has a directory for that]
    #[arg(long, value_name = "DIR")]
    pub(crate) client_files: Option<PathBuf>,
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

/// One round to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Round {
    /// Clients, at least one.
    pub(crate) clients: u16,
    /// Values of the model, all f32; at least one.
    pub(crate) values: usize,
}

impl FromStr for Round {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("`{text}` is not like 8x100MB");
        let (clients, size) = text.split_once('x').ok_or_else(wrong)?;
        let clients = clients.parse().ok().filter(|&clients| clients > 0);
        let size: ByteSize = size.parse().map_err(|_| wrong())?;
        let values = usize::try_from(size.get() / 4).ok();
        Ok(Self {
            clients: clients.ok_or_else(wrong)?,
            values: values.filter(|&values| values > 0).ok_or_else(wrong)?,
        })
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

    /// A federation that holds the one round, with the rule that tolerates most where enough clients are there.
    ///
    /// # Errors
    /// When there is no program to serve.
    pub(crate) fn wish(&self, round: Round) -> Result<Wish, Failure> {
        let Round { clients, values } = round;
        let method = match clients {
            ..3 => "method = \"mean\"".to_owned(),
            3.. => format!(
                "method = \"trimmed-mean\"\ntolerate = {}",
                (clients - 1) / 2
            ),
        };
        let memory = self.merge_memory.get();
        let program = self.program.clone().map_or_else(built_beside, Ok)?;
        Ok(Wish {
            program,
            values,
            plan: format!(
                "name = \"{FEDERATION}\"\nbase = \"../base.safetensors\"\n\n\
                 [round]\ncount = 1\ncohort = {{ target = {clients} }}\nquorum = {clients}\nallow_small_quorum = true\n\n\
                 [merge]\n{method}\n\n[update]\nencodings = [\"f32\"]\nmax_bytes = \"64GB\"\n"
            ),
            settings: format!(
                "[limits]\nstaged_bytes = \"256GB\"\n\n[merge]\nmemory = \"{memory}B\"\n"
            ),
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
