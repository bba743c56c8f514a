//! Encodings that lose something: what was lost is made up for, and a crash counts nothing twice.

use std::fs;
use std::process::Command;
use std::sync::OnceLock;

use fedmerge_common::failpoint::{self, Point};

use crate::harness::federation::Federation;
use crate::harness::plan::Plan;
use crate::harness::trainer::Trainer;
use crate::harness::values::Values;

const ROUNDS: u64 = 4;

/// Where a client says of its update what the next one must not say again.
const POINTS: [Point; 5] = [
    Point::ClientUpdateWritten,
    Point::ClientUpdateReady,
    Point::ClientBeforeCommit,
    Point::ClientAfterCommit,
    Point::ClientResidualKept,
];

/// Values of which one scale says little.
fn base() -> Values {
    Values {
        w: (0..40_u8).map(|index| f32::from(index) / 8.0).collect(),
        b: vec![0.5, -0.5],
    }
}

fn target(name: &str) -> Values {
    let scale = if name == "a" { 3.0 } else { 7.0 };
    let wave = |index: u16| f32::from(index * 29 % 41) / scale;
    Values {
        w: (0..40).map(wave).collect(),
        b: vec![1.0, 2.0],
    }
}

/// Both clients train to a target of their own, and each update says a sixth of the values, and what those before lost.
fn begin(update: &'static str) -> Federation {
    let plan = Plan {
        rounds: ROUNDS,
        update,
        ..Plan::of(2)
    };
    let mut federation = Federation::from_base(&plan, |path| base().write(path));
    federation.start_server();
    federation.enrol(&["a", "b"]);
    federation
}

const TOP_K: &str = "encodings = [\"top-k\", \"f32\"]\ndensity = 0.15";

fn trainer(federation: &Federation, name: &str) -> Trainer {
    federation.trainer(name, &target(name), 10)
}

fn start(
    federation: &mut Federation,
    name: &str,
    adapt: impl FnOnce(&mut Command) -> &mut Command,
) {
    let trainer = trainer(federation, name);
    federation.start_client_as(name, &trainer, adapt);
}

/// The bytes of the last model, once both clients have left.
fn last_model(federation: &mut Federation) -> Vec<u8> {
    federation.server_end().well();
    for name in ["a", "b"] {
        federation.client_end(name).well();
    }
    fs::read(federation.model(ROUNDS)).unwrap()
}

fn undisturbed() -> &'static [u8] {
    static RUN: OnceLock<Vec<u8>> = OnceLock::new();
    RUN.get_or_init(|| {
        let mut federation = begin(TOP_K);
        for name in ["a", "b"] {
            start(&mut federation, name, |command| command);
        }
        last_model(&mut federation)
    })
}

#[test]
fn a_client_that_dies_around_its_update_says_nothing_twice() {
    for point in POINTS {
        let mut federation = begin(TOP_K);
        // In the second round, whose update says also what the first lost.
        start(&mut federation, "a", |command| {
            command.env(failpoint::VARIABLE, format!("{point}:2"))
        });
        start(&mut federation, "b", |command| command);
        federation.client_end("a").died_at(point);
        start(&mut federation, "a", |command| command);
        assert!(last_model(&mut federation) == undisturbed(), "{point}");
    }
}

#[test]
fn a_client_that_missed_a_round_drops_what_it_kept_and_says_so() {
    let plan = Plan {
        rounds: 3,
        quorum: 1,
        update: TOP_K,
        ..Plan::of(2)
    };
    let mut federation = Federation::from_base(&plan, |path| base().write(path));
    federation.start_server();
    federation.enrol(&["a", "b"]);
    let honest = trainer(&federation, "b");
    federation.start_client("b", &honest);
    let tuned = federation.path("a.tuned.safetensors");
    target("a").write(&tuned);
    // The second round's training fails, so its update never counts.
    let moody = Trainer::shell(format!(
        "test \"$FEDMERGE_ROUND\" != 2 && cp '{}' \"$FEDMERGE_OUT\"",
        tuned.display()
    ));
    federation.start_client("a", &moody);
    federation.server_end().well();
    federation.client_end("b").well();
    let said = federation.client_end("a").well().stdout;
    let dropped: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("residual-dropped"))
        .collect();
    assert_eq!(
        dropped,
        [
            r#"{"event":"residual-dropped","round":3,"reason":"no update of the round before counted"}"#
        ]
    );
}

#[test]
fn every_encoding_carries_a_federation_to_its_end() {
    for (name, update) in [
        ("int8", "encodings = [\"int8\"]"),
        ("ternary", "encodings = [\"ternary\"]\ndensity = 0.5"),
        ("sign", "encodings = [\"sign\"]"),
    ] {
        let mut federation = begin(update);
        for name in ["a", "b"] {
            start(&mut federation, name, |command| command);
        }
        let last = last_model(&mut federation);
        assert!(
            last != fs::read(federation.path("base.safetensors")).unwrap(),
            "{name}"
        );
    }
}
