//! What an operator sees: of a round while it is open, of one that is over, and of a server that is not there.

use serde_json::{Value, json};

use crate::harness::federation::Federation;
use crate::harness::plan::Plan;
use crate::harness::process::Process;
use crate::harness::values::Values;

fn watch(federation: &Federation, format: &str) -> Process {
    let watch = [
        "server", "rounds", "watch", "--dir", "server", "--format", format,
    ];
    Process::start("watch", &mut federation.command(&watch))
}

#[test]
fn a_watch_says_what_is_waited_for_and_goes_on_through_a_restart_to_the_end() {
    let mut federation = Federation::new(&Plan::of(2));
    let told = watch(&federation, "text");
    let mut events = watch(&federation, "json");
    told.wait_for_stdout("waiting for the server");
    events.next_event("server-lost");
    federation.start_server();
    told.wait_for_stdout("gathering for round 1: waiting for 0 of 2 clients");
    assert_eq!(events.next_event("waiting")["phase"], "gathering");

    federation.enrol(&["quick", "slow"]);
    let mut gate = federation.gate("slow");
    let quick = federation.trainer("quick", &Values::base().plus(1.0), 1);
    let slow = federation.trainer("slow", &Values::base().plus(3.0), 1);
    federation.start_client("quick", &quick);
    federation.start_client("slow", &slow.behind(&gate));
    gate.wait_for_knock();
    federation.client("quick").next_event("accepted");
    told.wait_for_stdout("round 1, collecting: waiting for 1 of 2 updates, missing slow, until ");
    let mut waiting = events.next_event("waiting");
    while waiting["accepted"] != 1 {
        waiting = events.next_event("waiting");
    }
    assert_eq!(waiting["awaited"], json!(["slow"]));
    assert!(waiting["until"].is_string(), "{waiting}");

    federation.kill_server();
    events.next_event("server-lost");
    federation.start_server();
    assert_eq!(events.next_event("waiting")["round"], 1);
    gate.open();
    let closed = events.next_event("round-closed");
    assert_eq!(
        (&closed["round"], &closed["accepted"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(
        events.next_event("ended")["ended"],
        "the planned round is completed"
    );
    let told = told.end().well();
    assert!(
        told.stdout.contains("\nround 1: published model 1 "),
        "{told}"
    );
    assert!(
        told.stdout
            .ends_with("ended: the planned round is completed\n"),
        "{told}"
    );
    events.end().well();
    federation.server_end().well();

    // Where all is over, there is nothing to wait for.
    let late = watch(&federation, "text").end().well();
    assert_eq!(late.stdout, "ended: the planned round is completed\n");
}

fn one_json(federation: &Federation, command: &[&str]) -> Value {
    let command = [command, &["--dir", "server", "--format", "json"]].concat();
    serde_json::from_str(&federation.run(&command).well().stdout).unwrap()
}

#[test]
fn the_story_of_a_round_is_told_whether_or_not_the_server_runs() {
    let mut federation = Federation::new(&Plan::of(2));
    federation.start_server();
    federation.enrol(&["a", "b"]);
    for (name, plus) in [("a", 1.0), ("b", 3.0)] {
        let trainer = federation.trainer(name, &Values::base().plus(plus), 1);
        federation.start_client(name, &trainer);
    }
    let closed = federation.next_round();
    federation.server_end().well();

    let story = one_json(&federation, &["server", "rounds", "show", "1"]);
    assert_eq!(story["outcome"], "published");
    assert_eq!(story["base"]["version"], 0);
    assert_eq!(story["model"]["digest"], closed.published().digest);
    assert_eq!(story["merge"]["recipe"]["method"], "mean");
    for (number, name) in ["a", "b"].into_iter().enumerate() {
        let client = &story["clients"][number];
        assert_eq!(client["client"], name);
        assert_eq!(client["weight_share"], 0.5);
        assert!(client["update"].as_str().unwrap().starts_with("blake3:"));
    }
    let show = ["server", "rounds", "show", "1", "--dir", "server"];
    let told = federation.run(&show).well().stdout;
    for words in [
        "published model 1",
        "collected",
        "mean, weight examples",
        "of 2 clients",
    ] {
        assert!(told.contains(words), "{words:?} is missing:\n{told}");
    }
    let show = ["server", "rounds", "show", "2", "--dir", "server"];
    federation.run(&show).refused(64, &["round 2 is not over"]);
}

#[test]
fn the_status_of_a_server_that_does_not_run_is_what_the_ledger_says() {
    let mut federation = Federation::new(&Plan::of(2));
    let status = ["server", "status", "--dir", "server"];
    let ended = federation.run(&status).refused(69, &["no server runs"]);
    assert!(ended.stdout.is_empty(), "{ended}");

    federation.start_server();
    federation.enrol(&["quick", "slow"]);
    let gate = federation.gate("slow");
    let quick = federation.trainer("quick", &Values::base().plus(1.0), 1);
    federation.start_client("quick", &quick);
    federation.start_client("slow", &quick.behind(&gate));
    federation.client("quick").next_event("accepted");
    let told = federation.run(&status).well().stdout;
    assert!(
        told.contains("waiting for  1 of 2 updates, missing slow, until"),
        "{told}"
    );
    assert!(told.contains(" from now\n"), "{told}");

    federation.kill_server();
    let ended = federation.run(&status).refused(69, &["no server runs"]);
    for words in [
        "server       does not run",
        "then         round 1, collecting",
        "updates      1 of 2 invited",
        "missing slow",
    ] {
        assert!(
            ended.stdout.contains(words),
            "{words:?} is missing:\n{ended}"
        );
    }
}
