//! From the merge to the next base, and the ends of rounds and federations.

use fedmerge_common::reason::AbandonReason;
use fedmerge_coordinator::{
    Assignment, ClientOutcome, Effect, EndReason, Event, RoundOutcome, RoundPlan, WithdrawReason,
};

use super::federation::{Federation, accepts, client, closed, invited, merge, model, plan, round};

/// A federation of three whose first round merges.
fn merging(plan: RoundPlan) -> Federation {
    let mut federation = Federation::with(plan, 3);
    for number in 1..=3 {
        federation.submit(number, 1);
    }
    assert_eq!(federation.phase(), "merging");
    federation
}

fn publishes(effects: &[Effect]) -> bool {
    effects
        .iter()
        .any(|effect| matches!(effect, Effect::Publish { .. }))
}

#[test]
fn a_merged_model_becomes_the_base_of_the_next_round() {
    let mut federation = merging(plan(3, 2));
    assert_eq!(federation.coordinator.wake_at(), None);
    assert!(publishes(&federation.merged(1)));
    assert_eq!(*federation.coordinator.base(), model(0));
    let effects = federation.published(1);
    let summary = closed(&effects).unwrap();
    assert_eq!(summary.outcome, RoundOutcome::Published(model(1)));
    assert_eq!(
        (summary.accepted(), summary.clients.len(), summary.base),
        (3, 3, model(0))
    );
    assert_eq!(*federation.coordinator.base(), model(1));
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Invite { task, .. } if task.base == model(1)))
    );
}

#[test]
fn a_failed_merge_abandons_the_round_with_its_reason() {
    let mut federation = merging(plan(3, 2));
    let detail = "disk full".to_owned();
    let effects = federation.step(Event::MergeFailed {
        round: round(1),
        detail: detail.clone(),
    });
    assert_eq!(
        closed(&effects).unwrap().outcome,
        RoundOutcome::Abandoned(AbandonReason::MergeFailed { detail })
    );
    assert!(matches!(
        federation.outcome(1, 1),
        ClientOutcome::Accepted { .. }
    ));
}

#[test]
fn a_candidate_of_a_wrong_version_is_not_published() {
    let mut federation = merging(plan(3, 2));
    let effects = federation.step(Event::MergeFinished {
        round: round(1),
        candidate: model(2),
    });
    assert!(closed(&effects).is_some() && !publishes(&effects));
}

#[test]
fn answers_for_another_round_or_phase_change_nothing() {
    let mut federation = merging(plan(3, 2));
    for number in [0, 2] {
        assert!(federation.merged(number).is_empty());
        assert!(federation.published(number).is_empty());
    }
    assert!(federation.published(1).is_empty());
    federation.merged(1);
    assert!(federation.merged(1).is_empty());
    federation.published(1);
    assert!(federation.published(1).is_empty());
    assert!(federation.merged(1).is_empty());
    assert_eq!(*federation.coordinator.base(), model(1));
}

#[test]
fn a_failed_publication_leaves_the_base() {
    let mut federation = merging(plan(3, 2));
    federation.merged(1);
    let effects = federation.step(Event::PublishFailed {
        round: round(1),
        detail: "disk full".into(),
    });
    assert!(closed(&effects).is_some());
    assert_eq!(*federation.coordinator.base(), model(0));
}

#[test]
fn a_publication_of_another_model_than_the_candidate_does_not_become_the_base() {
    let mut federation = merging(plan(3, 2));
    federation.merged(1);
    let effects = federation.step(Event::ModelPublished {
        round: round(1),
        model: model(7),
    });
    assert!(matches!(
        closed(&effects).unwrap().outcome,
        RoundOutcome::Abandoned(AbandonReason::PublishFailed { .. })
    ));
    assert_eq!(*federation.coordinator.base(), model(0));
}

#[test]
fn the_federation_ends_after_its_last_round_and_abandoned_ones_count() {
    let mut federation = Federation::with(
        RoundPlan {
            rounds: 2,
            ..plan(2, 2)
        },
        2,
    );
    federation.decline(1, 1);
    federation.wait(2);
    federation.submit(1, 2);
    federation.submit(2, 2);
    federation.merged(2);
    let effects = federation.published(2);
    let reason = EndReason::RoundsCompleted { rounds: 2 };
    let last = model(1);
    assert_eq!(
        effects.last(),
        Some(&Effect::EndFederation { reason, last })
    );
    assert_eq!(
        federation.coordinator.assignment(&client(1)),
        Assignment::Ended { reason, last }
    );
    assert!(federation.arrive([1, 2, 3]).is_empty());
    assert_eq!(federation.coordinator.wake_at(), None);
    assert!(federation.step(Event::Stopped).is_empty());
    assert_eq!(federation.coordinator.ended(), Some(reason));
}

#[test]
fn stopping_abandons_the_open_round_and_releases_its_clients() {
    let mut federation = Federation::with(plan(3, 2), 3);
    federation.submit(1, 1);
    let effects = federation.step(Event::Stopped);
    assert_eq!(
        closed(&effects).unwrap().outcome,
        RoundOutcome::Abandoned(AbandonReason::Interrupted)
    );
    let reason = WithdrawReason::Stopped;
    assert_eq!(federation.outcome(2, 1), ClientOutcome::Silent { reason });
    assert!(matches!(
        federation.outcome(1, 1),
        ClientOutcome::Accepted { .. }
    ));
    assert!(matches!(
        effects.last(),
        Some(Effect::EndFederation {
            reason: EndReason::Stopped,
            ..
        })
    ));
    assert!(invited(&federation.wait(600)).is_empty());
}

#[test]
fn stopping_waits_for_a_publication_that_may_be_a_fact_already() {
    let mut federation = merging(plan(3, 2));
    federation.merged(1);
    assert!(federation.step(Event::Stopped).is_empty());
    let effects = federation.published(1);
    assert_eq!(
        closed(&effects).unwrap().outcome,
        RoundOutcome::Published(model(1))
    );
    assert_eq!(federation.coordinator.ended(), Some(EndReason::Stopped));
}

#[test]
fn stopping_between_rounds_ends_the_federation() {
    let mut federation = Federation::with(plan(3, 2), 1);
    assert_eq!(federation.step(Event::Stopped).len(), 1);
    assert_eq!(federation.coordinator.ended(), Some(EndReason::Stopped));
}

#[test]
fn updates_that_are_lost_are_left_out_where_the_quorum_holds() {
    let mut federation = Federation::with(plan(3, 2), 3);
    for number in 1..=3 {
        federation.submit(number, 1);
    }
    let effects = federation.lose(&[2], 1);
    assert_eq!(merge(&effects), Some(vec![client(1), client(3)]));
    assert!(accepts(&federation.submit(2, 1), 2), "a decision stands");
    let again = federation.restart();
    assert_eq!(merge(&again), Some(vec![client(1), client(3)]));
    federation.merged(1);
    federation.published(1);
    assert!(matches!(
        federation.outcome(2, 1),
        ClientOutcome::Lost { detail, .. } if detail == "no such file"
    ));
}

#[test]
fn a_round_whose_updates_are_lost_below_the_quorum_is_abandoned() {
    let mut federation = Federation::with(plan(3, 2), 3);
    for number in 1..=3 {
        federation.submit(number, 1);
    }
    let effects = federation.lose(&[2, 3], 1);
    let summary = closed(&effects).unwrap();
    assert!(summary.outcome.published().is_none());
    assert_eq!(summary.accepted(), 1);
}
