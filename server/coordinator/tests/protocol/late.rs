//! Tasks that outlive their round: late updates that count, and buffered rounds.

use fedmerge_common::reason::RejectionCode;
use fedmerge_common::units::Millis;
use fedmerge_coordinator::{
    ClientOutcome, Counted, Effect, Event, LatePolicy, Mode, RoundPlan, WithdrawReason,
};

use super::federation::{
    Federation, accepts, client, closed, invited, merge, plan, rejection, round, update,
};

fn carrying(target: usize, quorum: usize) -> RoundPlan {
    RoundPlan {
        late: LatePolicy::Carry,
        max_staleness: 2,
        ..plan(target, quorum)
    }
}

fn buffered(target: usize) -> RoundPlan {
    let mut plan = carrying(target, target);
    plan.mode = Mode::Buffered;
    plan.cohort.over_select = 10.0;
    plan
}

fn counted(effects: &[Effect], number: usize) -> Option<Counted> {
    effects.iter().find_map(|effect| {
        let Effect::StartMerge { updates, .. } = effect else {
            return None;
        };
        updates.get(&client(number)).cloned()
    })
}

fn withdrawn(effects: &[Effect]) -> Vec<(usize, WithdrawReason)> {
    let withdrawn = effects.iter().filter_map(|effect| {
        let Effect::Withdraw {
            client: who,
            reason,
            ..
        } = effect
        else {
            return None;
        };
        let number = (1..10).find(|number| client(*number) == *who)?;
        Some((number, *reason))
    });
    withdrawn.collect()
}

/// Another update for the same task.
fn submit_other(federation: &mut Federation, number: usize, of: u64) -> Vec<Effect> {
    federation.step(Event::UpdateValidated {
        client: client(number),
        round: round(of),
        update: update("another"),
    })
}

/// Merges and publishes the open round.
fn publish(federation: &mut Federation, number: u64) -> Vec<Effect> {
    federation.merged(number);
    federation.published(number)
}

#[test]
fn a_round_with_its_quorum_does_not_wait_beyond_the_deadline_for_those_whose_updates_count_later() {
    let mut federation = Federation::with(carrying(3, 2), 3);
    federation.submit(1, 1);
    federation.submit(2, 1);
    federation.wait(590);
    federation.progress(3, 1);
    let effects = federation.wait(10);
    assert_eq!(merge(&effects), Some(vec![client(1), client(2)]));
    assert_eq!(withdrawn(&effects), []);
    assert!(federation.is_invited(3), "its task goes on");
}

#[test]
fn a_late_update_counts_in_the_next_round_with_its_staleness() {
    let mut federation = Federation::with(carrying(3, 2), 3);
    federation.submit(1, 1);
    federation.submit(2, 1);
    federation.wait(600);
    assert!(accepts(&federation.submit(3, 1), 3), "while merging");
    let effects = publish(&mut federation, 1);
    assert_eq!(
        closed(&effects).unwrap().clients[&client(3)],
        ClientOutcome::CarriedOver
    );
    assert_eq!(invited(&effects), [client(1), client(2)]);
    federation.submit(1, 2);
    let effects = federation.submit(2, 2);
    let late = counted(&effects, 3).unwrap();
    assert_eq!((late.round, late.staleness), (round(1), 1));
    assert!((late.discount() - 0.5_f64.sqrt()).abs() < 1e-15);
    let fresh = counted(&effects, 1).unwrap();
    assert_eq!((fresh.round, fresh.staleness), (round(2), 0));
    let summary = closed(&publish(&mut federation, 2)).unwrap().clone();
    assert_eq!(summary.accepted(), 3);
    assert_eq!(summary.origins[&client(3)].round, round(1));
}

#[test]
fn a_client_whose_task_goes_on_gets_no_other_one_and_keeps_it_over_a_restart() {
    let mut federation = Federation::with(carrying(3, 2), 3);
    federation.submit(1, 1);
    federation.submit(2, 1);
    federation.wait(600);
    publish(&mut federation, 1);
    federation.restart();
    let effects = federation.arrive([1, 2, 3]);
    let tasks = effects.iter().filter_map(|effect| {
        let Effect::Invite { client: who, task } = effect else {
            return None;
        };
        (*who == client(3)).then_some(task.round)
    });
    assert_eq!(tasks.collect::<Vec<_>>(), [round(1)]);
    assert!(accepts(&federation.submit(3, 1), 3));
    assert!(accepts(&federation.submit(3, 1), 3), "the answer was lost");
    assert_eq!(
        rejection(&submit_other(&mut federation, 3, 1)),
        Some(RejectionCode::Duplicate)
    );
}

#[test]
fn a_task_ends_before_its_update_would_be_too_stale() {
    let mut federation = Federation::with(carrying(3, 2), 3);
    for number in 1..=2 {
        federation.submit(1, number);
        federation.submit(2, number);
        assert_eq!(withdrawn(&federation.wait(600)), []);
        publish(&mut federation, number);
    }
    federation.submit(1, 3);
    federation.submit(2, 3);
    assert_eq!(
        withdrawn(&federation.wait(600)),
        [(3, WithdrawReason::TooStale)]
    );
    assert_eq!(
        rejection(&federation.submit(3, 1)),
        Some(RejectionCode::RoundClosed)
    );
    let effects = publish(&mut federation, 3);
    assert_eq!(invited(&effects).len(), 3, "with a fresh base");
}

#[test]
fn what_was_accepted_in_a_round_without_quorum_counts_in_the_next() {
    let mut federation = Federation::with(carrying(3, 3), 3);
    federation.submit(1, 1);
    federation.submit(2, 1);
    let effects = federation.wait(600);
    let summary = closed(&effects).unwrap();
    assert!(summary.outcome.published().is_none());
    assert_eq!(summary.clients[&client(1)], ClientOutcome::CarriedOver);
    let effects = federation.wait(2);
    assert_eq!(invited(&effects), [client(3)]);
    let effects = federation.submit(3, 2);
    let old = counted(&effects, 1).unwrap();
    assert_eq!((old.round, old.staleness), (round(1), 0));
    assert_eq!(merge(&effects).unwrap().len(), 3);
}

#[test]
fn nothing_is_carried_beyond_the_last_round() {
    let mut plan = carrying(3, 2);
    plan.rounds = 1;
    let mut federation = Federation::with(plan, 3);
    federation.submit(1, 1);
    federation.submit(2, 1);
    let effects = federation.wait(600);
    assert_eq!(withdrawn(&effects), [(3, WithdrawReason::DeadlinePassed)]);
    assert_eq!(
        rejection(&federation.submit(3, 1)),
        Some(RejectionCode::RoundClosed)
    );
}

/// Whether a round under way, planned as one of `planned`, carries the task that is not done over when a restart finds a plan of
/// `later` rounds.
fn carries_where_the_count_changes(planned: u64, later: u64) -> bool {
    let mut plan = carrying(3, 2);
    plan.rounds = planned;
    let mut federation = Federation::with(plan, 3);
    federation.plan.rounds = later;
    federation.restart();
    federation.arrive([1, 2, 3]);
    federation.submit(1, 1);
    federation.submit(2, 1);
    let withdrawn = withdrawn(&federation.wait(600));
    let story = closed(&publish(&mut federation, 1)).unwrap().clone();
    let carried = story.clients[&client(3)] == ClientOutcome::CarriedOver;
    assert_eq!(carried, withdrawn.is_empty());
    carried
}

#[test]
fn which_round_is_the_last_is_said_by_the_plan_of_the_day() {
    assert!(!carries_where_the_count_changes(9, 1));
    assert!(carries_where_the_count_changes(1, 9));
    assert!(carries_where_the_count_changes(1, 0));
}

#[test]
fn a_lower_count_ends_the_tasks_between_rounds_and_a_federation_that_goes_on_again_has_none() {
    let mut plan = carrying(3, 2);
    plan.rounds = 9;
    let mut federation = Federation::with(plan, 3);
    federation.submit(1, 1);
    federation.submit(2, 1);
    federation.wait(600);
    federation.leave(1);
    federation.leave(2);
    publish(&mut federation, 1);
    assert!(federation.is_invited(3));

    federation.plan.rounds = 1;
    let effects = federation.restart();
    assert_eq!(withdrawn(&effects), [(3, WithdrawReason::Ended)]);
    federation.plan.rounds = 2;
    federation.restart();
    let effects = federation.arrive([1, 2, 3]);
    assert_eq!(invited(&effects).len(), 3);
    assert_eq!(
        rejection(&federation.submit(3, 1)),
        Some(RejectionCode::RoundClosed)
    );
}

#[test]
fn a_task_that_a_changed_plan_finds_too_stale_ends_and_its_client_gets_a_fresh_one() {
    let mut federation = Federation::with(carrying(3, 2), 3);
    federation.submit(1, 1);
    federation.submit(2, 1);
    federation.wait(600);
    federation.merged(1);
    federation.plan = plan(3, 2);
    federation.restart();
    federation.arrive([1, 2, 3]);
    assert!(federation.is_invited(3));
    let effects = federation.published(1);
    assert_eq!(withdrawn(&effects), [(3, WithdrawReason::TooStale)]);
    assert_eq!(invited(&effects).len(), 3, "with a fresh base");
    assert_eq!(
        rejection(&federation.submit(3, 1)),
        Some(RejectionCode::RoundClosed)
    );
    federation.submit(3, 2);
    federation.submit(1, 2);
    assert_eq!(merge(&federation.submit(2, 2)).unwrap().len(), 3);
}

#[test]
fn a_buffered_round_gives_a_task_to_whoever_comes_and_merges_when_it_has_enough() {
    let mut federation = Federation::with(buffered(3), 3);
    assert_eq!(invited(&federation.arrive([4, 5])), [client(4), client(5)]);
    federation.submit(1, 1);
    federation.submit(4, 1);
    let effects = federation.submit(5, 1);
    assert_eq!(merge(&effects), Some(vec![client(1), client(4), client(5)]));
    assert_eq!(withdrawn(&effects), []);
    let effects = publish(&mut federation, 1);
    assert_eq!(invited(&effects), [client(1), client(4), client(5)]);
    // One slot for each client: it has delivered to this buffer.
    assert!(accepts(&federation.submit(2, 1), 2));
    assert_eq!(
        rejection(&submit_other(&mut federation, 2, 1)),
        Some(RejectionCode::Duplicate)
    );
    federation.submit(3, 1);
    let effects = federation.submit(1, 2);
    let staleness = [1, 2, 3].map(|number| counted(&effects, number).unwrap().staleness);
    assert_eq!(staleness, [0, 1, 1]);
}

#[test]
fn a_buffered_round_waits_for_clients_to_come_and_ends_at_its_deadline() {
    let mut federation = Federation::with(buffered(3), 3);
    federation.submit(1, 1);
    federation.decline(2, 1);
    federation.leave(3);
    assert!(federation.wait(40).is_empty());
    let effects = federation.wait(560);
    let summary = closed(&effects).unwrap();
    assert_eq!(summary.clients[&client(1)], ClientOutcome::CarriedOver);
    assert_eq!(summary.closed - summary.opened, Millis::from_secs(600));
}
