//! The example trainer in Python: makes a base for the digits, and takes part with it.

use std::process::Command;

use super::*;
use crate::trainer::builtin::source::DataSource;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/train_numpy.py");

fn python(arguments: &[&str]) -> bool {
    let ran = Command::new("python3").args(arguments).output();
    ran.is_ok_and(|output| output.status.success())
}

#[expect(clippy::print_stderr, reason = "a test that was skipped must say so")]
fn is_there() -> bool {
    let is_there = python(&["-c", "import numpy, safetensors"]);
    if !is_there {
        eprintln!("skipped: no python3 with numpy and safetensors");
    }
    is_there
}

#[test]
fn a_base_that_the_example_cannot_read_is_told_in_one_line() {
    if !is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let [missing, corrupt] = ["missing", "corrupt"].map(|name| dir.path().join(name));
    fs::write(&corrupt, "no tensors at all").unwrap();
    for base in [missing, corrupt] {
        let mut trainer = Command::new("python3");
        trainer
            .arg(EXAMPLE)
            .env("FEDMERGE_BASE", &base)
            .env("FEDMERGE_OUT", dir.path().join("out"))
            .env("FEDMERGE_ROUND", "1");
        let ended = trainer.output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        let expected = format!("the base {} cannot be read: ", base.display());
        assert!(said.starts_with(&expected), "{said}");
        assert_eq!((said.lines().count(), ended.status.code()), (1, Some(1)));
    }
}

#[tokio::test]
async fn the_example_in_python_makes_a_base_and_trains_it() {
    if !is_there() {
        return;
    }
    let mut play = play();
    let [data, base] = ["data", "fresh"].map(|name| {
        let path = play.root.path().join(name).with_extension("safetensors");
        path.to_str().unwrap().to_owned()
    });
    let digits = DataSource::DigitsPart { part: 1, of: 8 }.load().unwrap();
    digits.write(Path::new(&data)).unwrap();
    assert!(python(&[EXAMPLE, "--data", &data, "--init", &base]));
    play.theatre.base = fs::read(&base).unwrap();
    let (result, seen) = perform(play, &format!("python3 '{EXAMPLE}' --data '{data}'")).await;
    result.unwrap();
    let header = &seen.begun[0];
    assert_eq!(header.num_examples, digits.len() as u64);
    assert!(header.metrics["accuracy"] > 0.5, "{:?}", header.metrics);
}
