//! How files look: length, header, name, and what README and deploy must have.

use super::repository::{Source, expect_none, read, rust_sources, sample, sources};

/// Hard limit of a file's length, lines; the target is 300.
const MAX_LINES: usize = 500;

/// The commands a newcomer needs.
const COMMANDS: &[&str] = &["cargo run -- simulate", "cargo test --workspace"];

fn length_offender(source: &Source) -> Option<String> {
    let lines = source.text.lines().count();
    (lines > MAX_LINES).then(|| format!("{}: {lines} lines, the limit is {MAX_LINES}", source.path))
}

fn header_offender(source: &Source) -> Option<String> {
    (!source.text.starts_with("//! "))
        .then(|| format!("{}: does not open with `//! `", source.path))
}

fn name_offender(path: &str) -> Option<String> {
    let mut parts = path.split('/');
    let bad = parts.any(|part| {
        let stem = part.split('.').next().unwrap_or_default();
        part == "mod.rs" || ["util", "utils", "helper", "helpers", "misc"].contains(&stem)
    });
    bad.then(|| format!("{path}: no mod.rs and no name that says nothing"))
}

fn readme_offenders(readme: &str) -> Vec<String> {
    let missing = COMMANDS
        .iter()
        .filter(|command| !readme.contains(**command));
    missing
        .map(|command| format!("README.md: does not show `{command}`"))
        .collect()
}

fn empty_offender(source: &Source) -> Option<String> {
    source
        .text
        .trim()
        .is_empty()
        .then(|| format!("{}: is empty", source.path))
}

#[test]
fn no_rust_file_is_longer_than_the_limit() {
    expect_none(rust_sources().iter().filter_map(length_offender));
}

#[test]
fn a_file_over_the_limit_is_found() {
    assert_eq!(
        length_offender(&sample("a.rs", &"x\n".repeat(MAX_LINES))),
        None
    );
    assert!(length_offender(&sample("a.rs", &"x\n".repeat(MAX_LINES + 1))).is_some());
}

#[test]
fn every_rust_file_opens_with_what_it_owns() {
    expect_none(rust_sources().iter().filter_map(header_offender));
}

#[test]
fn a_file_without_a_header_is_found() {
    assert_eq!(header_offender(&sample("a.rs", "//! Owns.\n")), None);
    for text in ["", "use std::fs;", "// Owns.", "\n//! Owns."] {
        assert!(header_offender(&sample("a.rs", text)).is_some(), "{text:?}");
    }
}

#[test]
fn no_file_or_folder_has_a_name_that_says_nothing() {
    expect_none(
        sources()
            .iter()
            .filter_map(|source| name_offender(&source.path)),
    );
}

#[test]
fn a_name_that_says_nothing_is_found() {
    assert_eq!(name_offender("server/src/model.rs"), None);
    for path in [
        "a/mod.rs",
        "a/util.rs",
        "util/a.rs",
        "a/utils/b.rs",
        "helper.py",
    ] {
        assert!(name_offender(path).is_some(), "{path}");
    }
}

#[test]
fn the_readme_shows_how_to_run_and_how_to_test() {
    expect_none(
        read("README.md")
            .iter()
            .flat_map(|readme| readme_offenders(readme)),
    );
}

#[test]
fn a_readme_without_the_commands_is_found() {
    assert_eq!(readme_offenders("cargo run -- simulate").len(), 1);
    assert_eq!(
        readme_offenders("cargo run -- simulate\ncargo test --workspace").len(),
        0
    );
}

#[test]
fn every_file_in_deploy_says_something() {
    let files = sources();
    expect_none(
        files
            .iter()
            .filter(|source| source.path.starts_with("deploy/"))
            .filter_map(empty_offender),
    );
}

#[test]
fn an_empty_file_is_found() {
    assert!(empty_offender(&sample("deploy/a", " \n")).is_some());
    assert_eq!(empty_offender(&sample("deploy/a", "x")), None);
}
