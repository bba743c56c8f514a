//! A federation without barriers: a slow client's update counts, however many rounds passed meanwhile.

use crate::harness::federation::Federation;
use crate::harness::plan::Plan;
use crate::harness::values::Values;

#[test]
fn in_a_buffered_federation_a_slow_client_goes_on_with_its_task_and_counts_discounted_after_a_crash_too()
 {
    let mut federation = Federation::new(&Plan {
        rounds: 4,
        round: "mode = \"buffered\"",
        merge: "method = \"mean\"\nweight = \"uniform\"",
        ..Plan::of(3)
    });
    federation.start_server();
    federation.enrol(&["slow", "a", "b", "held"]);
    let base = Values::base();
    let [mut slow_gate, mut gate] = ["slow", "held"].map(|name| federation.gate(name));
    let slow = federation.trainer("slow", &base.plus(6.0), 10);
    federation.start_client("slow", &slow.behind(&slow_gate));
    let quick = federation.trainer("quick", &base.plus(1.0), 10);
    for name in ["a", "b"] {
        federation.start_client(name, &quick);
    }
    federation.start_client("held", &quick.behind(&gate));
    slow_gate.wait_for_knock();
    for round in 1..=3 {
        gate.open();
        let closed = federation.next_round();
        assert_eq!((closed.round, closed.accepted), (round, 3), "{closed:#?}");
        assert_eq!(closed.client("slow").outcome, "carried-over");
        assert_eq!(Values::read(&closed.published().path), base.plus(1.0));
    }
    federation.kill_server();
    federation.start_server();
    slow_gate.open();
    let closed = federation.next_round();
    // Its task vector is 6, three versions old: 6/√4 = 3. The others' are 0 by now: (3 + 0 + 0)/3.
    assert_eq!(Values::read(&closed.published().path), base.plus(2.0));
    closed.expect("slow", "accepted", &[]);
    let manifest = federation.model(4).with_file_name("fedmerge.json");
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(manifest).unwrap()).unwrap();
    let updates = manifest["merge"]["updates"].as_array().unwrap();
    let late = updates.iter().find(|update| update["client"] == "slow");
    assert_eq!(late.unwrap()["staleness"], 3);
    assert_eq!(late.unwrap()["task_round"], 1);
    federation.server_end().well();
    let show = ["server", "rounds", "show", "4", "--dir", "server"];
    let told = federation.run(&show).well().stdout;
    let late = "  slow accepted: for its task of round 1, staleness 3\n";
    assert!(told.contains(late), "{told}");
}
