//! What a site lets out is the site's to say, and it keeps a log of it.

use std::fs;

use serde_json::Value;

use crate::harness::command::run;
use crate::harness::federation::Federation;
use crate::harness::plan::Plan;
use crate::harness::values::Values;

fn site_log(federation: &Federation, client: &str) -> Vec<Value> {
    let text = fs::read_to_string(federation.path(&format!("{client}/site-log.jsonl"))).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

#[test]
fn a_site_withholds_tensors_refuses_lengths_and_writes_down_what_left() {
    let plan = Plan {
        quorum: 1,
        grace: "1s",
        ..Plan::of(2)
    };
    let base = Values::base();
    let mut federation = Federation::new(&plan);
    federation.start_server();
    federation.enrol(&["open", "strict"]);
    let policy = |client: &str, text: &str| {
        fs::write(federation.path(&format!("{client}/policy.toml")), text).unwrap();
    };
    policy("open", "withhold = [\"b\"]\nservers = [\"127.0.0.1:*\"]\n");
    policy("strict", "max_norm = 0.5\n");
    for name in ["open", "strict"] {
        let trainer = federation.trainer(name, &base.plus(1.0), 10);
        federation.start_client(name, &trainer);
    }
    let closed = federation.next_round();
    let merged = Values::read(&closed.published().path);
    assert_eq!((merged.w, &merged.b), (base.plus(1.0).w, &base.b));
    closed.expect("strict", "declined", &["policy", "length", "at most 0.5"]);
    for name in ["open", "strict"] {
        federation.client_end(name).well();
    }

    let left = site_log(&federation, "open");
    assert_eq!(left.len(), 1, "{left:?}");
    let sent = &left[0];
    assert_eq!(
        (&sent["event"], &sent["round"]),
        (&"update".into(), &1.into())
    );
    assert_eq!(sent["num_examples"], 10);
    let tensors: Vec<_> = sent["tensors"].as_array().unwrap().iter().collect();
    assert_eq!(tensors.len(), 1, "{sent}");
    assert_eq!(tensors[0]["name"], "w");
    let left = site_log(&federation, "strict");
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0]["event"], "decline");
}

#[test]
fn a_site_speaks_with_the_servers_of_its_policy_alone_and_with_none_before_it_understands_it() {
    let mut federation = Federation::new(&Plan::of(1));
    federation.start_server();
    federation.enrol(&["a"]);
    let trainer = federation.trainer("a", &Values::base(), 1);
    let policy = federation.path("a/policy.toml");
    for (text, exit, words) in [
        (
            "servers = [\"fed.example:*\"]",
            77,
            "does not allow the server at",
        ),
        ("withold = [\"b\"]", 78, "withold"),
    ] {
        fs::write(&policy, text).unwrap();
        federation.start_client("a", &trainer);
        federation
            .client_end("a")
            .refused(exit, &[words, "policy.toml"]);
    }
    // Before it enrols a machine may have a policy, too.
    fs::create_dir(federation.path("b")).unwrap();
    fs::write(federation.path("b/policy.toml"), "servers = []").unwrap();
    let token = federation.token();
    run(&mut federation.enrol_command("b", &token)).refused(77, &["does not allow the server at"]);
}
