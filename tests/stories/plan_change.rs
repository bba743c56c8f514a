//! A plan that was changed while the server was down: when it takes effect, what is said, and what a federation keeps for life.

use serde_json::json;

use crate::harness::federation::{Federation, SERVER_RUN};
use crate::harness::plan::Plan;
use crate::harness::trainer::{Gate, Trainer};
use crate::harness::values::Values;

/// Clients that hand in the base plus 1, 2 and 6: their mean is plus 3, their median plus 2.
const CLIENTS: [(&str, f32); 3] = [("a", 1.0), ("b", 2.0), ("c", 6.0)];

fn plan(rounds: u64, merge: &'static str) -> Plan {
    Plan {
        rounds,
        merge,
        ..Plan::of(3)
    }
}

fn start_clients(federation: &mut Federation, last: impl FnOnce(&Trainer) -> Trainer) {
    let trainers =
        CLIENTS.map(|(name, plus)| federation.trainer(name, &Values::base().plus(plus), 1));
    let [a, b, c] = trainers;
    let c = last(&c);
    for ((name, _), trainer) in CLIENTS.into_iter().zip([a, b, c]) {
        federation.start_client(name, &trainer);
    }
}

#[test]
fn a_changed_plan_is_told_and_holds_from_the_next_round_on() {
    let mut federation = Federation::new(&plan(2, "method = \"mean\""));
    federation.start_server();
    federation.enrol(&["a", "b", "c"]);
    let mut gate: Gate = federation.gate("c");
    start_clients(&mut federation, |trainer| trainer.behind(&gate));
    gate.wait_for_knock();
    federation.client("a").next_event("accepted");
    federation.client("b").next_event("accepted");
    federation.kill_server();

    // Other encodings too: what the open round has been promised is not taken back.
    let changed = Plan {
        update: "encodings = [\"bf16\"]",
        ..plan(2, "method = \"median\"")
    };
    federation.install(&changed.to_string());
    federation.start_server();
    let told = federation.server().next_event("plan-changed");
    assert_eq!(told["first_round"], 2);
    assert_eq!(told["keys"], json!(["merge.method", "update.encodings"]));
    gate.open();
    gate.open();
    let first = federation.next_round();
    assert_eq!(first.accepted, 3, "{first:#?}");
    assert_eq!(
        Values::read(&first.published().path),
        Values::base().plus(3.0)
    );
    let second = federation.next_round();
    assert_eq!(second.accepted, 3, "{second:#?}");
    assert_eq!(
        Values::read(&second.published().path),
        Values::base().plus(2.0)
    );
    federation.server_end().well();
}

#[test]
fn a_federation_goes_on_where_its_plan_has_more_rounds_and_says_so() {
    let mut federation = Federation::new(&plan(1, "method = \"mean\""));
    federation.start_server();
    federation.enrol(&["a", "b", "c"]);
    start_clients(&mut federation, Trainer::clone);
    assert_eq!(federation.next_round().round, 1);
    federation.server_end().well();

    federation.install(&plan(2, "method = \"mean\"").to_string());
    federation.start_server();
    let told = federation.server().next_event("plan-changed");
    assert_eq!(told["keys"], json!(["round.count"]));
    federation.server().next_event("reopened");
    start_clients(&mut federation, Trainer::clone);
    assert_eq!(federation.next_round().round, 2);
    federation.server_end().well();
}

#[test]
fn another_base_or_name_is_refused_and_the_same_base_elsewhere_is_not() {
    let mut federation = Federation::new(&Plan::of(2));
    federation.start_server();
    federation.stop_server().well();
    let plan = Plan::of(2).to_string();

    Values::base()
        .plus(1.0)
        .write(&federation.path("other.safetensors"));
    federation.install(&plan.replace("base.safetensors", "other.safetensors"));
    let words = [
        "other.safetensors",
        "began with",
        "base.safetensors",
        "keeps its base",
    ];
    federation.run(&SERVER_RUN).refused(78, &words);
    federation.install(&plan.replace("\"story\"", "\"history\""));
    federation
        .run(&SERVER_RUN)
        .refused(78, &["history", "story", "a name is for life"]);

    std::fs::rename(
        federation.path("base.safetensors"),
        federation.path("moved.safetensors"),
    )
    .unwrap();
    federation.install(&plan.replace("base.safetensors", "moved.safetensors"));
    federation.start_server();
    federation.stop_server().well();
}
