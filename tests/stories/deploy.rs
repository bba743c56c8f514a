//! The files of `deploy/` start what they say: their commands are those of the program.

use std::process::Command;

use crate::harness::command::{PROGRAM, run};

const UNIT: &str = include_str!("../../deploy/fedmerge-client@.service");
const CONTAINER: &str = include_str!("../../deploy/client.Containerfile");

/// The arguments of the program get as far as its directory, which is not there.
fn is_understood(arguments: &[String]) {
    let ended = run(Command::new(PROGRAM).args(arguments));
    ended.refused(78, &["is not the directory of an enrolled client"]);
}

#[test]
fn the_unit_starts_a_client() {
    let start = UNIT
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="));
    let words: Vec<_> = start.unwrap().split_whitespace().collect();
    let [program, arguments @ ..] = &words[..] else {
        panic!("ExecStart is empty");
    };
    assert!(program.ends_with("/fedmerge"), "{program}");
    let arguments = arguments
        .iter()
        .map(|word| word.replace("%i", "nobody").replace("${TRAIN}", "true"));
    is_understood(&arguments.collect::<Vec<_>>());
    for exit in ["64", "65", "77", "78"] {
        let prevented = UNIT
            .lines()
            .find_map(|line| line.strip_prefix("RestartPreventExitStatus="));
        assert!(
            prevented.unwrap().split(' ').any(|code| code == exit),
            "{exit}"
        );
    }
}

#[test]
fn the_unit_is_one_for_the_service_manager_where_there_is_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fedmerge-client@ward-3.service");
    // The program and the directory are those of this machine, which the tool looks for.
    let unit = UNIT.replace("/usr/local/bin/fedmerge", PROGRAM);
    std::fs::write(&path, unit).unwrap();
    let verified = Command::new("systemd-analyze")
        .arg("verify")
        .arg(&path)
        .output();
    let Ok(verified) = verified else {
        crate::harness::machine::skipped("systemd-analyze is not there");
        return;
    };
    let words = String::from_utf8_lossy(&verified.stderr);
    assert!(
        !words.contains("Unknown") && !words.contains("Failed to parse"),
        "{words}"
    );
}

#[test]
fn the_container_starts_a_client() {
    let list = |key: &str| -> Vec<String> {
        let text = CONTAINER.lines().find_map(|line| line.strip_prefix(key));
        serde_json::from_str(text.unwrap()).unwrap()
    };
    assert!(list("ENTRYPOINT ")[0].ends_with("/fedmerge"));
    let arguments = list("CMD ");
    let arguments = arguments
        .iter()
        .map(|word| word.replace("/client", "/nowhere/client"));
    is_understood(&arguments.collect::<Vec<_>>());
    // The toolchain is the one that the repository is built with.
    let toolchain = include_str!("../../rust-toolchain.toml");
    let image = CONTAINER
        .lines()
        .find_map(|line| line.strip_prefix("FROM rust:"));
    let version = image.unwrap().split('-').next().unwrap();
    assert!(
        toolchain.contains(&format!("channel = \"{version}")),
        "{version}: {toolchain}"
    );
}
