//! From the merge to the next base, and the ends of rounds and federations.

use fedmerge_common::reason::AbandonReason;
use fedmerge_coordinator::{
    Assignment, ClientOutcome, Effect, EndReason, EvaluationRule, Event, RoundOutcome, RoundPlan,
    WithdrawReason,
};

use super::federation::{Federation, client, closed, invited, model, plan, round};

/// A federation of three whose first round merges.
fn merging(plan: RoundPlan) -> Federation {
    let mut federation = Federation::with(plan, 3);
    for number in 1..=3 {
        federation.submit(number, 1);
    }
    assert_eq!(federation.phase(), "merging");
    federation
}

fn evaluated() -> RoundPlan {
    RoundPlan {
        evaluate: Some(EvaluationRule {
            min_gain: -0.01,
            quantile: 0.5,
        }),
        ..plan(3, 2)
    }
}

fn report(federation: &mut Federation, number: usize, before: f64, after: f64) -> Vec<Effect> {
    federation.step(Event::EvaluationReported {
        client: client(number),
        round: round(1),
        before,
        after,
    })
}

fn publishes(effects: &[Effect]) -> bool {
    effects
        .iter()
        .any(|effect| matches!(effect, Effect::Publish { .. }))
}

fn regression(effects: &[Effect]) -> String {
    let outcome = &closed(effects).unwrap().outcome;
    let RoundOutcome::Abandoned(AbandonReason::Regression { detail }) = outcome else {
        panic!("{outcome:?}");
    };
    detail.clone()
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
fn a_gain_of_just_the_least_is_enough() {
    let rule = EvaluationRule {
        min_gain: 0.25,
        quantile: 1.0,
    };
    let mut federation = merging(RoundPlan {
        evaluate: Some(rule),
        ..plan(3, 2)
    });
    federation.merged(1);
    report(&mut federation, 1, 0.5, 0.75);
    report(&mut federation, 2, 0.5, 0.75);
    assert!(publishes(&report(&mut federation, 3, 0.5, 0.75)));
}

#[test]
fn the_median_client_decides_and_one_liar_can_not_veto() {
    let mut federation = merging(evaluated());
    let effects = federation.merged(1);
    assert!(
        matches!(&effects[..], [Effect::RequestEvaluations { clients, .. }] if clients.len() == 3)
    );
    assert!(report(&mut federation, 1, 0.9, 0.0).is_empty());
    assert!(report(&mut federation, 2, 0.90, 0.92).is_empty());
    assert!(publishes(&report(&mut federation, 3, 0.90, 0.895)));
}

#[test]
fn one_liar_can_not_wave_a_bad_model_through() {
    let mut federation = merging(evaluated());
    federation.merged(1);
    report(&mut federation, 1, 0.0, 1.0);
    report(&mut federation, 2, 0.5, 0.25);
    let effects = report(&mut federation, 3, 0.5, 0.25);
    assert_eq!(
        regression(&effects),
        "the 0.5 quantile of 3 clients' gains is -0.25, at least -0.01 is needed"
    );
}

#[test]
fn a_gain_that_is_no_number_counts_as_the_worst() {
    let mut federation = merging(evaluated());
    federation.merged(1);
    report(&mut federation, 1, f64::NAN, 1.0);
    report(&mut federation, 2, -f64::MAX, f64::MAX);
    let effects = report(&mut federation, 3, 0.5, 0.75);
    assert!(regression(&effects).contains("not a number"));
}

#[test]
fn a_second_report_and_one_of_a_stranger_are_ignored() {
    let mut federation = merging(evaluated());
    federation.merged(1);
    report(&mut federation, 1, 0.5, 0.0);
    report(&mut federation, 1, 0.5, 1.0);
    report(&mut federation, 9, 0.5, 1.0);
    report(&mut federation, 2, 0.5, 0.0);
    assert!(regression(&report(&mut federation, 3, 0.5, 1.0)).contains("-0.5"));
}

#[test]
fn a_verdict_needs_as_many_reports_as_a_merge_needs_updates() {
    let mut federation = merging(evaluated());
    federation.merged(1);
    report(&mut federation, 1, 0.5, 0.75);
    assert_eq!(
        regression(&federation.wait(600)),
        "1 of 3 clients evaluated the candidate, 2 are needed"
    );
    let mut federation = merging(evaluated());
    federation.merged(1);
    report(&mut federation, 1, 0.5, 0.75);
    report(&mut federation, 2, 0.5, 0.75);
    federation.leave(3);
    assert!(federation.wait(29).is_empty());
    assert!(publishes(&federation.wait(1)));
}

#[test]
fn a_client_that_comes_back_is_asked_again_to_evaluate() {
    let mut federation = merging(evaluated());
    federation.merged(1);
    federation.leave(2);
    let effects = federation.arrive([2]);
    assert!(
        matches!(&effects[..], [Effect::RequestEvaluations { clients, .. }] if clients.contains(&client(2)) && clients.len() == 1)
    );
    assert!(federation.coordinator.evaluation(&client(2)).is_some());
    report(&mut federation, 2, 0.5, 0.5);
    assert!(federation.coordinator.evaluation(&client(2)).is_none());
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
