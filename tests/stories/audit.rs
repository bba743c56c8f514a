//! What was done is written down, and whoever changes that is found out.

use std::fs;

use serde_json::Value;

use crate::harness::federation::Federation;
use crate::harness::plan::Plan;
use crate::harness::process::Ended;
use crate::harness::values::Values;

const VERIFY: &[&str] = &["server", "audit", "verify", "--dir", "server"];

fn verify_copy(federation: &Federation, copy: &str) -> Ended {
    federation.run(&[VERIFY, &["--copy", copy]].concat())
}

/// The log of a federation in which one client was heard and the other evicted.
fn lived() -> Federation {
    let mut federation = Federation::new(&Plan::of(1));
    federation.start_server();
    federation.enrol(&["a", "b"]);
    let evict = ["server", "clients", "evict", "b", "--dir", "server"];
    let reason = ["--reason", "the machine was lost"];
    federation.run(&[&evict[..], &reason].concat()).well();
    let trainer = federation.trainer("a", &Values::base().plus(1.0), 1);
    federation.start_client("a", &trainer);
    federation.next_round().published();
    federation.client_end("a").well();
    federation.server_end().well();
    federation
}

#[test]
fn what_was_done_is_listed_in_order_and_a_copy_of_it_is_the_ledgers() {
    let federation = lived();
    let list = [
        "server", "audit", "list", "--dir", "server", "--format", "json",
    ];
    let list = federation.run(&list).well();
    let lines: Vec<Value> = list
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let events: Vec<_> = lines
        .iter()
        .map(|line| line["event"].as_str().unwrap())
        .collect();
    assert_eq!(
        events,
        [
            "model-published",
            "token-created",
            "client-enrolled",
            "client-enrolled",
            "client-evicted",
            "model-published",
            "round-closed",
        ]
    );
    assert_eq!(lines[4]["reason"], "the machine was lost");
    assert_eq!(lines[6]["accepted"][0], "a");
    for (line, number) in lines.iter().zip(1..) {
        assert_eq!(line["seq"], number);
    }

    let export = ["server", "audit", "export", "copy.jsonl", "--dir", "server"];
    federation.run(&export).well();
    let ended = verify_copy(&federation, "copy.jsonl").well();
    assert!(ended.stdout.contains("7 lines"), "{ended}");
    // A later copy does not take the place of this one.
    federation
        .run(&export)
        .refused(64, &["copy.jsonl", "is there already"]);
    let whole = fs::read_to_string(federation.path("copy.jsonl")).unwrap();
    let second = whole.find('\n').unwrap() + 1;
    for (what, text) in [
        ("line 1 ", whole[second..].to_owned()),
        (
            "line 6 ",
            whole.replace("the machine was lost", "nothing happened"),
        ),
        ("line 7 ", whole[..whole.len() - 2].to_owned()),
    ] {
        fs::write(federation.path("changed.jsonl"), text).unwrap();
        let ended = verify_copy(&federation, "changed.jsonl");
        ended.refused(65, &["changed.jsonl", "is not whole", what]);
    }
}

#[test]
fn a_line_that_was_changed_in_the_ledger_is_found() {
    let federation = lived();
    federation.run(VERIFY).well();
    let path = federation.path("server/state/ledger.sqlite");
    let mut bytes = fs::read(&path).unwrap();
    let words = b"the machine was lost";
    let places: Vec<usize> = (0..bytes.len() - words.len())
        .filter(|place| bytes[*place..].starts_with(words))
        .collect();
    assert!(!places.is_empty());
    for place in places {
        bytes[place..][..words.len()].copy_from_slice(b"the machine was sold");
    }
    fs::write(&path, bytes).unwrap();
    federation
        .run(VERIFY)
        .refused(65, &["the audit log in the ledger is not whole", "line 6 "]);
}
