//! Which plan each round and each task has.

#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use std::fs;

use fedmerge_common::ids::ClientId;
use fedmerge_coordinator::{Coordinator, Origin};

use super::*;
use crate::testbed::{Bed, client, plan};

/// A start with a plan of that deadline, in minutes, while `view` is how things stand.
async fn start(bed: &Bed, minutes: u64, view: &View) -> (Vec<u64>, Option<RoundNumber>) {
    let text = format!(
        "name = \"digits\"\nbase = \"base.safetensors\"\n[round]\ndeadline = \"{minutes}m\"\n"
    );
    fs::write(bed.directory.plan(), &text).unwrap();
    let plan = FederationPlan::read(&bed.directory.plan()).unwrap();
    let ledger = Ledger::open(&bed.directory.ledger()).await.unwrap();
    let planned = Planned {
        directory: &bed.directory,
        ledger: &ledger,
        plan: &plan,
        text: &text,
    };
    let (plans, change) = planned.settle(view).await.unwrap();
    let of = |round| {
        let deadline = plans.of(RoundNumber::new(round)).round.deadline;
        deadline.get() / 60_000
    };
    (
        (1..=6).map(of).collect(),
        change.map(|change| change.first_round),
    )
}

/// How things stand between rounds after so many, or, where one of them `is_open`, within the last.
fn view(bed: &Bed, rounds: u64, is_open: bool, tasks: &[(ClientId, u64)]) -> View {
    let mut view = Coordinator::new(plan(2, 0), bed.base).view();
    view.round = (rounds > 0).then(|| RoundNumber::new(rounds));
    view.rounds_ended = rounds - u64::from(is_open);
    let origin = |round| Origin {
        round: RoundNumber::new(round),
        base: bed.base,
    };
    let origins = tasks
        .iter()
        .map(|(client, round)| (client.clone(), origin(*round)));
    view.origins = origins.collect();
    view
}

#[tokio::test]
async fn a_task_keeps_the_plan_of_its_round_for_as_long_as_it_goes_on() {
    let bed = Bed::new();
    let at = |round| (round, true);
    let after = |round| (round, false);
    let starts = [
        (10, after(0), vec![], [10, 10, 10, 10, 10, 10], None),
        (20, at(1), vec![], [10, 20, 20, 20, 20, 20], Some(2)),
        // Told at each start until the next round opens.
        (20, after(1), vec![], [10, 20, 20, 20, 20, 20], Some(2)),
        (30, at(3), vec![1], [10, 20, 20, 30, 30, 30], Some(4)),
        (
            40,
            after(4),
            vec![3, 1, 4],
            [10, 20, 20, 30, 40, 40],
            Some(5),
        ),
        // Nobody is at work for the first three rounds any more.
        (40, at(5), vec![5], [40, 40, 40, 40, 40, 40], None),
    ];
    for (minutes, (rounds, is_open), tasks, expected, first_round) in starts {
        let tasks: Vec<_> = tasks
            .into_iter()
            .map(|round| (client(&format!("ward-{round}")), round))
            .collect();
        let found = start(&bed, minutes, &view(&bed, rounds, is_open, &tasks)).await;
        let expected = (expected.to_vec(), first_round.map(RoundNumber::new));
        assert_eq!(found, expected, "{minutes} {rounds} {tasks:?}");
    }
}
