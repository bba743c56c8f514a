//! Lines that are added, and the place of one that cannot be.

#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use std::fs;

use fedmerge_common::reason::DeclineKind;
use fedmerge_proto::convert::evaluation::Comparison;
use serde_json::{Value, json};

use super::*;

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let mut lines: Vec<Value> = lines.collect();
    for line in &mut lines {
        let time = line.as_object_mut().unwrap().remove("time");
        assert!(time.unwrap().as_str().unwrap().ends_with('Z'));
    }
    lines
}

#[test]
fn each_departure_is_a_line_and_none_is_rewritten() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("site-log.jsonl");
    let log = SiteLog::new(path.clone(), Clock::system());
    let round = RoundNumber::new(3);
    let update = Departure::Update {
        round,
        base: Digest::of(b"base"),
        encoding: Encoding::TopK,
        digest: Digest::of(b"payload"),
        bytes: 12,
        num_examples: 180,
        metrics: BTreeMap::from([("loss".to_owned(), 0.5)]),
        tensors: vec![SentTensor {
            name: "w".to_owned(),
            shape: vec![2, 3],
            bytes: 4,
        }],
    };
    let evaluation = Departure::from(&EvaluationReport {
        round,
        outcome: Ok(Comparison {
            before: 0.25,
            after: 0.5,
            num_examples: 9,
        }),
    });
    let decline = Decline::new(DeclineKind::TrainerFailed, "no data");
    log.add(&update).unwrap();
    let first = fs::read(&path).unwrap();
    log.add(&evaluation).unwrap();
    log.add(&(round, &decline).into()).unwrap();
    assert!(fs::read(&path).unwrap().starts_with(&first));
    let expected = [
        json!({
            "event": "update",
            "round": 3,
            "base": Digest::of(b"base"),
            "encoding": "top-k",
            "digest": Digest::of(b"payload"),
            "bytes": 12,
            "num_examples": 180,
            "metrics": { "loss": 0.5 },
            "tensors": [{ "name": "w", "shape": [2, 3], "bytes": 4 }],
        }),
        json!({ "event": "evaluation", "round": 3, "before": 0.25, "after": 0.5, "num_examples": 9 }),
        json!({ "event": "decline", "round": 3, "reason": "trainer-failed: no data" }),
    ];
    assert_eq!(lines(&path), expected);
}

#[test]
fn a_line_that_cannot_be_written_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    let decline = Decline::new(DeclineKind::Policy, "no");
    let log = SiteLog::new(root.path().to_owned(), Clock::system());
    log.add(&(RoundNumber::new(1), &decline).into())
        .unwrap_err();
}

#[test]
fn a_line_that_broke_off_does_not_spoil_the_one_after_it() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("site-log.jsonl");
    let log = SiteLog::new(path.clone(), Clock::system());
    let decline = Decline::new(DeclineKind::Policy, "no");
    let departure = Departure::from((RoundNumber::new(1), &decline));
    log.add(&departure).unwrap();
    let whole = fs::read(&path).unwrap();
    for length in 1..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        log.add(&departure).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let told: Vec<&str> = text.lines().collect();
        assert_eq!(told.len(), 2, "{length}");
        let last: Value = serde_json::from_str(told[1]).unwrap();
        assert_eq!(last["event"], "decline");
    }
}
