//! What an operator can get wrong: each is refused before anything runs, with the place, the reason and what to do next.

use std::fs::File;
use std::net::TcpListener;

use crate::harness::federation::{Federation, SERVER_RUN};
use crate::harness::plan::Plan;

/// A plan with one thing wrong: what is replaced, by what, the exit code, and words of the message.
const WRONG_PLANS: &[(&str, &str, i32, &[&str])] = &[
    (
        "quorum",
        "quorm",
        78,
        &["federation.toml", "quorm", "quorum"],
    ),
    ("[merge]", "[marge]", 78, &["marge", "merge"]),
    (
        "method = \"mean\"",
        "method = \"trimed-mean\"",
        78,
        &["trimed-mean", "trimmed-mean"],
    ),
    (
        "method = \"mean\"",
        "method = \"trimmed-mean\"\ntolerate = 2",
        78,
        &["`tolerate` is 2", "2 × 2 = 4 >= 4"],
    ),
    ("quorum = 4", "quorum = 5", 78, &["quorum", "5 > 4"]),
    (
        "deadline = \"60s\"",
        "deadline = \"soon\"",
        78,
        &["deadline", "soon"],
    ),
    (
        "base.safetensors",
        "nowhere.safetensors",
        78,
        &["nowhere.safetensors"],
    ),
];

#[test]
fn a_plan_that_cannot_work_is_refused_with_the_place_and_the_reason() {
    let plan = Plan::of(4).to_string();
    let federation = Federation::new(&Plan::of(4));
    let check = ["server", "check-config", "--dir", "server"];
    federation.run(&check).well();
    for &(right, wrong, code, words) in WRONG_PLANS {
        assert!(plan.contains(right), "{right:?} is not in the plan");
        federation.install(&plan.replace(right, wrong));
        federation.run(&check).refused(code, words);
    }
    // The server itself says the same and does not start.
    federation
        .run(&["server", "run", "--dir", "server"])
        .refused(78, &["nowhere.safetensors"]);

    federation.install(&plan);
    let base = federation.path("base.safetensors");
    let base = File::options().write(true).open(base).unwrap();
    base.set_len(base.metadata().unwrap().len() - 1).unwrap();
    federation
        .run(&check)
        .refused(65, &["base.safetensors", "truncated"]);
}

#[test]
fn a_port_or_directory_in_use_is_named() {
    let mut federation = Federation::new(&Plan::of(1));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let run = ["server", "run", "--dir", "server", "--listen", &address];
    federation.run(&run).refused(69, &[&address, "in use"]);

    federation.start_server();
    federation.run(&SERVER_RUN).refused(75, &["server", "pid"]);

    let init = ["server", "init", "server", "--base", "base.safetensors"];
    federation.run(&init).refused(64, &["server"]);
}
