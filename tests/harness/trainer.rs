//! Trainers: shell commands that need nothing but what is there, and gates that hold them until the story lets them go on.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::machine::wait_until;

/// A command for `client run --train`.
#[derive(Clone, Debug)]
pub(crate) struct Trainer(String);

impl Trainer {
    /// Any shell command.
    pub(crate) fn shell(command: impl Into<String>) -> Self {
        Self(command.into())
    }

    /// Hands in a finished checkpoint and claims so many examples.
    pub(crate) fn hands_in(checkpoint: &Path, num_examples: u64) -> Self {
        Self(format!(
            "cp {} \"$FEDMERGE_OUT\" && echo '{{\"num_examples\": {num_examples}}}'",
            quoted(checkpoint)
        ))
    }

    /// The same trainer behind a gate: it knocks, and goes on each time the gate is opened.
    pub(crate) fn behind(&self, gate: &Gate) -> Self {
        Self(format!(
            ": > {}; read -r _ < {}; {}",
            quoted(&gate.knocked),
            quoted(&gate.fifo),
            self.0
        ))
    }

    /// The command.
    pub(crate) fn command(&self) -> &str {
        &self.0
    }
}

/// Holds one trainer until it is opened.
#[derive(Debug)]
pub(crate) struct Gate {
    knocked: PathBuf,
    fifo: PathBuf,
    /// Open for both directions, so that opening never waits and what is written stays until it is read.
    keeper: File,
}

impl Gate {
    /// A closed gate; `dir` is a directory for its files.
    pub(crate) fn new(dir: &Path, name: &str) -> Self {
        let fifo = dir.join(format!("{name}.gate"));
        mknodat(CWD, &fifo, FileType::Fifo, Mode::from(0o600), 0).unwrap();
        let keeper = File::options().read(true).write(true).open(&fifo).unwrap();
        Self {
            knocked: dir.join(format!("{name}.knocked")),
            fifo,
            keeper,
        }
    }

    /// Waits until a trainer stands before the gate.
    pub(crate) fn wait_for_knock(&self) {
        wait_until("the trainer's knock at its gate", || self.knocked.exists());
        fs::remove_file(&self.knocked).unwrap();
    }

    /// Lets one training pass, now or when it comes.
    pub(crate) fn open(&mut self) {
        self.keeper.write_all(b"pass\n").unwrap();
    }
}

/// A path as one word of the shell.
pub(crate) fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

#[test]
fn a_gate_holds_a_trainer_until_it_is_opened() {
    use std::process::Command;

    use super::process::Process;
    use super::values::Values;

    let dir = tempfile::tempdir().unwrap();
    let (tuned, out) = (dir.path().join("it's tuned"), dir.path().join("out"));
    Values::base().write(&tuned);
    let mut gate = Gate::new(dir.path(), "a");
    let trainer = Trainer::hands_in(&tuned, 10).behind(&gate);
    let mut shell = Command::new("sh");
    shell
        .args(["-c", trainer.command()])
        .env("FEDMERGE_OUT", &out);
    let process = Process::start("trainer", &mut shell);
    gate.wait_for_knock();
    assert!(!out.exists());
    gate.open();
    let ended = process.end().well();
    assert_eq!(ended.stdout, "{\"num_examples\": 10}\n");
    assert_eq!(Values::read(&out), Values::base());
}
