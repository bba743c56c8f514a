//! Merged models that the clients judge before they are published.

use std::fs;

use fedmerge_common::digest::Digest;
use fedmerge_proto::status::RefusalReason;

use crate::harness::federation::Federation;
use crate::harness::machine::wait_until;
use crate::harness::plan::Plan;
use crate::harness::raw_client::RawClient;
use crate::harness::trainer::Trainer;
use crate::harness::values::Values;

/// A command that says how good each version is, and writes the version down beside the client's directory.
fn evaluator(name: &str, accuracies: [f64; 3]) -> Trainer {
    let [first, second, third] = accuracies;
    Trainer::shell(format!(
        "version=$(sed -n 's/.*\"version\": \\([0-9]*\\).*/\\1/p' \"$FEDMERGE_CONFIG\"); \
         echo $version >> {name}.measured; \
         case $version in 0) accuracy={first};; 1) accuracy={second};; *) accuracy={third};; esac; \
         echo \"{{\\\"num_examples\\\":36,\\\"metrics\\\":{{\\\"accuracy\\\":$accuracy}}}}\""
    ))
}

fn measured(federation: &Federation, name: &str) -> String {
    fs::read_to_string(federation.path(&format!("{name}.measured"))).unwrap_or_default()
}

/// Starts a client that adds 1 in the first round and 2 in the second.
fn start(federation: &mut Federation, name: &str, evaluator: Option<&Trainer>) {
    for (round, step) in [(1, 1.0), (2, 3.0)] {
        let path = federation.path(&format!("tuned-{round}.safetensors"));
        Values::base().plus(step).write(&path);
    }
    let trainer = Trainer::shell("cp tuned-$FEDMERGE_ROUND.safetensors \"$FEDMERGE_OUT\"");
    match evaluator {
        Some(evaluator) => {
            let arguments = ["--evaluate", evaluator.command()];
            federation.start_client_with(name, &trainer, &arguments);
        }
        None => federation.start_client(name, &trainer),
    }
}

#[test]
fn one_lying_evaluator_in_five_neither_vetoes_a_good_model_nor_waves_a_bad_one_through() {
    let plan = Plan {
        rounds: 2,
        evaluate: "metric = \"accuracy\"\naccept = { min_gain = 0.1, rule = \"trimmed-mean\", tolerate = 1 }",
        ..Plan::of(5)
    };
    let mut federation = Federation::new(&plan);
    federation.start_server();
    let honest = ["a", "b", "c", "d"];
    federation.enrol(&[&honest[..], &["liar"]].concat());
    for name in honest {
        start(
            &mut federation,
            name,
            Some(&evaluator(name, [0.5, 0.75, 0.25])),
        );
    }
    let liar = evaluator("liar", [1.0, 0.0, 1e9]);
    start(&mut federation, "liar", Some(&liar));

    let closed = federation.next_round();
    assert_eq!(
        Values::read(&closed.published().path),
        Values::base().plus(1.0)
    );
    assert_eq!(closed.evaluation("a").gain, Some(0.25));
    assert_eq!(closed.evaluation("liar").gain, Some(-1.0));

    let closed = federation.next_round();
    assert_eq!(
        (closed.outcome.as_str(), &closed.model),
        ("abandoned", &None)
    );
    assert_eq!(
        closed.reason,
        "regression: the mean without the 1 lowest and 1 highest of the gains in accuracy of 5 clients is -0.5, \
         at least 0.1 is needed"
    );
    assert_eq!(closed.accepted, 5);
    assert_eq!(closed.evaluation("liar").gain, Some(1e9));
    for name in honest {
        let said = federation.client_end(name).well().stdout;
        assert_eq!(said.matches(r#""event":"evaluated""#).count(), 2, "{said}");
        // Each model once: what became the base was known.
        assert_eq!(measured(&federation, name), "0\n1\n2\n");
    }
    federation.server_end().well();
    assert!(federation.model(1).exists() && !federation.model(2).exists());
    let list = federation.run(&["server", "rounds", "list", "--dir", "server"]);
    let listed = list.well().stdout;
    assert!(listed.contains("abandoned: regression"), "{listed}");
    let show = federation.run(&["server", "rounds", "show", "2", "--dir", "server"]);
    let shown = show.well().stdout;
    assert!(shown.contains("gain -0.5 on 36 examples"), "{shown}");
}

#[test]
fn a_killed_server_remembers_who_evaluated_and_shows_the_candidate_to_nobody_else() {
    let plan = Plan {
        quorum: 2,
        grace: "30s",
        evaluate: "metric = \"accuracy\"",
        ..Plan::of(3)
    };
    let mut federation = Federation::new(&plan);
    federation.start_server();
    federation.enrol(&["quick", "slow", "unable", "eve"]);
    let mut gate = federation.gate("slow");
    let slow = evaluator("slow", [0.5, 0.75, 0.0]).behind(&gate);
    let quick = evaluator("quick", [0.5, 0.75, 0.0]);
    start(&mut federation, "quick", Some(&quick));
    start(&mut federation, "slow", Some(&slow));
    start(&mut federation, "unable", None);
    gate.wait_for_knock();
    wait_until(
        "the report of the quick one and the decline of another",
        || {
            let status = federation.run(&["server", "status", "--dir", "server"]);
            status.well().stdout.contains("2 of 3 evaluations")
        },
    );

    let candidate = federation.path("server/state/candidates/1/model.safetensors");
    let candidate = Digest::of_file(&candidate).unwrap();
    let eve = RawClient::with_certificate_of(&federation, "eve");
    let refusal = eve.download(&candidate).unwrap_err();
    assert_eq!(refusal.reason, RefusalReason::ModelUnknown);
    // It was not asked, nor is it an evaluator twice.
    eve.condemn(1).unwrap();
    let quick_again = RawClient::with_certificate_of(&federation, "quick");
    quick_again.condemn(1).unwrap();
    let refusal = quick_again.download(&candidate).unwrap_err();
    assert_eq!(refusal.reason, RefusalReason::ModelUnknown);

    federation.kill_server();
    federation.start_server();
    gate.open();
    gate.open();
    let closed = federation.next_round();
    let model = closed.published();
    assert_eq!(model.digest, candidate.to_string());
    assert_eq!(closed.evaluation("quick").gain, Some(0.25));
    assert_eq!(closed.evaluation("quick").num_examples, 36);
    let unable = closed.evaluation("unable");
    assert_eq!(unable.outcome, "declined");
    assert!(unable.reason.starts_with("no-evaluator"), "{unable:?}");
    for name in ["quick", "slow", "unable"] {
        federation.client_end(name).well();
    }
    assert_eq!(measured(&federation, "quick"), "0\n1\n");
}

#[test]
fn a_client_that_dies_while_it_evaluates_is_asked_again_when_it_is_back() {
    let plan = Plan {
        grace: "30s",
        evaluate: "metric = \"accuracy\"",
        ..Plan::of(2)
    };
    let mut federation = Federation::new(&plan);
    federation.start_server();
    federation.enrol(&["a", "fragile"]);
    let good = evaluator("a", [0.5, 0.75, 0.0]);
    start(&mut federation, "a", Some(&good));
    // Its first evaluator takes the client with it.
    let good = evaluator("fragile", [0.5, 0.75, 0.0]);
    let deadly = Trainer::shell(format!(
        "[ -e fragile.died ] || {{ : > fragile.died; kill -9 $PPID; exit 1; }}; {}",
        good.command()
    ));
    start(&mut federation, "fragile", Some(&deadly));
    let died = federation.client_end("fragile");
    assert!(died.stdout.contains(r#""event":"accepted""#), "{died}");
    start(&mut federation, "fragile", Some(&deadly));

    let closed = federation.next_round();
    assert_eq!(
        Values::read(&closed.published().path),
        Values::base().plus(1.0)
    );
    assert_eq!(closed.evaluation("fragile").gain, Some(0.25));
    assert_eq!(measured(&federation, "fragile"), "0\n1\n");
    federation.client_end("fragile").well();
}
