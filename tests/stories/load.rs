//! The load generator of `examples/load/`, small: real clients wait for a real server and hold a round with it.

#[path = "../../examples/load/crowd.rs"]
mod crowd;
#[path = "../../examples/load/hub.rs"]
pub(super) mod hub;
#[path = "../../examples/load/measure.rs"]
mod measure;
#[path = "../../examples/load/meter.rs"]
pub(super) mod meter;
#[path = "../../examples/load/settings.rs"]
mod settings;

use clap::Parser;
use serde_json::Value;

use crate::harness::command::PROGRAM;
use settings::Arguments;

/// What a run with these arguments tells, as objects and in words.
#[track_caller]
fn told(arguments: &[&str]) -> Vec<(Value, String)> {
    let fixed = ["load", "--format", "json", "--program", PROGRAM];
    let arguments = Arguments::parse_from(fixed.iter().chain(arguments));
    assert!(arguments.output().is_json());
    let mut told: Vec<(Value, String)> = Vec::new();
    let measured = measure::measure(arguments, |line| {
        told.push((serde_json::to_value(line).unwrap(), line.to_string()));
    });
    assert_eq!(measured.map_err(|failure| failure.to_string()), Ok(()));
    let events: Vec<_> = told.iter().map(|(line, _)| &line["event"]).collect();
    assert_eq!(events, ["enrolled", "connected", "idle", "round", "left"]);
    told
}

#[test]
fn a_crowd_waits_and_holds_a_round_and_what_the_server_took_is_told() {
    let told = told(&[
        "--clients",
        "20",
        "--idle-seconds",
        "0",
        "--train-seconds",
        "1",
    ]);
    assert_eq!(told[1].0["clients"], 20);
    let (round, words) = &told[3];
    assert_eq!(round["accepted"], 21);
    assert!(
        words.starts_with("round 1 published with 21 updates in "),
        "{words}"
    );
    assert!(round["server"]["peak_bytes"].as_u64() > Some(1 << 20));
}

#[test]
fn a_hundred_clients_that_send_at_once_fill_neither_memory_nor_disk_and_all_count() {
    // 100 MiB want to come; the server holds 5 MiB of incomplete uploads, and takes four of them at a time.
    let told = told(&[
        "--clients",
        "99",
        "--idle-seconds",
        "0",
        "--model-bytes",
        "1MiB",
        "--uploads",
        "4",
        "--staged-bytes",
        "5MiB",
        "--merge-memory",
        "64MiB",
    ]);
    let (round, words) = &told[3];
    assert_eq!(round["accepted"], 100, "{words}");
    let peak = round["server"]["peak_bytes"].as_u64().unwrap();
    assert!(peak < 160 << 20, "{words}");
}
