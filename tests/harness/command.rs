//! The program under test, and its commands run to their end.

use std::process::Command;

use super::process::{Ended, Process};

/// The built program.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_fedmerge");

/// A call of the program with these arguments, free of what the caller's environment says.
pub(crate) fn fedmerge(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(arguments);
    for variable in [
        "FEDMERGE_TOKEN",
        "FEDMERGE_TEST_CRASH_AT",
        "NO_COLOR",
        "RUST_LOG",
        "RAYON_NUM_THREADS",
        "COLUMNS",
    ] {
        command.env_remove(variable);
    }
    command
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Ended {
    let words: Vec<_> = command
        .get_args()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    Process::start(&format!("`{}`", words.join(" ")), command).end()
}
