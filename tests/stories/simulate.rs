//! `fedmerge simulate`, whole: the same seed gives the same model, liars are shown, and an interrupt leaves nothing running.

use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::command::fedmerge;
use crate::harness::machine::{processes_with, wait_until};
use crate::harness::process::{Ended, Process};

fn start(out: &Path, arguments: &[&str]) -> Process {
    let mut command = fedmerge(&[
        "simulate",
        "--local-steps",
        "5",
        "--format",
        "json",
        "--out",
    ]);
    Process::start("simulate", command.arg(out).args(arguments))
}

fn summary(ended: &Ended) -> Value {
    let last = ended.stdout.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {ended}"))
}

#[test]
fn two_simulations_at_once_with_one_seed_end_in_the_same_model() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = ["--clients", "4", "--rounds", "2", "--seed", "3"];
    let running = ["one", "two"].map(|out| start(&dir.path().join(out), &arguments));
    let [one, two] = running.map(|process| summary(&process.end().well()));
    assert_eq!(one["rounds"].as_array().unwrap().len(), 2, "{one:#}");
    assert_eq!(one["rounds"][1]["outcome"], "published", "{one:#}");
    assert!(
        one["final"]["model"]
            .as_str()
            .unwrap()
            .starts_with("blake3:"),
        "{one:#}"
    );
    assert_eq!(one["final"]["model"], two["final"]["model"]);
    for file in [
        "server/state/ledger.sqlite",
        "server/models/2/fedmerge.json",
        "logs/client-4.log",
        "summary.json",
    ] {
        assert!(
            dir.path().join("one").join(file).exists(),
            "{file} is missing"
        );
    }
}

#[test]
fn a_slow_link_changes_no_byte_and_the_bytes_that_travel_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = ["--clients", "3", "--rounds", "2", "--encoding", "int8"];
    let run = |out: &str, link: &[&str]| {
        let process = start(&dir.path().join(out), &[&arguments, link].concat());
        summary(&process.end().well())
    };
    let plain = run("plain", &[]);
    let slow = run("slow", &["--link", "20mbit,20ms,5%"]);
    assert_eq!(slow["link"], "20mbit, 20ms there and back, 5% lost");
    assert_eq!(slow["final"]["model"], plain["final"]["model"]);
    for (round, of) in slow["rounds"].as_array().unwrap().iter().zip(0..) {
        let traffic = round["traffic"].as_array().unwrap();
        assert_eq!(traffic.len(), 3, "{slow:#}");
        for client in traffic {
            let bytes = |name: &str| client[name].as_u64().unwrap();
            // The digits' model has 4,810 parameters: each a byte up and four down before they are packed, and a little more.
            assert!(
                (3_000..5_264).contains(&bytes("up_bytes")),
                "{of}: {client}"
            );
            assert!(
                (9_000..19_240).contains(&bytes("down_bytes")),
                "{of}: {client}"
            );
        }
    }
}

#[test]
fn attackers_that_hand_in_nan_are_rejected_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    let attack = [
        "--clients",
        "4",
        "--rounds",
        "1",
        "--attack",
        "nan",
        "--attackers",
        "1",
    ];
    let ended = start(&dir.path().join("out"), &attack).end().well();
    let summary = summary(&ended);
    let round = &summary["rounds"][0];
    assert_eq!(
        (&round["accepted"], &round["rejected"]),
        (&3.into(), &1.into()),
        "{summary:#}"
    );
    let refused = &round["refused"][0];
    assert_eq!(
        (&refused["client"], &refused["outcome"]),
        (&"client-4".into(), &"rejected".into())
    );
    let reason = refused["reason"].as_str().unwrap();
    assert!(
        reason.contains("non-finite") && reason.contains("tensor `"),
        "{reason}"
    );
}

/// A plan whose clients compare each merged model with its base by their loss.
fn gated_plan(dir: &Path) -> String {
    let path = dir.join("federation.toml");
    let plan = "[merge]\nmethod = \"mean\"\n[evaluate]\nmetric = \"loss\"\ngoal = \"min\"\naccept = { quantile = 0.5 }\n";
    std::fs::write(&path, plan).unwrap();
    path.display().to_string()
}

#[test]
fn clients_that_hold_data_out_let_good_merges_pass() {
    let dir = tempfile::tempdir().unwrap();
    let (plan, out) = (gated_plan(dir.path()), dir.path().join("out"));
    let arguments = [plan.as_str(), "--clients", "4", "--rounds", "2"];
    let ended = start(&out, &arguments).end().well();
    let summary = summary(&ended);
    assert_eq!(
        summary["gate"],
        "loss of the fifth that each client holds out"
    );
    for round in summary["rounds"].as_array().unwrap() {
        assert_eq!(round["outcome"], "published", "{summary:#}");
    }
    assert!(out.join("clients/client-4/held-out.safetensors").exists());
}

#[test]
fn a_poisoned_merge_is_abandoned_by_the_gate_though_the_liars_praise_it() {
    let dir = tempfile::tempdir().unwrap();
    let (plan, out) = (gated_plan(dir.path()), dir.path().join("out"));
    let arguments = [
        plan.as_str(),
        "--clients",
        "5",
        "--rounds",
        "2",
        "--attack",
        "sign-flip",
        "--attackers",
        "2",
    ];
    let ended = start(&out, &arguments).end().with_code(75);
    assert!(
        ended.stderr.contains("no round produced a new model"),
        "{ended}"
    );
    let summary = summary(&ended);
    let rounds = summary["rounds"].as_array().unwrap();
    assert_eq!(rounds.len(), 2, "{summary:#}");
    for round in rounds {
        assert_eq!(
            (&round["outcome"], &round["accepted"]),
            (&"abandoned".into(), &5.into()),
            "{summary:#}"
        );
        let reason = round["reason"].as_str().unwrap();
        assert!(
            reason.starts_with("regression: the median of the gains in loss of 5 clients is -"),
            "{reason}"
        );
    }
    assert_eq!(summary["final"]["model"], Value::Null, "{summary:#}");
    assert!(!out.join("server/models/1").exists());
}

/// A simulation under way, and the mark by which its processes are found.
fn under_way(out: &Path) -> (Process, String) {
    let mark = format!("FEDMERGE_TEST_MARK={}", out.display());
    let (name, value) = mark.split_once('=').unwrap();
    let mut command = fedmerge(&["simulate", "--clients", "3", "--rounds", "10000", "--out"]);
    let process = Process::start("simulate", command.arg(out).env(name, value));
    // The row of the first round.
    process.wait_for_stdout("    1  ");
    let running = processes_with(&mark).len();
    assert!(
        running >= 5,
        "{running} processes: the simulation, its server and 3 clients are missing"
    );
    (process, mark)
}

#[test]
fn a_killed_simulation_leaves_no_process() {
    let dir = tempfile::tempdir().unwrap();
    let (process, mark) = under_way(&dir.path().join("out"));
    process.signal(Signal::KILL);
    wait_until("the end of every process", || {
        processes_with(&mark).is_empty()
    });
}

#[test]
fn an_interrupted_simulation_leaves_its_results_and_no_process() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let (process, mark) = under_way(&out);
    process.signal(Signal::INT);
    let ended = process.end().with_code(75);
    let said = format!(
        "every process is stopped; what they left is in {}",
        out.display()
    );
    assert!(ended.stderr.contains(&said), "{ended}");
    assert!(ended.stderr.contains("interrupted after round"), "{ended}");
    wait_until("the end of every process", || {
        processes_with(&mark).is_empty()
    });
    assert!(out.join("summary.json").exists());
}
