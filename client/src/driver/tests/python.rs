//! The example trainer in Python: makes a base for the digits, and takes part with it.

use std::process::Command;

use super::*;
use crate::trainer::builtin::source::DataSource;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/train_numpy.py");

fn python(arguments: &[&str]) -> bool {
    let ran = Command::new("python3").args(arguments).output();
    ran.is_ok_and(|output| output.status.success())
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "a test that was skipped must say so")]
async fn the_example_in_python_makes_a_base_and_trains_it() {
    if !python(&["-c", "import numpy, safetensors"]) {
        eprintln!("skipped: no python3 with numpy and safetensors");
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
