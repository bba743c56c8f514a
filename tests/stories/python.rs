//! The Python example, as its users would run it.

use std::path::Path;
use std::process::Command;

use crate::harness::federation::Federation;
use crate::harness::machine::skipped;
use crate::harness::plan::Plan;
use crate::harness::process::Process;
use crate::harness::trainer::{Trainer, quoted};

const EXAMPLE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/client/examples/train_numpy.py"
);

fn python_is_there() -> bool {
    let check = Command::new("python3")
        .args(["-c", "import numpy, safetensors"])
        .output();
    check.is_ok_and(|checked| checked.status.success())
}

#[test]
fn the_python_example_trains_a_federation() {
    if !python_is_there() {
        skipped("python3 with numpy and safetensors is not there");
        return;
    }
    let plan = Plan {
        rounds: 2,
        ..Plan::of(2)
    };
    let mut federation = Federation::from_base(&plan, |path| {
        let mut init = Command::new("python3");
        Process::start("init", init.arg(EXAMPLE).arg("--init").arg(path))
            .end()
            .well();
    });
    federation.start_server();
    federation.enrol(&["a", "b"]);
    for (seed, name) in ["a", "b"].into_iter().enumerate() {
        let trainer = format!("python3 {} --seed {seed}", quoted(Path::new(EXAMPLE)));
        federation.start_client(name, &Trainer::shell(trainer));
    }
    for _ in 1..=2 {
        let closed = federation.next_round();
        closed.published();
        assert_eq!(closed.client("a").num_examples, 300);
    }
    for name in ["a", "b"] {
        federation.client(name).next_event("trained");
        let second = federation.client(name).next_event("trained");
        assert!(second["loss"].as_f64().unwrap() < 0.9, "{name}: {second}");
    }
}
