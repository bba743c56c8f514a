//! Whose update counts, and how long a round waits.

use fedmerge_common::reason::{AbandonReason, RejectionCode};
use fedmerge_common::units::Millis;
use fedmerge_coordinator::{
    ClientOutcome, Cohort, Effect, Event, RoundOutcome, RoundPlan, WithdrawReason,
};

use super::federation::{
    Federation, NOON, accepts, client, closed, invited, merge, plan, rejection, round, update,
};

fn silent(reason: WithdrawReason) -> ClientOutcome {
    ClientOutcome::Silent { reason }
}

#[test]
fn the_merge_starts_with_the_last_update_that_is_wanted() {
    let mut federation = Federation::with(plan(3, 2), 3);
    assert!(accepts(&federation.submit(1, 1), 1));
    assert_eq!(merge(&federation.submit(2, 1)), None);
    let effects = federation.submit(3, 1);
    assert!(accepts(&effects, 3));
    assert_eq!(merge(&effects).unwrap(), [client(1), client(2), client(3)]);
}

#[test]
fn spare_clients_are_released_once_the_target_is_reached() {
    let mut federation = Federation::new(RoundPlan {
        cohort: Cohort {
            target: 2,
            fraction: 1.0,
            over_select: 2.0,
        },
        ..plan(2, 2)
    });
    federation.arrive([1]);
    federation.arrive([2]);
    federation.decline(1, 1);
    federation.arrive([3, 4]);
    federation.wait(2);
    federation.submit(1, 2);
    let effects = federation.submit(2, 2);
    assert_eq!(merge(&effects).unwrap(), [client(1), client(2)]);
    let released = |number| Effect::Withdraw {
        client: client(number),
        round: round(2),
        reason: WithdrawReason::EnoughUpdates,
    };
    assert!(effects.contains(&released(3)) && effects.contains(&released(4)));
    assert_eq!(
        rejection(&federation.submit(3, 2)),
        Some(RejectionCode::RoundClosed)
    );
}

#[test]
fn a_late_update_is_rejected_with_round_closed() {
    let mut federation = Federation::with(plan(3, 2), 3);
    federation.submit(1, 1);
    federation.submit(2, 1);
    assert_eq!(merge(&federation.wait(600)).unwrap().len(), 2);
    assert_eq!(
        rejection(&federation.submit(3, 1)),
        Some(RejectionCode::RoundClosed)
    );
    federation.merged(1);
    federation.published(1);
    for number in [0, 1, 3, u64::MAX] {
        assert_eq!(
            rejection(&federation.submit(3, number)),
            Some(RejectionCode::RoundClosed)
        );
    }
    for number in [0, 3] {
        assert_eq!(
            rejection(&federation.submit(1, number)),
            Some(RejectionCode::RoundClosed)
        );
    }
}

#[test]
fn the_same_update_again_is_accepted_again_even_when_the_round_is_over() {
    let mut federation = Federation::with(plan(2, 2), 2);
    federation.submit(1, 1);
    assert!(accepts(&federation.submit(1, 1), 1));
    federation.submit(2, 1);
    assert!(accepts(&federation.submit(1, 1), 1));
    federation.merged(1);
    federation.published(1);
    assert!(accepts(&federation.submit(1, 1), 1));
    assert!(matches!(
        federation.outcome(1, 1),
        ClientOutcome::Accepted { .. }
    ));
}

#[test]
fn another_update_of_the_same_client_is_a_duplicate() {
    let mut federation = Federation::with(plan(2, 2), 2);
    federation.submit(1, 1);
    let again = federation.step(Event::UpdateValidated {
        client: client(1),
        round: round(1),
        update: update("another"),
    });
    assert_eq!(rejection(&again), Some(RejectionCode::Duplicate));
    assert_eq!(federation.coordinator.view().tally.accepted, 1);
}

#[test]
fn an_update_of_a_client_without_invitation_is_rejected() {
    let mut federation = Federation::with(plan(2, 2), 3);
    assert_eq!(
        rejection(&federation.submit(3, 1)),
        Some(RejectionCode::NotInvited)
    );
}

#[test]
fn a_rejected_update_is_the_clients_last_word_in_the_round() {
    let mut federation = Federation::with(plan(3, 2), 3);
    assert_eq!(
        rejection(&federation.refuse(1, 1)),
        Some(RejectionCode::NonFinite)
    );
    assert_eq!(
        rejection(&federation.submit(1, 1)),
        Some(RejectionCode::NonFinite)
    );
    assert!(!federation.is_invited(1));
    assert!(invited(&federation.arrive([1])).is_empty());
}

#[test]
fn an_accepted_update_stays_accepted_whatever_follows() {
    let mut federation = Federation::with(plan(3, 2), 3);
    federation.submit(1, 1);
    federation.refuse(1, 1);
    federation.step(Event::ClientDeclined {
        client: client(1),
        round: round(1),
        decline: fedmerge_common::reason::Decline::new(
            fedmerge_common::reason::DeclineKind::Policy,
            "no",
        ),
    });
    federation.leave(1);
    federation.submit(2, 1);
    assert_eq!(merge(&federation.submit(3, 1)).unwrap().len(), 3);
}

#[test]
fn the_round_closes_when_everyone_has_answered() {
    let mut federation = Federation::with(plan(4, 2), 4);
    federation.submit(1, 1);
    federation.refuse(2, 1);
    federation.decline(3, 1);
    assert_eq!(merge(&federation.submit(4, 1)).unwrap().len(), 2);
}

#[test]
fn the_round_closes_at_the_deadline_with_those_who_answered() {
    let mut federation = Federation::with(plan(3, 2), 3);
    federation.submit(1, 1);
    federation.submit(2, 1);
    assert_eq!(
        federation.coordinator.wake_at(),
        Some(NOON + Millis::from_secs(600))
    );
    assert!(federation.wait(599).is_empty());
    assert_eq!(merge(&federation.wait(1)).unwrap().len(), 2);
    federation.merged(1);
    federation.published(1);
    assert_eq!(
        federation.outcome(3, 1),
        silent(WithdrawReason::DeadlinePassed)
    );
}

#[test]
fn without_a_quorum_the_round_is_abandoned_with_the_arithmetic() {
    let mut federation = Federation::with(plan(5, 2), 5);
    federation.submit(1, 1);
    federation.refuse(2, 1);
    federation.decline(3, 1);
    let effects = federation.wait(600);
    let expected = AbandonReason::QuorumNotReached {
        accepted: 1,
        quorum: 2,
        rejected: 1,
        declined: 1,
        silent: 2,
    };
    assert_eq!(
        closed(&effects).unwrap().outcome,
        RoundOutcome::Abandoned(expected)
    );
}

#[test]
fn a_round_whose_quorum_is_out_of_reach_does_not_wait_for_its_deadline() {
    let mut federation = Federation::with(plan(3, 3), 3);
    let effects = federation.decline(2, 1);
    assert!(closed(&effects).is_some());
    assert_eq!(
        federation.outcome(1, 1),
        silent(WithdrawReason::QuorumOutOfReach)
    );
}

#[test]
fn a_client_that_makes_progress_is_waited_for_beyond_the_deadline_but_not_beyond_a_second_one() {
    let mut federation = Federation::with(plan(3, 2), 3);
    federation.submit(1, 1);
    federation.submit(2, 1);
    federation.wait(590);
    federation.progress(3, 1);
    for _ in 0..30 {
        assert!(federation.wait(20).is_empty());
        federation.progress(3, 1);
    }
    assert_eq!(
        federation.coordinator.wake_at(),
        Some(NOON + Millis::from_secs(1200))
    );
    assert!(federation.wait(9).is_empty());
    assert_eq!(merge(&federation.wait(1)).unwrap().len(), 2);
}

#[test]
fn a_client_whose_progress_ends_is_waited_for_no_longer_than_the_grace_time() {
    let mut federation = Federation::with(plan(3, 2), 3);
    federation.submit(1, 1);
    federation.submit(2, 1);
    federation.wait(590);
    federation.progress(3, 1);
    assert!(federation.wait(29).is_empty());
    assert_eq!(merge(&federation.wait(1)).unwrap().len(), 2);
}

#[test]
fn an_update_that_arrives_within_the_extended_time_counts() {
    let mut federation = Federation::with(plan(3, 2), 3);
    federation.submit(1, 1);
    federation.submit(2, 1);
    federation.wait(590);
    federation.progress(3, 1);
    federation.wait(20);
    assert_eq!(merge(&federation.submit(3, 1)).unwrap().len(), 3);
}

#[test]
fn progress_extends_only_the_wait_for_the_client_that_makes_it() {
    let mut federation = Federation::with(plan(3, 1), 3);
    federation.submit(1, 1);
    federation.wait(590);
    federation.progress(3, 1);
    let effects = federation.wait(10);
    assert!(
        matches!(&effects[..], [Effect::Withdraw { client: who, reason: WithdrawReason::DeadlinePassed, .. }] if *who == client(2))
    );
    assert_eq!(
        rejection(&federation.submit(2, 1)),
        Some(RejectionCode::RoundClosed)
    );
    assert_eq!(federation.phase(), "collecting");
}

#[test]
fn progress_for_another_round_or_from_a_stranger_extends_nothing() {
    let mut federation = Federation::with(plan(2, 1), 2);
    federation.submit(1, 1);
    federation.wait(590);
    federation.progress(2, 0);
    federation.progress(2, 2);
    federation.progress(9, 1);
    assert!(merge(&federation.wait(10)).is_some());
}

#[test]
fn a_client_that_comes_back_is_invited_again_to_the_same_task() {
    let mut federation = Federation::with(plan(2, 2), 2);
    federation.leave(1);
    assert!(federation.is_invited(1));
    assert_eq!(invited(&federation.arrive([1])), [client(1)]);
}

#[test]
fn the_round_closes_early_when_all_it_waits_for_are_gone() {
    let mut federation = Federation::with(plan(3, 1), 3);
    federation.submit(1, 1);
    federation.leave(2);
    federation.wait(20);
    federation.leave(3);
    assert!(federation.wait(29).is_empty());
    assert!(merge(&federation.wait(1)).is_some());
}

#[test]
fn one_client_that_is_still_there_keeps_the_round_open() {
    let mut federation = Federation::with(plan(3, 1), 3);
    federation.submit(1, 1);
    federation.leave(2);
    federation.wait(300);
    federation.arrive([2]);
    assert!(federation.wait(200).is_empty());
    assert!(federation.is_invited(2) && federation.is_invited(3));
}

#[test]
fn progress_of_a_client_without_connection_is_a_sign_of_life() {
    let mut federation = Federation::with(plan(2, 1), 2);
    federation.submit(1, 1);
    federation.leave(2);
    federation.wait(20);
    federation.progress(2, 1);
    assert!(federation.wait(20).is_empty());
    assert!(merge(&federation.wait(10)).is_some());
}

#[test]
fn a_deadline_that_leaves_only_a_client_long_gone_closes_the_round_even_after_a_clock_was_set_back()
{
    let mut federation = Federation::with(plan(3, 1), 3);
    federation.submit(1, 1);
    federation.wait(590);
    federation.progress(3, 1);
    federation.now = NOON + Millis::from_secs(560);
    federation.leave(3);
    assert!(merge(&federation.wait(40)).is_some());
}
