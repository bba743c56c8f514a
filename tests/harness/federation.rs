//! A federation on this machine: one server, its clients, each step a command that a person could type.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use fedmerge_client::link::KEEP_ALIVE_VARIABLE;
use rustix::process::Signal;
use tempfile::TempDir;

use super::command::{fedmerge, run};
use super::events::RoundClosed;
use super::network::Network;
use super::plan::Plan;
use super::process::{Ended, Process};
use super::trainer::{Gate, Trainer};
use super::values::Values;
use super::watch::json_value;

/// Runs the federation's server on any free port.
pub(crate) const SERVER_RUN: [&str; 6] = [
    "server",
    "run",
    "--dir",
    "server",
    "--listen",
    "127.0.0.1:0",
];

/// How soon a client notices that a network has fallen silent: within twice this.
const KEEP_ALIVE_MS: &str = "500";

/// One federation and all that runs for it.
#[derive(Debug)]
pub(crate) struct Federation {
    clients: BTreeMap<String, Process>,
    server: Option<Process>,
    /// Where the server listens or last listened.
    pub(crate) address: String,
    /// What is between the server and whoever enrols.
    network: Option<Network>,
    dir: TempDir,
}

impl Federation {
    /// A federation of the tiny model, set up and not running.
    pub(crate) fn new(plan: &Plan) -> Self {
        Self::from_base(plan, |path| Values::base().write(path))
    }

    /// A federation of the model that `write` puts at the path it gets.
    pub(crate) fn from_base(plan: &Plan, write: impl FnOnce(&Path)) -> Self {
        let federation = Self {
            clients: BTreeMap::new(),
            server: None,
            address: "127.0.0.1:0".to_owned(),
            network: None,
            dir: tempfile::tempdir().unwrap(),
        };
        write(&federation.path("base.safetensors"));
        let init = [
            "server",
            "init",
            "server",
            "--name",
            "story",
            "--base",
            "base.safetensors",
        ];
        federation.run(&init).well();
        federation.install(&plan.to_string());
        federation
    }

    /// Puts a plan in the place of the one that is there.
    pub(crate) fn install(&self, plan: &str) {
        fs::write(self.path("server/federation.toml"), plan).unwrap();
    }

    /// A path in the federation's directory, where every command runs.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// A command in the federation's directory.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = fedmerge(arguments);
        command.current_dir(self.dir.path());
        if self.network.is_some() {
            command.env(KEEP_ALIVE_VARIABLE, KEEP_ALIVE_MS);
        }
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        run(&mut self.command(arguments))
    }

    /// Starts the server and waits until it listens.
    pub(crate) fn start_server(&mut self) {
        self.start_server_with(|command| command);
    }

    /// The same with a command that `adapt` changes.
    pub(crate) fn start_server_with(&mut self, adapt: impl FnOnce(&mut Command) -> &mut Command) {
        let address = self.address.clone();
        let mut command = self.command(&["server", "run", "--dir", "server", "--listen", &address]);
        command.args(["--exit-when-done", "--format", "json"]);
        let mut server = Process::start("server", adapt(&mut command));
        let listening = server.next_event("listening");
        self.address = json_value(&listening["address"]);
        self.server = Some(server);
    }

    /// Puts a bad network before the server, for those who enrol from now on.
    pub(crate) fn worsen_network(&mut self, seed: u64) {
        self.network = Some(Network::before(&self.address, seed));
    }

    /// Puts a network before the server that is cut where it has carried so many bytes.
    pub(crate) fn cut_network(&mut self, cuts: Vec<u64>) {
        self.network = Some(Network::cutting(&self.address, cuts));
    }

    /// The bad network before the server.
    pub(crate) fn network(&self) -> &Network {
        let network = self.network.as_ref();
        network.expect("the story worsened the network")
    }

    /// The running server.
    pub(crate) fn server(&mut self) -> &mut Process {
        self.server.as_mut().expect("the story started a server")
    }

    /// Kills the server as a power cut would; the next one listens where this one did.
    pub(crate) fn kill_server(&mut self) {
        self.server
            .take()
            .expect("the story started a server")
            .kill();
    }

    /// Asks the server to stop and waits until it has.
    pub(crate) fn stop_server(&mut self) -> Ended {
        let server = self.server.take().expect("the story started a server");
        server.signal(Signal::TERM);
        server.end()
    }

    /// Waits until the server has left by itself, as it does when the federation ends.
    pub(crate) fn server_end(&mut self) -> Ended {
        self.server
            .take()
            .expect("the story started a server")
            .end()
    }

    /// The next round that closes.
    pub(crate) fn next_round(&mut self) -> RoundClosed {
        json_value(&self.server().next_event("round-closed"))
    }

    /// A join string for one machine.
    pub(crate) fn token(&self) -> String {
        self.token_with(&[])
    }

    /// A join string, made with more arguments.
    pub(crate) fn token_with(&self, arguments: &[&str]) -> String {
        let create = [&["server", "token", "create", "--dir", "server"], arguments].concat();
        self.run(&create).well().stdout.trim().to_owned()
    }

    /// The command by which `name` enrols.
    pub(crate) fn enrol_command(&self, name: &str, token: &str) -> Command {
        let network = self.network.as_ref();
        let address = network.map_or_else(|| self.address.clone(), Network::address);
        let url = format!("https://{address}");
        let enrol = [
            "client", "enrol", "--server", &url, "--token", token, "--dir", name, "--name", name,
        ];
        self.command(&enrol)
    }

    /// Enrols clients, each into the directory of its name.
    pub(crate) fn enrol(&self, names: &[&str]) {
        let token = self.token_with(&["--uses", &names.len().to_string()]);
        for name in names {
            run(&mut self.enrol_command(name, &token)).well();
        }
    }

    /// Starts a client.
    pub(crate) fn start_client(&mut self, name: &str, trainer: &Trainer) {
        self.start_client_with(name, trainer, &[]);
    }

    /// Starts a client with more arguments.
    pub(crate) fn start_client_with(&mut self, name: &str, trainer: &Trainer, arguments: &[&str]) {
        self.start_client_as(name, trainer, |command| command.args(arguments));
    }

    /// Starts a client by a command that `adapt` changes.
    pub(crate) fn start_client_as(
        &mut self,
        name: &str,
        trainer: &Trainer,
        adapt: impl FnOnce(&mut Command) -> &mut Command,
    ) {
        let mut command = self.command(&["client", "run", "--dir", name, "--format", "json"]);
        command.args(["--train", trainer.command()]);
        let client = Process::start(name, adapt(&mut command));
        self.clients.insert(name.to_owned(), client);
    }

    /// Kills a client as a power cut would.
    pub(crate) fn kill_client(&mut self, name: &str) -> Ended {
        let client = self.clients.remove(name);
        client.expect("the story started this client").kill()
    }

    /// A running client.
    pub(crate) fn client(&mut self, name: &str) -> &mut Process {
        self.clients
            .get_mut(name)
            .expect("the story started this client")
    }

    /// Waits until a client has left by itself.
    pub(crate) fn client_end(&mut self, name: &str) -> Ended {
        self.clients
            .remove(name)
            .expect("the story started this client")
            .end()
    }

    /// A trainer that hands in `values` each round.
    pub(crate) fn trainer(&self, name: &str, values: &Values, num_examples: u64) -> Trainer {
        let path = self.path(&format!("{name}.tuned.safetensors"));
        values.write(&path);
        Trainer::hands_in(&path, num_examples)
    }

    /// A closed gate for a trainer.
    pub(crate) fn gate(&self, name: &str) -> Gate {
        Gate::new(self.dir.path(), name)
    }

    /// The file of a published model.
    pub(crate) fn model(&self, version: u64) -> PathBuf {
        self.path(&format!("server/models/{version}/model.safetensors"))
    }
}
