//! The gate before publishing: who is asked, when the verdict is due, and what it says.

use fedmerge_common::reason::{AbandonReason, Decline, DeclineKind};
use fedmerge_coordinator::{
    Coordinator, Effect, EvaluationOutcome, EvaluationRule, Event, Gain, GainSummary, Goal,
    LatePolicy, Measure, PlanError, RoundOutcome, RoundPlan, Score,
};

use super::federation::{
    Federation, accepts, client, closed, median_of_accuracy, model, plan, round, stored,
};

/// A federation of `clients` whose first round is merged and has its candidate evaluated.
fn evaluating(rule: EvaluationRule, clients: usize, quorum: usize) -> Federation {
    let plan = RoundPlan {
        evaluate: Some(rule),
        ..plan(clients, quorum)
    };
    let mut federation = Federation::with(plan, clients);
    for number in 1..=clients {
        federation.submit(number, 1);
    }
    let effects = federation.merged(1);
    let asked = match &effects[..] {
        [Effect::RequestEvaluations { clients, .. }] => clients.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(asked, clients);
    federation
}

fn three() -> Federation {
    evaluating(median_of_accuracy(-0.01), 3, 2)
}

fn report(federation: &mut Federation, number: usize, before: f64, after: f64) -> Vec<Effect> {
    federation.step(Event::EvaluationReported {
        client: client(number),
        round: round(1),
        before,
        after,
        num_examples: 10,
    })
}

fn decline(federation: &mut Federation, number: usize) -> Vec<Effect> {
    federation.step(Event::EvaluationDeclined {
        client: client(number),
        round: round(1),
        decline: no_evaluator(),
    })
}

fn no_evaluator() -> Decline {
    Decline::new(DeclineKind::NoEvaluator, "none here")
}

/// Those who are asked to evaluate, by number.
fn asked(effects: &[Effect]) -> Vec<usize> {
    let asked: Vec<_> = effects
        .iter()
        .filter_map(|effect| {
            let Effect::RequestEvaluations { clients, .. } = effect else {
                return None;
            };
            Some(clients)
        })
        .flatten()
        .collect();
    let numbers = 1..10;
    numbers
        .filter(|number| asked.contains(&&client(*number)))
        .collect()
}

fn publishes(effects: &[Effect]) -> bool {
    effects
        .iter()
        .any(|effect| matches!(effect, Effect::Publish { .. }))
}

fn abandonment(effects: &[Effect]) -> String {
    let outcome = &closed(effects).unwrap().outcome;
    let RoundOutcome::Abandoned(
        reason @ (AbandonReason::Regression { .. } | AbandonReason::NotEvaluated { .. }),
    ) = outcome
    else {
        panic!("{outcome:?}");
    };
    reason.to_string()
}

#[test]
fn a_gain_of_just_the_least_is_enough() {
    let rule = EvaluationRule {
        summary: GainSummary::Quantile(1.0),
        ..median_of_accuracy(0.25)
    };
    let mut federation = evaluating(rule, 3, 2);
    report(&mut federation, 1, 0.5, 0.75);
    report(&mut federation, 2, 0.5, 0.75);
    assert!(publishes(&report(&mut federation, 3, 0.5, 0.75)));
}

#[test]
fn where_less_is_better_a_fall_is_a_gain_and_a_rise_a_regression() {
    let rule = || EvaluationRule {
        metric: "loss".into(),
        goal: Goal::Min,
        ..median_of_accuracy(0.0)
    };
    let mut federation = evaluating(rule(), 2, 2);
    report(&mut federation, 1, 0.75, 0.5);
    assert!(publishes(&report(&mut federation, 2, 0.75, 0.5)));
    let mut federation = evaluating(rule(), 2, 2);
    report(&mut federation, 1, 0.5, 0.75);
    assert_eq!(
        abandonment(&report(&mut federation, 2, 0.5, 0.75)),
        "regression: the median of the gains in loss of 2 clients is -0.25, at least 0 is needed"
    );
}

#[test]
fn the_median_client_decides_and_one_liar_can_not_veto() {
    let mut federation = three();
    assert!(report(&mut federation, 1, 0.9, 0.0).is_empty());
    assert!(report(&mut federation, 2, 0.90, 0.92).is_empty());
    assert!(publishes(&report(&mut federation, 3, 0.90, 0.895)));
}

#[test]
fn one_liar_can_not_wave_a_bad_model_through() {
    let mut federation = three();
    report(&mut federation, 1, 0.0, 1.0);
    report(&mut federation, 2, 0.5, 0.25);
    let effects = report(&mut federation, 3, 0.5, 0.25);
    assert_eq!(
        abandonment(&effects),
        "regression: the median of the gains in accuracy of 3 clients is -0.25, at least -0.01 is needed"
    );
}

#[test]
fn a_trimmed_mean_hears_neither_the_liar_who_condemns_nor_the_one_who_praises() {
    let rule = EvaluationRule {
        summary: GainSummary::TrimmedMean { tolerate: 1 },
        ..median_of_accuracy(0.0)
    };
    for (honest, liar, is_published) in [(0.75, -1e300, true), (0.25, 1e300, false)] {
        let mut federation = evaluating(rule.clone(), 5, 3);
        report(&mut federation, 1, 0.5, liar);
        for number in 2..=4 {
            assert!(report(&mut federation, number, 0.5, honest).is_empty());
        }
        let effects = report(&mut federation, 5, 0.5, honest);
        assert_eq!(publishes(&effects), is_published, "{effects:?}");
        if !is_published {
            assert_eq!(
                abandonment(&effects),
                "regression: the mean without the 1 lowest and 1 highest of the gains in accuracy of 5 clients is -0.25, \
                 at least 0 is needed"
            );
        }
    }
}

#[test]
fn a_gain_that_is_no_number_counts_as_the_worst() {
    let mut federation = three();
    report(&mut federation, 1, f64::NAN, 1.0);
    report(&mut federation, 2, -f64::MAX, f64::MAX);
    let effects = report(&mut federation, 3, 0.5, 0.75);
    assert!(abandonment(&effects).contains("not a number"));
}

#[test]
fn a_second_answer_and_one_of_a_stranger_are_ignored() {
    let mut federation = three();
    report(&mut federation, 1, 0.5, 0.0);
    report(&mut federation, 1, 0.5, 1.0);
    decline(&mut federation, 1);
    report(&mut federation, 9, 0.5, 1.0);
    decline(&mut federation, 9);
    report(&mut federation, 2, 0.5, 0.0);
    assert!(abandonment(&report(&mut federation, 3, 0.5, 1.0)).contains("-0.5"));
}

#[test]
fn a_verdict_needs_as_many_reports_as_a_merge_needs_updates() {
    let mut federation = three();
    report(&mut federation, 1, 0.5, 0.75);
    assert_eq!(
        abandonment(&federation.wait(600)),
        "not evaluated: 1 of 2 evaluations reported (0 declined, 2 silent)"
    );
    let mut federation = three();
    report(&mut federation, 1, 0.5, 0.75);
    report(&mut federation, 2, 0.5, 0.75);
    federation.leave(3);
    assert!(federation.wait(29).is_empty());
    assert!(publishes(&federation.wait(1)));
}

#[test]
fn whoever_declines_is_not_waited_for() {
    let mut federation = three();
    assert!(decline(&mut federation, 1).is_empty());
    assert!(federation.coordinator.evaluation(&client(1)).is_none());
    report(&mut federation, 2, 0.5, 0.75);
    assert!(publishes(&report(&mut federation, 3, 0.5, 0.75)));
}

#[test]
fn nobody_is_waited_for_once_too_few_can_report() {
    let mut federation = three();
    decline(&mut federation, 1);
    let effects = decline(&mut federation, 3);
    assert_eq!(
        abandonment(&effects),
        "not evaluated: 0 of 2 evaluations reported (2 declined, 1 silent)"
    );
    assert_eq!(*federation.coordinator.base(), model(0));
}

#[test]
fn the_story_of_a_round_keeps_what_each_client_answered_when_published_too() {
    let mut federation = three();
    report(&mut federation, 1, 0.5, 0.75);
    decline(&mut federation, 2);
    federation.leave(3);
    report(&mut federation, 3, 0.5, 0.75);
    federation.restart();
    let effects = federation.published(1);
    let evaluations = &closed(&effects).unwrap().evaluations;
    let reported = EvaluationOutcome::Reported {
        gain: Gain(Some(0.25)),
        after: Measure(Some(0.75)),
        num_examples: 10,
    };
    assert_eq!(
        evaluations.values().collect::<Vec<_>>(),
        [
            &reported,
            &EvaluationOutcome::Declined(no_evaluator()),
            &reported
        ]
    );
}

#[test]
fn a_published_model_is_scored_by_what_clients_measured_of_it() {
    let mut federation = three();
    report(&mut federation, 1, 0.5, 0.75);
    report(&mut federation, 2, 0.5, 1e9);
    let effects = report(&mut federation, 3, 0.5, 0.625);
    let expected = Score {
        metric: "accuracy".into(),
        goal: Goal::Max,
        value: Measure(Some(0.75)),
    };
    let publishes = |effects: &[Effect]| {
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Publish { score, .. } if *score == Some(expected.clone())))
    };
    assert!(publishes(&effects));
    assert!(publishes(&federation.restart()));
}

#[test]
fn stopping_keeps_the_answers_that_came_and_calls_the_others_silent() {
    let mut federation = three();
    report(&mut federation, 1, 0.5, f64::NAN);
    let effects = federation.step(Event::Stopped);
    let evaluations = &closed(&effects).unwrap().evaluations;
    assert_eq!(
        evaluations[&client(1)],
        EvaluationOutcome::Reported {
            gain: Gain(None),
            after: Measure(None),
            num_examples: 10
        }
    );
    assert_eq!(evaluations[&client(3)], EvaluationOutcome::Silent);
}

#[test]
fn a_client_that_comes_back_is_asked_again_to_evaluate() {
    let mut federation = three();
    federation.leave(2);
    let effects = federation.arrive([2]);
    assert!(
        matches!(&effects[..], [Effect::RequestEvaluations { clients, .. }] if clients.contains(&client(2)) && clients.len() == 1)
    );
    let task = federation.coordinator.evaluation(&client(2)).unwrap();
    assert_eq!((task.base, task.candidate), (model(0), model(1)));
    assert_eq!(task.metric, "accuracy");
    report(&mut federation, 2, 0.5, 0.5);
    assert!(federation.coordinator.evaluation(&client(2)).is_none());
}

#[test]
fn a_client_is_asked_in_the_round_in_which_its_late_update_counts_and_not_before() {
    let plan = RoundPlan {
        evaluate: Some(median_of_accuracy(-0.01)),
        late: LatePolicy::Carry,
        max_staleness: 2,
        ..plan(3, 2)
    };
    let mut federation = Federation::with(plan, 3);
    federation.submit(1, 1);
    federation.submit(2, 1);
    federation.wait(600);
    assert_eq!(asked(&federation.merged(1)), [1, 2]);
    assert!(federation.is_invited(3), "its task goes on");
    assert!(accepts(&federation.submit(3, 1), 3), "while evaluating");
    assert!(asked(&federation.arrive([3])).is_empty());
    assert_eq!(federation.coordinator.evaluation(&client(3)), None);
    report(&mut federation, 1, 0.5, 0.5);
    assert!(publishes(&report(&mut federation, 2, 0.5, 0.5)));
    federation.published(1);
    federation.submit(1, 2);
    federation.submit(2, 2);
    assert_eq!(asked(&federation.merged(2)), [1, 2, 3]);
}

#[test]
fn the_view_names_the_candidate_and_whoever_still_evaluates_it() {
    let mut federation = three();
    report(&mut federation, 2, 0.5, 0.75);
    let view = federation.coordinator.view();
    assert_eq!(
        view.waiting_for,
        "1 of 3 evaluations, missing client-1 and client-3, until 12:10:00 UTC"
    );
    let evaluation = view.evaluation.unwrap();
    assert_eq!(evaluation.task.candidate, model(1));
    assert!(
        evaluation
            .asked
            .into_iter()
            .eq([1, 3].into_iter().map(client))
    );
    report(&mut federation, 1, 0.5, 0.75);
    report(&mut federation, 3, 0.5, 0.75);
    assert_eq!(federation.phase(), "publishing");
    assert_eq!(federation.coordinator.view().evaluation, None);
}

#[test]
fn a_record_from_before_the_gate_is_still_read() {
    let mut federation = Federation::with(plan(2, 2), 2);
    federation.submit(1, 1);
    let text = serde_json::to_string(&federation.coordinator.record()).unwrap();
    assert!(!text.contains("evaluations"), "{text}");
    federation.decline(2, 1);
    let record = federation.coordinator.record();
    let text = serde_json::to_string(&record).unwrap();
    assert!(!text.contains("evaluations"), "{text}");
    assert!(Coordinator::restore(plan(2, 2), stored(&record)).is_ok());
}

#[test]
fn a_gate_that_can_not_work_is_refused_with_its_arithmetic() {
    let checked = |rule, quorum| {
        let plan = RoundPlan {
            evaluate: Some(rule),
            ..plan(5, quorum)
        };
        plan.check()
    };
    let trimmed = |tolerate| EvaluationRule {
        summary: GainSummary::TrimmedMean { tolerate },
        ..median_of_accuracy(0.0)
    };
    let quantile = |quantile| EvaluationRule {
        summary: GainSummary::Quantile(quantile),
        ..median_of_accuracy(0.0)
    };
    assert_eq!(checked(trimmed(1), 3), Ok(()));
    let refused = checked(trimmed(2), 4).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "`quorum` is 4, but leaving out the 2 lowest and highest gains needs 2 × 2 + 1 = 5 evaluations"
    );
    assert!(checked(trimmed(usize::MAX), 5).is_err());
    let key = "evaluate.accept.tolerate";
    assert_eq!(checked(trimmed(0), 3), Err(PlanError::Zero { key }));
    for wrong in [-0.1, 1.1, f64::NAN] {
        assert!(checked(quantile(wrong), 3).is_err(), "{wrong}");
    }
    assert!(checked(median_of_accuracy(f64::INFINITY), 3).is_err());
}
