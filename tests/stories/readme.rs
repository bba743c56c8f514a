//! What the README tells people to type works: every command of it is run, or is listed here with the reason why not.
//!
//! A command that is not in [`COMMANDS`] fails the test, and so does a row of it that the README does not show any more.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::command::PROGRAM;
use crate::harness::process::Process;
use crate::harness::trainer::quoted;

/// How a command is run here, as what a shell sees.
#[derive(Clone, Copy, Debug)]
enum How {
    /// To its end, which must be good.
    ToItsEnd(&'static str),
    /// Beside the commands that follow, like in a second terminal; ends with the last of them.
    #[expect(dead_code, reason = "the README shows no such command yet")]
    Beside(&'static str),
    /// Not here, for this reason.
    NotHere(&'static str),
}

/// Every command of the README, as it stands there.
const COMMANDS: &[(&str, How)] = &[
    (
        "cargo run -- simulate",
        How::ToItsEnd("fedmerge simulate --clients 3 --rounds 2 --local-steps 5"),
    ),
    (
        "cargo test --workspace",
        How::NotHere("this test is a part of it"),
    ),
];

/// The commands in the page's shell blocks, in order; a line that ends in `\` goes on in the next.
fn commands(page: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut is_shell = false;
    let mut begun = String::new();
    for line in page.lines().map(str::trim) {
        if let Some(language) = line.strip_prefix("```") {
            is_shell = language == "sh";
        } else if is_shell && !line.is_empty() && !line.starts_with('#') {
            let (part, goes_on) = match line.strip_suffix('\\') {
                Some(part) => (part, true),
                None => (line, false),
            };
            begun.push_str(part);
            if !goes_on {
                commands.push(std::mem::take(&mut begun));
            }
        }
    }
    commands
}

fn how(command: &str) -> How {
    let row = COMMANDS.iter().find(|(shown, _)| *shown == command);
    row.unwrap_or_else(|| panic!("a command of the README that no test runs: {command}"))
        .1
}

/// The shell script that does what a reader of the page would do.
fn script(commands: &[String]) -> String {
    let program = Path::new(PROGRAM).parent().unwrap();
    let mut script = format!("set -eu\nexport PATH={}:\"$PATH\"\n", quoted(program));
    for (number, command) in commands.iter().enumerate() {
        match how(command) {
            How::ToItsEnd(line) => {
                script += &format!("echo \"+\" {}\n{line}\n", quoted(Path::new(line)));
            }
            How::Beside(line) => script += &format!("{line} > beside-{number}.log 2>&1 &\n"),
            How::NotHere(why) => script += &format!("# {command}: {why}\n"),
        }
    }
    script
}

#[test]
fn every_command_of_the_readme_works() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let commands = commands(&page);
    for (shown, how) in COMMANDS {
        assert!(
            commands.iter().any(|command| command == shown),
            "not in the README: {shown} ({how:?})"
        );
    }
    let dir = tempfile::tempdir().unwrap();
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &script(&commands)])
        .current_dir(dir.path());
    Process::start("a reader", &mut shell).end().well();
}

#[test]
fn commands_are_found_in_shell_blocks_alone() {
    let page =
        "a\n```text\nnot this\n```\n```sh\n# nor this\nfirst \\\n  word\n\nsecond\n```\nnor that\n";
    assert_eq!(commands(page), ["first word", "second"]);
}

#[test]
#[should_panic(expected = "a command of the README that no test runs: fedmerge fly")]
fn a_command_that_no_test_runs_is_found() {
    script(&["fedmerge fly".to_owned()]);
}
