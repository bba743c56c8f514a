//! The trainer as its command line drives it: what it writes besides trained models.

#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct Program {
    #[command(flatten)]
    arguments: TrainArguments,
}

fn parse(words: &[&str]) -> Result<TrainArguments, clap::Error> {
    let words = ["train"].iter().chain(words);
    Program::try_parse_from(words).map(|program| program.arguments)
}

fn quietly(words: &[&str]) -> Result<(), Failure> {
    let output = Output {
        quiet: true,
        ..Output::default()
    };
    run(&parse(words).unwrap(), &output)
}

#[test]
fn exported_examples_are_those_that_the_trainer_would_use() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ward.safetensors");
    quietly(&["--data", "digits:2/8", "--export", path.to_str().unwrap()]).unwrap();
    let chosen = DataSource::DigitsPart { part: 2, of: 8 }.load().unwrap();
    assert_eq!(Dataset::read(&path).unwrap(), chosen);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn examples_that_cannot_be_written_are_a_failure_to_write() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nowhere/ward.safetensors");
    let failure = quietly(&["--data", "digits", "--export", path.to_str().unwrap()]).unwrap_err();
    let text = failure.to_string();
    assert!(
        text.starts_with("error: cannot write the examples"),
        "{text}"
    );
    assert_eq!(failure.exit, ExitCode::Unavailable);
}

#[test]
fn an_export_goes_with_examples_and_with_nothing_else() {
    for refused in [
        &["--export", "a"][..],
        &["--data", "digits", "--export", "a", "--init", "b"],
        &["--data", "digits", "--export", "a", "--base", "b"],
        &["--data", "digits", "--export", "a", "--out", "b"],
    ] {
        assert!(parse(refused).is_err(), "{refused:?}");
    }
}
