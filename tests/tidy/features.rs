//! One build for `cargo run` and `cargo test`: a feature that only tests need must be asked for by the program too.
//!
//! Without this, the second of a newcomer's two commands builds a third of the dependencies again.

use std::collections::BTreeSet;
use std::process::Command;

use super::repository::expect_none;

/// Every dependency with its features, as cargo would build it for these packages.
fn built(selection: &[&str]) -> BTreeSet<String> {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--no-dedupe"])
        .args(["--prefix", "none", "--format", "{p}|{f}"])
        .args(selection)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&tree.stderr);
    assert!(tree.status.success(), "{errors}");
    let lines = String::from_utf8(tree.stdout).unwrap();
    lines.lines().map(str::to_owned).collect()
}

/// What the program builds and the tests build otherwise.
fn leaks(program: &BTreeSet<String>, tests: &BTreeSet<String>) -> Vec<String> {
    program.difference(tests).cloned().collect()
}

#[test]
fn the_tests_build_every_dependency_as_the_program_does() {
    let program = built(&["--edges", "normal"]);
    let tests = built(&["--workspace", "--edges", "normal,dev"]);
    assert!(program.len() > 100, "cargo told nothing");
    expect_none(leaks(&program, &tests));
}

#[test]
fn a_feature_that_only_tests_need_is_found() {
    let set = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
    let program: BTreeSet<String> = set(&["a v1|std", "b v1|"]);
    assert_eq!(
        leaks(&program, &set(&["a v1|default,std", "b v1|", "c v1|"])),
        ["a v1|std"]
    );
    assert!(leaks(&program, &set(&["a v1|std", "b v1|", "c v1|"])).is_empty());
}
