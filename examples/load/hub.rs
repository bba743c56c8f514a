//! The server under load: its directory, its process, and what it says.
//!
//! Everything goes through the program, as an operator would type it. The process ends with its owner, however that ends.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use fedmerge_common::checkpoint::CheckpointWriter;
use fedmerge_common::dtype::Dtype;
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::schema::{Schema, TensorSpec};
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use rand_distr::{Distribution, Normal};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::meter::Meter;

/// The name of every federation that is measured.
pub(crate) const FEDERATION: &str = "measured";
/// Values that are written at once.
const BLOCK_VALUES: usize = 1 << 20;

/// What a federation is made of.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// The fedmerge that serves.
    pub(crate) program: PathBuf,
    /// Values of the model, all f32.
    pub(crate) values: usize,
    /// Text of `federation.toml`; the base is beside the directory, `base.safetensors`.
    pub(crate) plan: String,
    /// Text of `server.toml`.
    pub(crate) settings: String,
}

/// A federation's directory.
#[derive(Debug)]
pub(crate) struct Hub {
    program: PathBuf,
    directory: PathBuf,
}

/// The server at work.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// Host and port.
    pub(crate) address: String,
    /// What it takes.
    pub(crate) meter: Meter,
}

fn failed(what: &str, error: &dyn std::error::Error) -> Failure {
    Failure::new(ExitCode::Unavailable, what).with_source(error)
}

impl Hub {
    /// Makes the directory of a federation.
    ///
    /// # Errors
    /// When the disk or the program refuses.
    pub(crate) async fn set_up(root: &Path, wish: &Wish) -> Result<Self, Failure> {
        let base = root.join("base.safetensors");
        write_values(&base, wish.values, 0.02)
            .map_err(|error| failed("no base can be made", &*error))?;
        let hub = Self {
            program: wish.program.clone(),
            directory: root.join("hub"),
        };
        let mut init = hub.command(["server", "init"]);
        init.arg(&hub.directory)
            .args(["--name", FEDERATION, "--base"])
            .arg(&base);
        complete(&mut init).await?;
        for (name, text) in [
            ("federation.toml", &wish.plan),
            ("server.toml", &wish.settings),
        ] {
            fs::write(hub.directory.join(name), text).map_err(|error| failed(name, &error))?;
        }
        Ok(hub)
    }

    /// A join string for so many machines.
    ///
    /// # Errors
    /// When the program refuses.
    pub(crate) async fn token(&self, uses: usize) -> Result<String, Failure> {
        let mut create = self.command(["server", "token", "create", "--uses"]);
        create.arg(uses.to_string()).arg("--dir");
        let printed = complete(create.arg(&self.directory)).await?;
        Ok(printed.trim().to_owned())
    }

    /// How many clients attend now.
    ///
    /// # Errors
    /// When the server does not answer.
    pub(crate) async fn attending(&self) -> Result<usize, Failure> {
        let mut status = self.command(["server", "status", "--format", "json", "--dir"]);
        let printed = complete(status.arg(&self.directory)).await?;
        let status: Value =
            serde_json::from_str(&printed).map_err(|error| failed("no status", &error))?;
        let attending = status["attending"].as_u64().unwrap_or_default();
        Ok(usize::try_from(attending).unwrap_or(usize::MAX))
    }

    /// Starts the server and waits until it listens.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) async fn serve(&self) -> Result<Server, Failure> {
        let mut run = self.command(["server", "run", "--listen", "127.0.0.1:0"]);
        run.args(["--format", "json", "--stop-with-parent", "--dir"]);
        let mut child = run
            .arg(&self.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed("the server cannot be started", &error))?;
        let stdout = child.stdout.take().expect("it was asked for");
        let mut server = Server {
            meter: Meter::of(child.id().unwrap_or_default()),
            child,
            lines: BufReader::new(stdout).lines(),
            address: String::new(),
        };
        let listening = server.next_event("listening").await?;
        listening["address"]
            .as_str()
            .unwrap_or_default()
            .clone_into(&mut server.address);
        Ok(server)
    }

    fn command<const N: usize>(&self, arguments: [&str; N]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments);
        command
    }
}

impl Server {
    /// The next event of that name.
    ///
    /// # Errors
    /// When the server ends before.
    pub(crate) async fn next_event(&mut self, name: &str) -> Result<Value, Failure> {
        loop {
            let line = self.lines.next_line().await;
            let line = line.map_err(|error| failed("the server cannot be heard", &error))?;
            let Some(line) = line else {
                let message = format!("the server ended before it said `{name}`");
                return Err(Failure::new(ExitCode::Unavailable, message));
            };
            let event: Value =
                serde_json::from_str(&line).map_err(|error| failed("no event", &error))?;
            if event["event"] == name {
                return Ok(event);
            }
        }
    }

    /// Asks the server to end and waits until it has.
    ///
    /// # Errors
    /// When it ends badly.
    pub(crate) async fn stop(mut self) -> Result<(), Failure> {
        let process = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(process) = process.and_then(Pid::from_raw) {
            // It may have ended by itself, which the wait tells.
            let _gone = kill_process(process, Signal::TERM);
        }
        let ended = self.child.wait().await;
        let ended = ended.map_err(|error| failed("the server cannot be waited for", &error))?;
        if ended.success() {
            return Ok(());
        }
        let message = format!("the server ended with {ended}");
        Err(Failure::new(ExitCode::Unavailable, message))
    }
}

/// Runs a command to its end and answers what it printed.
async fn complete(command: &mut Command) -> Result<String, Failure> {
    let ended = command.stdin(Stdio::null()).output().await;
    let ended = ended.map_err(|error| failed("the program cannot be started", &error))?;
    if ended.status.success() {
        return Ok(String::from_utf8_lossy(&ended.stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&ended.stderr).into_owned();
    Err(Failure::new(
        ExitCode::Unavailable,
        format!("{command:?} failed: {words}"),
    ))
}

/// A checkpoint of one tensor, whose values are as arbitrary as weights are, and spread around 0 so far.
pub(crate) fn write_values(
    path: &Path,
    values: usize,
    spread: f32,
) -> Result<(), Box<dyn std::error::Error>> {
    let tensor = TensorSpec::new("weight", Dtype::F32, vec![values])?;
    let schema = Schema::new(vec![tensor])?;
    let writer = CheckpointWriter::create(path, &schema, &BTreeMap::new())?;
    let normal = Normal::new(0.0, spread)?;
    let chance = ChaCha8Rng::seed_from_u64(u64::from(spread.to_bits()));
    let block: Vec<f32> = normal
        .sample_iter(chance)
        .take(values.min(BLOCK_VALUES))
        .collect();
    for begin in (0..values).step_by(BLOCK_VALUES) {
        let length = BLOCK_VALUES.min(values - begin);
        writer.write_f32(0, begin, &block[..length])?;
    }
    writer.finish()?;
    Ok(())
}
