//! What becomes of models: which stay, which are best, how an older one becomes the base again, and who believes it.

use std::fs;

use fedmerge_common::digest::Digest;
use serde_json::{Value, json};

use crate::harness::federation::Federation;
use crate::harness::plan::Plan;
use crate::harness::trainer::Trainer;
use crate::harness::values::Values;

/// A trainer that adds the number of the round to the first base.
fn by_round(federation: &Federation, rounds: u16) -> Trainer {
    for round in 1..=rounds {
        let path = federation.path(&format!("tuned-{round}.safetensors"));
        Values::base().plus(f32::from(round)).write(&path);
    }
    Trainer::shell("cp tuned-$FEDMERGE_ROUND.safetensors \"$FEDMERGE_OUT\"")
}

fn models(federation: &Federation) -> Vec<Value> {
    let list = [
        "server", "models", "list", "--dir", "server", "--format", "json",
    ];
    let told = federation.run(&list).well().stdout;
    told.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn roll_back(arguments: &[&str]) -> Vec<String> {
    let command = ["server", "models", "rollback", "--dir", "server"];
    let all = command.iter().chain(arguments);
    all.map(|word| (*word).to_owned()).collect()
}

#[test]
fn an_older_model_becomes_the_base_again_and_every_client_goes_on_from_it() {
    let mut federation = Federation::new(&Plan {
        rounds: 4,
        ..Plan::of(2)
    });
    federation.start_server();
    federation.enrol(&["a", "b"]);
    let trainer = by_round(&federation, 4);
    let mut gate = federation.gate("b");
    federation.start_client("a", &trainer);
    federation.start_client("b", &trainer.behind(&gate));
    gate.wait_for_knock();
    gate.open();
    federation.next_round();
    gate.wait_for_knock();

    let command = roll_back(&["0", "--reason", "round 1 was\na mistake"]);
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let told = federation.run(&command).well().stdout;
    assert!(told.starts_with("model 2 is model 0 again"), "{told}");
    let closed = federation.next_round();
    assert_eq!(
        (closed.outcome.as_str(), closed.reason.as_str()),
        ("abandoned", "rolled back to model 0")
    );
    let told = federation.server().next_event("rolled-back");
    assert_eq!(told["reason"], "round 1 was a mistake");
    let base = Digest::of_file(&federation.model(0)).unwrap().to_string();
    for name in ["a", "b"] {
        let told = federation.client(name).next_event("rolled-back");
        assert_eq!((&told["base"], &told["of"]), (&json!(2), &json!(0)));
    }
    assert_eq!(
        Digest::of_file(&federation.model(2)).unwrap().to_string(),
        base
    );

    // Its process forgets nothing of that.
    gate.wait_for_knock();
    federation.kill_server();
    federation.start_server();
    gate.open();
    assert_eq!(federation.next_round().published().version, 3);
    gate.wait_for_knock();
    gate.open();
    assert_eq!(federation.next_round().published().version, 4);
    federation.server_end().well();

    let listed = models(&federation);
    assert_eq!(listed.len(), 5);
    assert_eq!(listed[2]["rollback_of"], 0);
    assert_eq!(listed[2]["rollback_reason"], "round 1 was a mistake");
    assert_eq!(listed[4]["is_last"], true);
    let show = ["server", "models", "show", "2", "--dir", "server"];
    let told = federation.run(&show).well().stdout;
    assert!(
        told.contains("model 0 again") && told.contains("round 1 was a mistake"),
        "{told}"
    );
    let late = roll_back(&["1"]);
    let late: Vec<&str> = late.iter().map(String::as_str).collect();
    federation.run(&late).refused(69, &["no server runs"]);
}

#[test]
fn clients_do_not_follow_a_server_that_lost_its_memory_until_the_authority_signs_it() {
    let mut federation = Federation::new(&Plan {
        rounds: 9,
        ..Plan::of(2)
    });
    federation.start_server();
    federation.enrol(&["a", "b"]);
    let trainer = by_round(&federation, 9);
    let mut gate = federation.gate("b");
    federation.start_client("a", &trainer);
    federation.start_client("b", &trainer.behind(&gate));
    gate.wait_for_knock();
    let copy = ["server", "backup", "copy.sqlite", "--dir", "server"];
    federation.run(&copy).well();
    gate.open();
    federation.next_round();
    gate.wait_for_knock();
    gate.open();
    federation.next_round();
    gate.wait_for_knock();
    federation.kill_server();
    for leftover in ["ledger.sqlite-wal", "ledger.sqlite-shm"] {
        let _missing = fs::remove_file(federation.path(&format!("server/state/{leftover}")));
    }
    let ledger = federation.path("server/state/ledger.sqlite");
    fs::copy(federation.path("copy.sqlite"), ledger).unwrap();
    federation.start_server();
    let declined = federation.client("a").next_event("declined");
    assert_eq!(declined["decline"]["kind"], "base-refused", "{declined}");
    let detail = declined["decline"]["detail"].as_str().unwrap();
    assert!(
        detail.contains("goes back to model 0") && detail.contains("given model 2"),
        "{detail}"
    );

    let command = roll_back(&["0", "--above", "2"]);
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    federation.run(&command).well();
    let told = federation.client("a").next_event("rolled-back");
    assert_eq!(told["base"], 3);
    gate.wait_for_knock();
    gate.open();
    loop {
        let closed = federation.next_round();
        if closed.outcome == "published" {
            assert_eq!(closed.published().version, 4);
            return;
        }
    }
}

#[test]
fn the_plan_says_which_models_stay_and_clients_which_is_best() {
    let plan = Plan {
        rounds: 6,
        keep: "keep = { best = 1, last = 2, every = 4 }",
        evaluate: "metric = \"accuracy\"\naccept = { min_gain = -1.0 }",
        ..Plan::of(2)
    };
    let mut federation = Federation::new(&plan);
    federation.start_server();
    federation.enrol(&["a", "b"]);
    let trainer = by_round(&federation, 6);
    // The second model is the best.
    let evaluate = "version=$(sed -n 's/.*\"version\": \\([0-9]*\\).*/\\1/p' \"$FEDMERGE_CONFIG\"); \
                    test $version = 2 && accuracy=0.9 || accuracy=0.5; \
                    echo \"{\\\"num_examples\\\":36,\\\"metrics\\\":{\\\"accuracy\\\":$accuracy}}\"";
    for name in ["a", "b"] {
        federation.start_client_with(name, &trainer, &["--evaluate", evaluate]);
    }
    for _ in 1..=6 {
        federation.next_round().published();
    }
    federation.server_end().well();

    let listed = models(&federation);
    let kept = listed.iter().filter(|model| model["path"].is_string());
    let kept: Vec<u64> = kept.map(|model| model["model"].as_u64().unwrap()).collect();
    assert_eq!(kept, [0, 2, 4, 5, 6]);
    for version in 0..=6 {
        assert_eq!(federation.model(version).exists(), kept.contains(&version));
    }
    let best = listed
        .iter()
        .find(|model| model["is_best"] == true)
        .unwrap();
    assert_eq!(best["model"], 2);
    assert_eq!(best["score"]["value"], 0.9);

    let export = |version: &'static str, out: &'static str| {
        [
            "server", "models", "export", out, "--model", version, "--dir", "server",
        ]
    };
    federation.run(&export("2", "best")).well();
    let exported = Digest::of_file(&federation.path("best/model.safetensors")).unwrap();
    assert_eq!(best["digest"], exported.to_string());
    assert!(federation.path("best/fedmerge.json").exists());
    federation
        .run(&export("2", "best"))
        .refused(64, &["is there already"]);
    federation
        .run(&export("1", "gone"))
        .refused(69, &["model 1 is not kept any more"]);
    federation
        .run(&export("7", "none"))
        .refused(64, &["there is no model 7"]);
    let mut bytes = fs::read(federation.model(4)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(federation.model(4), bytes).unwrap();
    federation
        .run(&export("4", "wrong"))
        .refused(65, &["and the ledger says"]);
    assert!(!federation.path("wrong").exists());
}
