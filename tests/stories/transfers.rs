//! The measurement of transfers of `examples/transfers/`, small: real transfer code and a real server hold a round.

#[path = "../../examples/transfers/measure.rs"]
mod measure;
#[path = "../../examples/transfers/settings.rs"]
mod settings;
#[path = "../../examples/transfers/site.rs"]
mod site;
#[path = "../../examples/transfers/yardstick.rs"]
mod yardstick;

use clap::Parser;
use serde_json::Value;

use super::load::{hub, meter};
use crate::harness::command::PROGRAM;
use settings::Arguments;

#[test]
fn models_and_updates_are_timed_beside_a_tls_stream() {
    let arguments = [
        "transfers",
        "--yardstick-bytes",
        "1MB",
        "--rounds",
        "1x1MB,3x1MB",
        "--format",
        "json",
        "--program",
        PROGRAM,
    ];
    let arguments = Arguments::parse_from(arguments);
    assert!(arguments.output().is_json());
    let mut told: Vec<(Value, String)> = Vec::new();
    let measured = measure::measure(&arguments, |line| {
        told.push((serde_json::to_value(line).unwrap(), line.to_string()));
    });
    assert_eq!(measured.map_err(|failure| failure.to_string()), Ok(()));
    let events: Vec<_> = told.iter().map(|(line, _)| &line["event"]).collect();
    assert_eq!(events, ["yardstick", "round", "round"]);
    let (round, words) = &told[2];
    assert_eq!(round["clients"], 3);
    assert!(round["download_rate"].as_f64() > Some(0.0), "{round}");
    assert!(round["server"]["peak_bytes"].as_u64() > Some(1 << 20));
    assert!(words.starts_with("3 x "), "{words}");
}

#[test]
fn a_round_to_measure_has_clients_and_values() {
    let parse = |rounds| Arguments::try_parse_from(["transfers", "--rounds", rounds]);
    assert!(parse("1x4B,8x1GB").is_ok());
    for wrong in ["", "8", "0x1MB", "x1MB", "8x", "8x3B", "-1x1MB"] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}
