//! Federations in which all goes well: the published values are known by hand.

use serde_json::Value;

use crate::harness::federation::Federation;
use crate::harness::plan::Plan;
use crate::harness::values::Values;

#[test]
fn three_clients_publish_the_mean_of_their_updates_weighted_by_examples() {
    let plan = Plan {
        rounds: 2,
        ..Plan::of(3)
    };
    let mut federation = Federation::new(&plan);
    federation.start_server();
    federation.enrol(&["a", "b", "c"]);
    let base = Values::base();
    for (name, step, examples) in [("a", 1.0, 10), ("b", 2.0, 20), ("c", 4.0, 10)] {
        let trainer = federation.trainer(name, &base.plus(step), examples);
        federation.start_client(name, &trainer);
    }

    // (10 × 1 + 20 × 2 + 10 × 4) / 40; in the second round the clients hand in the same, and so the mean stays.
    let expected = base.plus(2.25);
    for round in 1..=2 {
        let closed = federation.next_round();
        let model = closed.published();
        assert_eq!((closed.round, model.version), (round, round));
        assert_eq!((closed.accepted, closed.rejected), (3, 0));
        assert_eq!((closed.declined, closed.silent), (0, 0));
        assert!(closed.merge_ms <= closed.wall_ms, "{closed:?}");
        assert_eq!(closed.client("b").num_examples, 20);
        assert_eq!(model.path, federation.model(round).canonicalize().unwrap());
        assert_eq!(Values::read(&model.path), expected);
    }
    let ended = federation.server().next_event("ended");
    assert!(!ended["reason"].as_str().unwrap().is_empty(), "{ended}");
    for name in ["a", "b", "c"] {
        let said = federation.client_end(name).well().stdout;
        assert_eq!(said.matches(r#""event":"accepted""#).count(), 2, "{said}");
        assert_eq!(said.matches(r#""event":"ended""#).count(), 1, "{said}");
    }
    federation.server_end().well();
    what_is_left_is_whole(&federation);
}

/// The files of a federation that is over, and what the commands say about them while no server runs.
fn what_is_left_is_whole(federation: &Federation) {
    for file in [
        "server/state/ledger.sqlite",
        "server/models/1/fedmerge.json",
        "server/models/2/model.safetensors",
        "server/log",
    ] {
        assert!(federation.path(file).exists(), "{file} is missing");
    }
    let manifest =
        std::fs::read_to_string(federation.path("server/models/2/fedmerge.json")).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["version"], 2, "{manifest:#}");
    for name in ["\"a\"", "\"b\"", "\"c\""] {
        assert!(manifest.to_string().contains(name), "{manifest:#}");
    }
    for (words, expected) in [
        (&["clients", "list"][..], "a"),
        (&["rounds", "list"][..], "published"),
        (&["models", "list"][..], "blake3:"),
    ] {
        let command = [&["server"], words, &["--dir", "server"]].concat();
        let listed = federation.run(&command).well().stdout;
        assert!(listed.contains(expected), "{command:?} printed:\n{listed}");
    }
    federation
        .run(&["server", "status", "--dir", "server"])
        .refused(69, &["no server runs"]);
}

#[test]
fn a_liar_does_not_move_a_trimmed_mean_beyond_the_honest() {
    let plan = Plan {
        merge: "method = \"trimmed-mean\"\ntolerate = 1",
        ..Plan::of(4)
    };
    let mut federation = Federation::new(&plan);
    federation.start_server();
    federation.enrol(&["a", "b", "c", "liar"]);
    let base = Values::base();
    for (name, step) in [("a", 1.0), ("b", 2.0), ("c", 4.0), ("liar", -1000.0)] {
        let trainer = federation.trainer(name, &base.plus(step), 10);
        federation.start_client(name, &trainer);
    }
    let closed = federation.next_round();
    // The lowest and the highest of -1000, 1, 2 and 4 are left out.
    assert_eq!(Values::read(&closed.published().path), base.plus(1.5));
    assert_eq!(closed.accepted, 4);
}

#[test]
fn a_server_that_is_asked_to_stop_leaves_well_and_its_clients_wait_for_the_next() {
    let mut federation = Federation::new(&Plan::of(2));
    federation.start_server();
    federation.enrol(&["a", "b"]);
    let base = Values::base();
    let trainer = federation.trainer("a", &base.plus(1.0), 1);
    federation.start_client("a", &trainer);
    federation.client("a").next_event("waiting");
    federation.stop_server().well();
    federation.client("a").wait_for_stderr("not reachable");

    federation.start_server();
    let trainer = federation.trainer("b", &base.plus(2.0), 1);
    federation.start_client("b", &trainer);
    assert_eq!(
        Values::read(&federation.next_round().published().path),
        base.plus(1.5)
    );
    federation.client_end("a").well();
}
