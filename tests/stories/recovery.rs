//! Crashes and absences: nothing acknowledged is lost, and who waits says for what.

use crate::harness::events::Model;
use crate::harness::federation::Federation;
use crate::harness::plan::Plan;
use crate::harness::process::Process;
use crate::harness::trainer::Trainer;
use crate::harness::values::Values;

/// What happens to the server while one client's update counts and another client trains.
#[derive(Clone, Copy, PartialEq)]
enum Accident {
    None,
    Killed,
}

fn last_model(accident: Accident) -> Model {
    let plan = Plan {
        rounds: 2,
        ..Plan::of(2)
    };
    let mut federation = Federation::new(&plan);
    federation.start_server();
    federation.enrol(&["quick", "slow"]);
    let base = Values::base();
    let quick = federation.trainer("quick", &base.plus(1.0), 10);
    let mut gate = federation.gate("slow");
    let slow = federation
        .trainer("slow", &base.plus(2.0), 30)
        .behind(&gate);
    federation.start_client("quick", &quick);
    federation.start_client("slow", &slow);
    gate.wait_for_knock();
    federation.client("quick").next_event("accepted");
    if accident == Accident::Killed {
        federation.kill_server();
        federation.start_server();
    }
    gate.open();
    gate.open();
    let first = federation.next_round();
    assert_eq!(Values::read(&first.published().path), base.plus(1.75));
    assert_eq!((first.round, first.accepted), (1, 2), "{first:#?}");
    let second = federation.next_round();
    federation.client_end("quick").well();
    federation.client_end("slow").well();
    federation.server_end().well();
    let model = second.published().clone();
    assert_eq!(Values::read(&model.path), base.plus(1.75));
    model
}

#[test]
fn a_round_outlives_a_killed_server_and_ends_in_the_same_bytes() {
    let (disturbed, undisturbed) = (last_model(Accident::Killed), last_model(Accident::None));
    assert_eq!(disturbed.digest, undisturbed.digest);
}

#[test]
fn a_client_waits_for_a_server_that_is_not_there_yet_and_goes_on() {
    let mut federation = Federation::new(&Plan::of(1));
    federation.start_server();
    let token = federation.token();
    federation.kill_server();

    let enrol = Process::start("enrol", &mut federation.enrol_command("a", &token));
    let line = enrol.wait_for_stderr("is not reachable");
    assert!(
        line.contains("connection refused") && line.contains("trying again in"),
        "{line}"
    );
    federation.start_server();
    let ended = enrol.end().well();
    assert!(ended.stderr.contains("connected to"), "{ended}");
    federation.kill_server();

    let trainer = federation.trainer("a", &Values::base().plus(1.0), 1);
    federation.start_client("a", &trainer);
    federation.client("a").wait_for_stderr("is not reachable");
    federation.start_server();
    assert_eq!(federation.next_round().accepted, 1);
    federation.client_end("a").well();
}

#[test]
fn a_second_process_with_a_clients_identity_is_turned_away() {
    let mut federation = Federation::new(&Plan::of(2));
    federation.start_server();
    federation.enrol(&["a"]);
    let trainer = federation.trainer("a", &Values::base().plus(1.0), 1);
    federation.start_client("a", &trainer);
    federation.client("a").next_event("waiting");

    let in_the_same_directory = federation.run(&["client", "run", "--dir", "a", "--train", "true"]);
    let ended = in_the_same_directory.with_code(75);
    assert!(
        ended.stderr.contains("another fedmerge process (pid "),
        "{ended}"
    );
    assert!(ended.stderr.contains("hint: "), "{ended}");

    copy_enrolment(&federation, "a", "copy");
    let trainer = Trainer::shell("true");
    federation.start_client_with("copy", &trainer, &["--identity-wait", "1s"]);
    let ended = federation.client_end("copy").with_code(77);
    assert!(ended.stderr.contains("identity-in-use"), "{ended}");
    assert!(
        ended.stderr.contains("hint: another process uses a copy"),
        "{ended}"
    );

    // The first one was not disturbed.
    federation.enrol(&["b"]);
    let trainer = federation.trainer("b", &Values::base().plus(2.0), 1);
    federation.start_client("b", &trainer);
    assert_eq!(federation.next_round().accepted, 2);
}

/// Copies what enrolment wrote, as someone would who sets up a second machine the quick way.
fn copy_enrolment(federation: &Federation, from: &str, to: &str) {
    std::fs::create_dir_all(federation.path(&format!("{to}/identity"))).unwrap();
    for file in [
        "client.toml",
        "identity/client.key",
        "identity/client.pem",
        "identity/ca.pem",
    ] {
        let (from, to) = (format!("{from}/{file}"), format!("{to}/{file}"));
        std::fs::copy(federation.path(&from), federation.path(&to)).unwrap();
    }
}
