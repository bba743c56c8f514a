//! When a round opens, and with whom.

use std::collections::BTreeSet;

use fedmerge_common::units::Millis;
use fedmerge_coordinator::cohort::{choose, invitation_size};
use fedmerge_coordinator::{Cohort, PlanError, Population, RoundPlan};

use super::federation::{Federation, NOON, client, invited, median_of_accuracy, plan, round};

#[test]
fn the_invitation_is_a_fraction_of_those_present_but_not_below_the_target_nor_above_over_selection()
{
    let cohort = |target, fraction, over_select| Cohort {
        target,
        fraction,
        over_select,
    };
    for (cohort, attending, size) in [
        (cohort(10, 1.0, 1.3), 0, 10),
        (cohort(10, 1.0, 1.3), 10, 10),
        (cohort(10, 1.0, 1.3), 12, 12),
        (cohort(10, 1.0, 1.3), 13, 13),
        (cohort(10, 1.0, 1.3), 1000, 13),
        (cohort(10, 0.5, 1.3), 12, 10),
        (cohort(10, 0.5, 1.3), 23, 12),
        (cohort(50, 1.0, 1.1), 1000, 55),
        (cohort(3, 0.1, 1.0), 1000, 3),
    ] {
        assert_eq!(
            invitation_size(&cohort, attending),
            size,
            "{cohort:?} of {attending}"
        );
    }
}

#[test]
fn a_round_opens_at_once_when_the_target_is_there() {
    let mut federation = Federation::with(plan(3, 2), 2);
    assert_eq!(federation.phase(), "gathering");
    let effects = federation.arrive([3]);
    assert_eq!(invited(&effects), [client(1), client(2), client(3)]);
    assert_eq!(federation.phase(), "collecting");
}

#[test]
fn a_round_opens_with_the_quorum_after_the_grace_time() {
    let mut federation = Federation::with(plan(3, 2), 2);
    assert_eq!(
        federation.coordinator.wake_at(),
        Some(NOON + Millis::from_secs(30))
    );
    assert!(federation.wait(29).is_empty());
    assert_eq!(invited(&federation.wait(1)), [client(1), client(2)]);
}

#[test]
fn the_grace_time_begins_anew_when_the_quorum_was_lost() {
    let mut federation = Federation::with(plan(3, 2), 2);
    federation.wait(29);
    federation.leave(1);
    assert_eq!(federation.coordinator.wake_at(), None);
    federation.arrive([1]);
    assert!(federation.wait(29).is_empty());
    assert_eq!(invited(&federation.wait(1)).len(), 2);
}

#[test]
fn a_clock_that_is_set_back_does_not_lengthen_the_grace_time() {
    let mut federation = Federation::with(plan(3, 2), 2);
    federation.now = NOON - Millis::from_secs(86_400);
    federation.wait(0);
    assert_eq!(invited(&federation.wait(30)).len(), 2);
}

#[test]
fn one_client_below_the_quorum_opens_nothing() {
    let mut federation = Federation::with(plan(3, 2), 1);
    assert!(federation.wait(86_400).is_empty());
    assert_eq!(federation.coordinator.wake_at(), None);
}

#[test]
fn a_client_that_comes_after_the_opening_stands_by() {
    let mut federation = Federation::with(plan(3, 2), 3);
    assert!(federation.arrive([4]).is_empty());
    assert!(!federation.is_invited(4));
}

#[test]
fn the_choice_depends_on_seed_and_round_and_on_nothing_else() {
    let clients: BTreeSet<_> = (0..100).map(client).collect();
    let first = choose(7, round(1), &clients, 10);
    assert_eq!(first.len(), 10);
    assert_eq!(choose(7, round(1), &clients, 10), first);
    assert_ne!(choose(7, round(2), &clients, 10), first);
    assert_ne!(choose(8, round(1), &clients, 10), first);
    assert_eq!(choose(7, round(1), &clients, 200), clients);
}

#[test]
fn every_client_is_chosen_about_equally_often() {
    let clients: BTreeSet<_> = (0..20).map(client).collect();
    for candidate in &clients {
        let rounds = 1..=1000;
        let chosen = rounds
            .filter(|number| choose(7, round(*number), &clients, 5).contains(candidate))
            .count();
        assert!((190..310).contains(&chosen), "{candidate}: {chosen} of 250");
    }
}

#[test]
fn after_abandoned_rounds_the_pause_doubles_up_to_a_minute() {
    let mut federation = Federation::with(plan(2, 2), 2);
    for (number, pause) in (1..).zip([2, 4, 8, 16, 32, 60, 60]) {
        federation.decline(1, number);
        assert_eq!(federation.phase(), "gathering");
        assert!(invited(&federation.wait(pause - 1)).is_empty());
        assert_eq!(
            invited(&federation.wait(1)).len(),
            2,
            "after round {number}"
        );
    }
}

#[test]
fn after_a_published_round_the_next_opens_at_once_and_pauses_begin_small_again() {
    let mut federation = Federation::with(plan(2, 2), 2);
    federation.decline(1, 1);
    federation.wait(2);
    federation.decline(1, 2);
    federation.wait(4);
    federation.submit(1, 3);
    federation.submit(2, 3);
    federation.merged(3);
    assert_eq!(invited(&federation.published(3)).len(), 2);
    federation.decline(1, 4);
    assert_eq!(invited(&federation.wait(2)).len(), 2);
}

fn some(clients: usize, hostile: usize) -> Option<Population> {
    Some(Population {
        clients,
        hostile,
        risk: 0.01,
    })
}

type Spoil = fn(&mut RoundPlan);

fn good() -> RoundPlan {
    RoundPlan {
        tolerate: 2,
        evaluate: Some(median_of_accuracy(-0.005)),
        ..plan(8, 6)
    }
}

/// Each spoils a good plan, and is told so.
fn refuses(cases: &[(Spoil, &str)]) {
    good().check().unwrap();
    for (spoil, message) in cases {
        let mut plan = good();
        spoil(&mut plan);
        let error: PlanError = plan.check().unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[test]
fn a_plan_that_can_not_work_is_refused_with_the_arithmetic() {
    let cases: [(Spoil, &str); 10] = [
        (
            |plan| plan.tolerate = 4,
            "`tolerate` is 4, but half of the cohort's 8 would be hostile: 2 × 4 = 8 >= 8",
        ),
        (
            |plan| plan.tolerate = 3,
            "`quorum` is 6, but withstanding 3 hostile clients needs 2 × 3 + 1 = 7 updates",
        ),
        (
            |plan| plan.quorum = 9,
            "`quorum` is 9, but a round closes at its cohort's target of 8 updates: 9 > 8",
        ),
        (
            |plan| plan.quorum = 0,
            "`quorum` is 0, it must be at least 1",
        ),
        (
            |plan| plan.cohort.target = 0,
            "`cohort.target` is 0, it must be at least 1",
        ),
        (
            |plan| plan.deadline = Millis::ZERO,
            "`deadline` is 0, it must be at least 1",
        ),
        (
            |plan| plan.cohort.fraction = f64::NAN,
            "`cohort.fraction` is NaN, it must be over 0 and at most 1",
        ),
        (
            |plan| plan.cohort.over_select = 0.9,
            "`cohort.over_select` is 0.9, it must be from 1 to 10",
        ),
        (
            |plan| plan.cohort.target = 100_001,
            "`cohort.target` is 100001, it must be at most 100000",
        ),
        (|plan| plan.tolerate = usize::MAX, "half of the cohort's 8"),
    ];
    refuses(&cases);
}

#[test]
fn too_small_a_quorum_and_a_population_that_is_too_hostile_are_refused_with_the_arithmetic() {
    let mut sampled = good();
    sampled.population = some(100, 1);
    sampled.check().unwrap();
    refuses(&[
        (
            |plan| {
                plan.allow_small_quorum = false;
                (plan.quorum, plan.tolerate) = (2, 0);
            },
            "`quorum` is 2, but of fewer than 3 updates a client can subtract its own",
        ),
        (
            |plan| plan.population = some(100, 40),
            "`tolerate` is 2, but of 100 clients 40 may be hostile, and some cohort of 8 has more than 8 of them",
        ),
        (
            |plan| plan.population = some(6, 1),
            "`population.clients` is 6, but a cohort wants 8 of them",
        ),
    ]);
}
