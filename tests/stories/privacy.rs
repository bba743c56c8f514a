//! Differential privacy as a plan's promise: what it costs is told round by round, and the federation ends when the budget is spent.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::harness::command::{fedmerge, run};

const PLAN: &str = "
[merge]
method = \"mean\"
weight = \"uniform\"

[privacy]
clip = 4.0
noise = 1.0
epsilon = 9.0
";

/// Runs a simulation of ten planned rounds, and answers with its summary and where it is.
fn simulate(dir: &Path, plan: &str) -> Value {
    let file = dir.join("plan.toml");
    fs::write(&file, plan).unwrap();
    let words = [
        "simulate",
        "--clients",
        "4",
        "--rounds",
        "10",
        "--local-steps",
        "5",
    ];
    let mut command = fedmerge(&words);
    command.arg("--out").arg(dir.join("run")).arg(&file);
    let ended = run(command.args(["--format", "json"])).well();
    serde_json::from_str(ended.stdout.lines().last().unwrap()).unwrap()
}

fn server(dir: &Path, words: &[&str]) -> String {
    let mut command = fedmerge(&["server"]);
    command.args(words).arg("--dir").arg(dir.join("run/server"));
    run(&mut command).well().stdout
}

#[test]
fn the_federation_ends_when_another_round_would_cost_more_than_the_budget() {
    let dir = tempfile::tempdir().unwrap();
    let summary = simulate(dir.path(), PLAN);
    // With z = 1 three rounds cost ε 8.385 at δ 1e-5, and four 9.997.
    let rounds = summary["rounds"].as_array().unwrap();
    assert_eq!(rounds.len(), 3, "{summary:#}");

    let told = server(dir.path(), &["rounds", "show", "3"]);
    assert!(told.contains("ε 8.385 at δ 1e-5 until now"), "{told}");
    assert!(
        told.contains("noise of 1.0 × 4.0000 from the server"),
        "{told}"
    );
    let log = fs::read_to_string(dir.path().join("run/server/models/3/fedmerge.json")).unwrap();
    let manifest: Value = serde_json::from_str(&log).unwrap();
    let update = &manifest["merge"]["updates"][0];
    assert!(update.get("norm").is_none(), "{update}");
    assert!(manifest["merge"].get("diagnostics").is_none());

    let told = server(dir.path(), &["models", "verify", "3", "--recompute"]);
    assert!(
        told.contains("merged again from 4 updates: the same"),
        "{told}"
    );
    let told = server(dir.path(), &["check-config"]);
    assert!(told.contains("the budget of 9 allows 3"), "{told}");
}

#[test]
fn clients_add_their_own_noise_where_the_plan_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let plan = PLAN
        .replace("method = \"mean\"", "method = \"median\"")
        .replace("noise = 1.0", "noise = 4.0\nby = \"clients\"")
        .replace("epsilon = 9.0", "epsilon = 1.5");
    let summary = simulate(dir.path(), &plan);
    let rounds = summary["rounds"].as_array().unwrap();
    assert_eq!(rounds.len(), 2, "{summary:#}");
    let told = server(dir.path(), &["rounds", "show", "1"]);
    assert!(
        told.contains("noise of 4.0 × 4.0000 from each client"),
        "{told}"
    );
    // Each value of an update has noise of 16 on it: its length is about 16 × √4810, whatever was trained.
    let manifest = dir.path().join("run/server/models/1/fedmerge.json");
    let manifest: Value = serde_json::from_slice(&fs::read(manifest).unwrap()).unwrap();
    for update in manifest["merge"]["updates"].as_array().unwrap() {
        let norm = update["norm"].as_f64().unwrap();
        assert!((1000.0..1230.0).contains(&norm), "{update}");
    }
}

#[test]
fn noise_and_its_price_are_reckoned_without_a_federation() {
    let told = run(&mut fedmerge(&[
        "privacy",
        "--epsilon",
        "8",
        "--rounds",
        "50",
    ]))
    .well();
    assert!(told.stdout.contains("with noise of 4.2443 times"), "{told}");
    let words = [
        "privacy",
        "--noise",
        "1.1",
        "--rounds",
        "14062",
        "--sampling",
        "0.004266666666666667",
    ];
    let told = run(&mut fedmerge(&words)).well();
    assert!(told.stdout.starts_with("ε 2.59"), "{told}");
    let neither = run(&mut fedmerge(&["privacy", "--rounds", "3"]));
    assert_eq!(neither.status.code(), Some(64), "{neither}");
    let nonsense = run(&mut fedmerge(&["privacy", "--noise", "-1"]));
    assert_eq!(nonsense.status.code(), Some(64), "{nonsense}");
}
