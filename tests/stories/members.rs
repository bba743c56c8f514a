//! Clients that wait for a person, renew by themselves, are copied, come back late, and are evicted.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use fedmerge_common::clock::OFFSET_VARIABLE;

use crate::harness::command::run;
use crate::harness::federation::Federation;
use crate::harness::plan::Plan;
use crate::harness::trainer::Gate;
use crate::harness::values::Values;

/// Seconds of a day.
const DAY: i64 = 86_400;
/// Before this an evicted client has ended because it was cut off, and not because a silent link was noticed: that takes 20 s.
const CUT_OFF: Duration = Duration::from_secs(10);

fn shifted(command: &mut Command, seconds: i64) -> &mut Command {
    command.env(OFFSET_VARIABLE, seconds.to_string())
}

/// A federation whose server runs with these settings.
fn served(plan: &Plan, settings: &str) -> Federation {
    let mut federation = Federation::new(plan);
    fs::write(federation.path("server/server.toml"), settings).unwrap();
    federation.start_server();
    federation
}

fn clients(federation: &Federation, deed: &[&str]) -> String {
    let command = [&["server", "clients"], deed, &["--dir", "server"]].concat();
    federation.run(&command).well().stdout.clone()
}

#[test]
fn a_machine_takes_part_once_a_person_has_approved_it() {
    let mut federation = Federation::new(&Plan::of(1));
    federation.start_server();
    let token = federation.token_with(&["--require-approval"]);
    let mut enrol = federation.enrol_command("a", &token);
    let ended = run(enrol.args(["--wait", "0s"]));
    ended.refused(75, &["approval-pending", "clients approve a", "--wait"]);
    assert!(clients(&federation, &["list"]).contains("waiting"));
    // One that is patient needs no second command.
    let mut patient = federation.enrol_command("a", &token);
    let patient = std::thread::spawn(move || run(&mut patient));
    assert!(clients(&federation, &["approve", "a"]).contains("takes part from now on"));
    patient.join().unwrap().well();
    let trainer = federation.trainer("a", &Values::base().plus(1.0), 1);
    federation.start_client("a", &trainer);
    federation.next_round().expect("a", "accepted", &[]);
    federation.client_end("a").well();
    assert!(clients(&federation, &["show", "a"]).contains("takes part"));
    let unknown = federation.run(&["server", "clients", "approve", "b", "--dir", "server"]);
    unknown.refused(64, &["no client `b`", "clients list"]);
}

#[test]
fn an_evicted_client_is_cut_off_at_once_and_the_round_goes_on_without_it() {
    let plan = Plan {
        rounds: 2,
        quorum: 1,
        deadline: "10m",
        ..Plan::of(3)
    };
    let mut federation = Federation::new(&plan);
    federation.start_server();
    federation.enrol(&["sent", "works", "stays"]);
    let base = Values::base();
    let mut gates = ["works", "stays"].map(|name| federation.gate(name));
    let trainer = federation.trainer("sent", &base.plus(8.0), 10);
    federation.start_client("sent", &trainer);
    for (name, gate) in ["works", "stays"].iter().zip(&gates) {
        let trainer = federation.trainer(name, &base.plus(1.0), 10);
        federation.start_client(name, &trainer.behind(gate));
    }
    federation.client("sent").next_event("accepted");
    gates.iter().for_each(Gate::wait_for_knock);

    for name in ["sent", "works"] {
        clients(
            &federation,
            &["evict", name, "--reason", "the machine was lost"],
        );
        let begun = Instant::now();
        let ended = federation.client_end(name);
        assert!(begun.elapsed() < CUT_OFF, "{:?}", begun.elapsed());
        ended.refused(77, &["client-evicted", "the machine was lost"]);
    }
    gates[1].open();
    let closed = federation.next_round();
    closed.expect("works", "declined", &["evicted", "the machine was lost"]);
    closed.expect("stays", "accepted", &[]);
    // What the other had sent was accepted, and does not come to the merge.
    assert_eq!(Values::read(&closed.published().path), base.plus(1.0));

    let works = federation.trainer("works", &base, 1);
    federation.start_client("works", &works);
    federation
        .client_end("works")
        .refused(77, &["client-evicted"]);
    let list = clients(&federation, &["list"]);
    assert!(list.contains("stays") && !list.contains("works"), "{list}");
    // The name is free for another machine, and its old key is not.
    let token = federation.token();
    fs::rename(federation.path("works"), federation.path("old")).unwrap();
    run(&mut federation.enrol_command("works", &token)).well();
    gates[1].open();
    federation.next_round().expect("stays", "accepted", &[]);
    federation.client_end("stays").well();
}

#[test]
fn a_client_renews_by_itself_and_a_copy_of_it_locks_it_until_a_person_has_looked() {
    let plan = Plan {
        quorum: 1,
        deadline: "10m",
        ..Plan::of(1)
    };
    let mut federation = served(&plan, "[enrolment]\ncertificate_life = \"4s\"\n");
    federation.enrol(&["a"]);
    let copied = Command::new("cp")
        .args(["-r", "a", "copy"])
        .current_dir(federation.path("."))
        .status();
    assert!(copied.unwrap().success());
    let mut gate = federation.gate("a");
    let trainer = federation.trainer("a", &Values::base().plus(1.0), 1);
    federation.start_client("a", &trainer.behind(&gate));
    gate.wait_for_knock();
    // Many times its first certificate's life, and it still takes part.
    for _ in 0..3 {
        federation.client("a").next_event("certificate-renewed");
    }
    let copy = federation.trainer("copy", &Values::base().plus(8.0), 1);
    federation.start_client("copy", &copy);
    federation
        .client_end("copy")
        .refused(77, &["client-locked", "clients approve"]);
    federation
        .client_end("a")
        .refused(77, &["client-locked", "clients approve"]);
    assert!(clients(&federation, &["list"]).contains("locked"));

    clients(&federation, &["approve", "a"]);
    federation.start_client("a", &trainer.behind(&gate));
    gate.open();
    let closed = federation.next_round();
    closed.expect("a", "accepted", &[]);
    federation.client_end("a").well();
}

#[test]
fn a_client_that_was_away_comes_back_within_the_absence_that_is_allowed() {
    let plan = Plan {
        rounds: 3,
        ..Plan::of(1)
    };
    let mut federation = Federation::new(&plan);
    federation.start_server();
    federation.enrol(&["a", "b"]);
    let trainer = federation.trainer("a", &Values::base().plus(1.0), 1);
    // A certificate lives a day, and may be renewed for thirty more.
    for days in [0, 20, 40] {
        if days == 40 {
            federation.start_client_as("b", &trainer, |command| shifted(command, days * DAY));
            let ended = federation.client_end("b");
            ended.refused(77, &["certificate-expired", "enrol again"]);
        }
        federation.start_client_as("a", &trainer, |command| {
            shifted(command, days * DAY).arg("--once")
        });
        federation.next_round().expect("a", "accepted", &[]);
        federation.client_end("a").well();
        if days < 40 {
            federation.stop_server().well();
            federation.start_server_with(|command| shifted(command, (days + 20) * DAY));
        }
    }
    federation.server_end().well();
}

#[test]
fn a_client_that_is_evicted_while_the_server_is_down_does_not_get_in_again() {
    let mut federation = Federation::new(&Plan::of(1));
    federation.start_server();
    federation.enrol(&["a"]);
    federation.stop_server().well();
    clients(&federation, &["evict", "a"]);
    federation.start_server();
    let trainer = federation.trainer("a", &Values::base(), 1);
    federation.start_client("a", &trainer);
    federation
        .client_end("a")
        .refused(77, &["client-evicted", "no reason was given"]);
}

#[test]
fn a_rotated_authority_serves_those_who_know_the_old_one_until_they_have_learnt_of_it() {
    let plan = Plan {
        rounds: 2,
        deadline: "10m",
        ..Plan::of(1)
    };
    let mut federation = served(&plan, "[enrolment]\ncertificate_life = \"20s\"\n");
    federation.enrol(&["a"]);
    let join_string = federation.token();
    let authority = |file: &str| fs::read_to_string(federation.path(file)).unwrap();
    let old = authority("server/identity/ca.pem");
    let key = authority("server/identity/ca.key");
    let rotated = federation.run(&["server", "access", "rotate", "--dir", "server"]);
    rotated.well();
    let new = authority("server/identity/ca.pem");
    assert_ne!(new, old);
    assert_eq!(authority("server/identity/old-ca.pem"), old);
    for entry in fs::read_dir(federation.path("server/identity")).unwrap() {
        let content = fs::read_to_string(entry.unwrap().path()).unwrap();
        assert_ne!(content, key, "the old authority's key is still there");
    }
    let again = federation.run(&["server", "access", "rotate", "--dir", "server"]);
    again.refused(75, &["rotated before", "rotate again after that"]);

    // The client knows the old authority; the server takes the new one up while it serves, and the client then learns of it.
    let mut gate = federation.gate("a");
    let trainer = federation.trainer("a", &Values::base().plus(1.0), 1);
    federation.start_client("a", &trainer.behind(&gate));
    gate.wait_for_knock();
    let known = federation.path("a/identity/ca.pem");
    let before = fs::read_to_string(&known).unwrap();
    while fs::read_to_string(&known).unwrap() == before {
        federation.client("a").next_event("certificate-renewed");
    }
    gate.open();
    federation.next_round().expect("a", "accepted", &[]);
    // A join string of before the rotation is still good, and an administrator comes in.
    run(&mut federation.enrol_command("b", &join_string)).well();
    federation
        .run(&["server", "status", "--dir", "server"])
        .well();
    gate.open();
    federation.next_round().expect("a", "accepted", &[]);
    federation.client_end("a").well();
}

#[test]
fn a_plan_is_for_the_clients_whose_labels_it_names() {
    let plan = Plan::of(1);
    let mut federation = Federation::new(&plan);
    let cohort = "target = 1, labels = { site = \"ward-*\" }";
    federation.install(&plan.to_string().replace("target = 1", cohort));
    federation.start_server();
    for (name, label) in [("a", "site=ward-3"), ("b", "site=lab")] {
        let token = federation.token_with(&["--label", label]);
        run(&mut federation.enrol_command(name, &token)).well();
    }
    let trainer = federation.trainer("a", &Values::base().plus(1.0), 1);
    federation.start_client("b", &trainer);
    let ended = federation.client_end("b");
    ended.refused(
        77,
        &["not-selected", "`site=ward-*`", "`site=lab`", "--label"],
    );
    federation.start_client("a", &trainer);
    federation.next_round().expect("a", "accepted", &[]);
    federation.client_end("a").well();
    let wrong = [
        "server",
        "token",
        "create",
        "--dir",
        "server",
        "--label",
        "ort=Zürich Nord",
    ];
    let refused = federation.run(&wrong);
    assert!(refused.stderr.contains("`ort=Zürich Nord`"), "{refused}");
}

#[test]
fn a_client_whose_updates_are_rejected_round_after_round_is_in_quarantine_until_a_person_has_looked()
 {
    let plan = Plan {
        rounds: 3,
        quorum: 1,
        deadline: "10m",
        ..Plan::of(2)
    };
    let mut federation = served(&plan, "[limits]\nrejections = 2\n");
    federation.enrol(&["good", "broken"]);
    let base = Values::base();
    let nan = Values {
        b: vec![f32::NAN; base.b.len()],
        ..base.clone()
    };
    let mut gate = federation.gate("good");
    let good = federation.trainer("good", &base.plus(1.0), 1);
    federation.start_client("good", &good.behind(&gate));
    let broken = federation.trainer("broken", &nan, 1);
    federation.start_client("broken", &broken);
    for _ in 1..=2 {
        federation.client("broken").next_event("rejected");
        gate.open();
        let closed = federation.next_round();
        closed.expect("broken", "rejected", &["non-finite"]);
        closed.expect("good", "accepted", &[]);
    }
    let ended = federation.client_end("broken");
    ended.refused(
        77,
        &[
            "client-quarantined",
            "in 2 rounds in a row",
            "clients approve",
        ],
    );
    assert!(clients(&federation, &["list"]).contains("quarantined"));
    clients(&federation, &["approve", "broken"]);
    let mended = federation.trainer("broken", &base.plus(3.0), 1);
    federation.start_client("broken", &mended);
    federation.client("broken").next_event("accepted");
    gate.open();
    let closed = federation.next_round();
    closed.expect("broken", "accepted", &[]);
    for name in ["good", "broken"] {
        federation.client_end(name).well();
    }
}
