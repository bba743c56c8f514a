//! Trainers that fail in every way: each costs its client the round and nobody else anything.

use crate::harness::federation::Federation;
use crate::harness::machine::{processes_with, wait_until};
use crate::harness::plan::Plan;
use crate::harness::trainer::Trainer;
use crate::harness::values::Values;

fn trainers(federation: &Federation, mark: &str) -> Vec<(&'static str, Trainer)> {
    let base = Values::base();
    let good = federation.trainer("good", &base.plus(1.0), 1);
    let noisy = federation.trainer("noisy", &base.plus(3.0), 1);
    let misshapen = Values {
        w: vec![1.0; 3],
        ..base.clone()
    };
    let (mut not_a_number, mut infinite) = (base.plus(1.0), base.plus(1.0));
    not_a_number.w[2] = f32::NAN;
    infinite.b[1] = f32::INFINITY;
    vec![
        (
            "noisy",
            Trainer::shell(format!(
                "head -c 100000 /dev/urandom; echo; echo '{{'; {}",
                noisy.command()
            )),
        ),
        (
            "fails",
            Trainer::shell("echo 'epoch 1' >&2; echo 'ward-3.csv has no column age' >&2; exit 3"),
        ),
        ("idle", Trainer::shell("true")),
        ("misshapen", federation.trainer("misshapen", &misshapen, 1)),
        (
            "boastful",
            Trainer::shell(format!(
                "{} && echo '{{\"num_examples\": -3}}'",
                good.command()
            )),
        ),
        (
            "hangs",
            Trainer::shell(format!("{mark} tail -f /dev/null & wait")),
        ),
        (
            "not-a-number",
            federation.trainer("not-a-number", &not_a_number, 1),
        ),
        ("infinite", federation.trainer("infinite", &infinite, 1)),
        ("good", good),
    ]
}

#[test]
fn bad_trainers_cost_their_clients_the_round_and_nobody_else_anything() {
    let plan = Plan {
        target: 9,
        quorum: 2,
        ..Plan::of(9)
    };
    let mut federation = Federation::new(&plan);
    federation.start_server();
    let mark = format!("FEDMERGE_TEST_MARK={}", federation.path("hangs").display());
    let trainers = trainers(&federation, &mark);
    let names: Vec<_> = trainers.iter().map(|(name, _)| *name).collect();
    federation.enrol(&names);
    for (name, trainer) in &trainers {
        let limit: &[&str] = if *name == "hangs" {
            &["--train-timeout", "1s"]
        } else {
            &[]
        };
        federation.start_client_with(name, trainer, limit);
    }

    let closed = federation.next_round();
    assert_eq!(
        Values::read(&closed.published().path),
        Values::base().plus(2.0)
    );
    assert_eq!(
        (
            closed.accepted,
            closed.rejected,
            closed.declined,
            closed.silent
        ),
        (2, 2, 5, 0)
    );
    closed.expect("good", "accepted", &[]);
    closed.expect("noisy", "accepted", &[]);
    closed.expect(
        "fails",
        "declined",
        &["trainer-failed", "exit status: 3", "no column age"],
    );
    closed.expect(
        "idle",
        "declined",
        &["bad-checkpoint", "wrote no checkpoint to FEDMERGE_OUT"],
    );
    closed.expect(
        "misshapen",
        "declined",
        &["bad-checkpoint", "tensor `w` has shape [3], expected [4]"],
    );
    closed.expect("boastful", "declined", &["num_examples = -3"]);
    closed.expect("hangs", "declined", &["trainer-timed-out", "1s"]);
    closed.expect(
        "not-a-number",
        "rejected",
        &["non-finite", "tensor `w` has NaN at index 2"],
    );
    closed.expect(
        "infinite",
        "rejected",
        &["non-finite", "tensor `b` has inf at index 1"],
    );
    wait_until("the end of the trainer that hung", || {
        processes_with(&mark).is_empty()
    });
    // Their clients heard the same, and took their leave like everyone else.
    let said = federation.client_end("not-a-number").well().stdout;
    assert!(said.contains("tensor `w` has NaN at index 2"), "{said}");
    federation.client_end("hangs").well();
}

#[test]
fn a_round_without_quorum_is_abandoned_with_its_arithmetic_and_the_base_stays() {
    let plan = Plan {
        grace: "1s",
        ..Plan::of(2)
    };
    let mut federation = Federation::new(&plan);
    federation.start_server();
    federation.enrol(&["good", "fails"]);
    let good = federation.trainer("good", &Values::base().plus(1.0), 1);
    federation.start_client("good", &good);
    federation.start_client("fails", &Trainer::shell("exit 1"));
    let closed = federation.next_round();
    assert_eq!(
        (closed.outcome.as_str(), &closed.model),
        ("abandoned", &None)
    );
    assert!(closed.reason.contains("quorum not reached"), "{closed:#?}");
    assert!(closed.reason.contains("1 declined"), "{closed:#?}");
    federation.client_end("good").well();
    federation.server_end().well();
    assert!(!federation.model(1).exists());
}
