//! Full disks: at a client it costs a round, at the server it costs time until there is room.

use crate::harness::federation::Federation;
use crate::harness::machine::SmallDisk;
use crate::harness::plan::Plan;
use crate::harness::trainer::Trainer;
use crate::harness::values::Values;

/// A model of 2 MiB, more than the small disk holds.
fn large() -> Values {
    Values {
        w: vec![1.0; 1 << 19],
        b: vec![0.5; 2],
    }
}

#[test]
fn a_client_without_room_for_the_base_declines_and_the_others_go_on() {
    let plan = Plan {
        quorum: 1,
        ..Plan::of(2)
    };
    let mut federation = Federation::from_base(&plan, |path| large().write(path));
    let Some(_disk) = SmallDisk::mount(&federation.path("cramped"), 1) else {
        return;
    };
    federation.start_server();
    federation.enrol(&["cramped", "roomy"]);
    for name in ["cramped", "roomy"] {
        let trainer = federation.trainer(name, &large().plus(1.0), 1);
        federation.start_client(name, &trainer);
    }
    let closed = federation.next_round();
    closed.expect(
        "cramped",
        "declined",
        &["storage", "No space left on device"],
    );
    closed.expect("roomy", "accepted", &[]);
    assert!(Values::read(&closed.published().path) == large().plus(1.0));
}

#[test]
fn a_client_whose_disk_fills_up_while_it_trains_costs_one_round_and_goes_on() {
    let plan = Plan {
        rounds: 2,
        quorum: 1,
        ..Plan::of(2)
    };
    let mut federation = Federation::new(&plan);
    let Some(_disk) = SmallDisk::mount(&federation.path("a"), 1) else {
        return;
    };
    federation.start_server();
    federation.enrol(&["a", "b"]);
    let base = Values::base();
    let honest = federation.trainer("a", &base.plus(1.0), 1);
    let greedy = "if [ $FEDMERGE_ROUND = 1 ]; then cat /dev/zero > a/filler || true; fi";
    let trainer = Trainer::shell(format!("{} && {greedy}", honest.command()));
    federation.start_client("a", &trainer);
    let mut gate = federation.gate("b");
    let trainer = federation.trainer("b", &base.plus(3.0), 1).behind(&gate);
    federation.start_client("b", &trainer);

    let client = federation.client("a");
    client.wait_for_stderr("the journal cannot be written");
    client.next_event("declined");
    std::fs::remove_file(federation.path("a/filler")).unwrap();
    gate.open();
    gate.open();
    let first = federation.next_round();
    first.expect("a", "declined", &["storage", "No space left on device"]);
    federation.next_round().expect("a", "accepted", &[]);
    federation.client_end("a").well();
    let journal = federation.path("a/journal.json");
    assert!(!journal.exists() && !journal.with_added_extension("part").exists());
}

#[test]
fn a_server_without_room_keeps_its_clients_waiting_until_there_is() {
    let mut federation = Federation::from_base(&Plan::of(1), |path| large().write(path));
    let Some(disk) = SmallDisk::mount(&federation.path("server/state/staging"), 1) else {
        return;
    };
    federation.start_server();
    federation.enrol(&["a"]);
    let trainer = federation.trainer("a", &large().plus(1.0), 1);
    federation.start_client("a", &trainer);
    federation.client("a").wait_for_stderr("storage-full");
    disk.grow(16);
    let closed = federation.next_round();
    assert!(Values::read(&closed.published().path) == large().plus(1.0));
    federation.client_end("a").well();
}

#[test]
fn a_server_whose_disk_is_full_in_the_middle_of_a_round_loses_nothing_and_goes_on_when_there_is_room()
 {
    let mut federation = Federation::from_base(&Plan::of(2), |path| large().write(path));
    // Everything that a round leaves: ledger, uploads, updates, candidates.
    let Some(disk) = SmallDisk::mount(&federation.path("server/state"), 3) else {
        return;
    };
    federation.start_server();
    federation.enrol(&["first", "second"]);
    let mut gate = federation.gate("second");
    let first = federation.trainer("first", &large().plus(1.0), 1);
    let second = federation.trainer("second", &large().plus(3.0), 1);
    federation.start_client("first", &first);
    federation.start_client("second", &second.behind(&gate));
    federation.client("first").next_event("accepted");
    gate.open();
    // One update is there, and another does not fit beside it.
    federation.client("second").wait_for_stderr("storage-full");
    disk.grow(5);
    federation.client("second").next_event("accepted");
    // Both are there, and a model does not fit beside them.
    federation.server().wait_for_stderr("the disk is full");
    disk.grow(16);
    let closed = federation.next_round();
    assert_eq!(closed.accepted, 2, "{closed:#?}");
    assert!(Values::read(&closed.published().path) == large().plus(2.0));
    federation.client_end("first").well();
    federation.client_end("second").well();
    federation.server_end().well();
}
