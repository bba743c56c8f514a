//! From a request to evaluate to the answer, and what comes between.

use fedmerge_proto::convert::evaluation::{Comparison, EvaluationReport, EvaluationRequest};

use super::*;
use crate::trainer::Measurement;

fn request(number: u64) -> EvaluationRequest {
    EvaluationRequest {
        round: round(number),
        base: base(number - 1),
        candidate: base(number),
        metric: "accuracy".to_owned(),
        deadline: Timestamp::new(2_000),
    }
}

pub(super) fn asked(number: u64) -> Event {
    Event::NoticeReceived(Notice::Evaluate(request(number)))
}

fn measured(number: u64, model: ModelRef, metrics: &[(&str, f64)]) -> Event {
    Event::ModelMeasured {
        round: round(number),
        digest: model.digest,
        measurement: Measurement {
            num_examples: Some(36),
            metrics: metrics
                .iter()
                .map(|(name, value)| ((*name).to_owned(), *value))
                .collect(),
        },
    }
}

fn accuracy(number: u64, model: ModelRef, value: f64) -> Event {
    measured(number, model, &[("accuracy", value), ("loss", 0.5)])
}

fn reported(number: u64, before: f64, after: f64) -> Effect {
    Effect::Report(EvaluationReport {
        round: round(number),
        outcome: Ok(Comparison {
            before,
            after,
            num_examples: 36,
        }),
    })
}

fn declined(number: u64, decline: Decline) -> Effect {
    Effect::Report(EvaluationReport {
        round: round(number),
        outcome: Err(decline),
    })
}

/// An agent that measures the candidate of round 3.
fn evaluating() -> Agent {
    agent_after(Stay::WhileItLasts, [asked(3), accuracy(3, base(2), 0.5)])
}

#[test]
fn base_and_candidate_are_measured_one_after_the_other_and_reported() {
    let mut agent = Agent::new(Stay::WhileItLasts, Evaluator::Present, None);
    assert_eq!(agent.step(asked(3)), [Effect::Measure(request(3), base(2))]);
    assert_eq!(
        agent.step(accuracy(3, base(2), 0.5)),
        [Effect::Measure(request(3), base(3))]
    );
    let effects = agent.step(accuracy(3, base(3), 0.75));
    assert_eq!(
        lines(&effects),
        ["round 3: evaluated model 3: accuracy 0.500 → 0.750 on 36 examples"]
    );
    assert_eq!(effects[1..], [reported(3, 0.5, 0.75)]);
    assert_eq!(agent.step(asked(3)), [], "the echo of an answered request");
    assert_eq!(agent.step(invited(4)), [Effect::Download(task(4))]);
}

#[test]
fn a_candidate_that_became_the_base_is_not_measured_again() {
    let mut agent = evaluating();
    agent.step(accuracy(3, base(3), 0.75));
    assert_eq!(agent.step(asked(4)), [Effect::Measure(request(4), base(4))]);
    let effects = agent.step(accuracy(4, base(4), 0.625));
    assert_eq!(effects[1..], [reported(4, 0.75, 0.625)]);
}

#[test]
fn a_base_whose_candidate_was_abandoned_is_not_measured_again() {
    let mut agent = evaluating();
    agent.step(accuracy(3, base(3), 0.25));
    let next = EvaluationRequest {
        round: round(4),
        candidate: base(9),
        ..request(3)
    };
    let effects = agent.step(Event::NoticeReceived(Notice::Evaluate(next.clone())));
    assert_eq!(effects, [Effect::Measure(next, base(9))]);
}

#[test]
fn a_site_without_evaluator_declines_each_time_and_says_so_once() {
    let mut agent = Agent::new(Stay::WhileItLasts, Evaluator::Absent, None);
    for (number, told) in [(3, 1), (4, 0)] {
        let effects = agent.step(asked(number));
        assert_eq!(lines(&effects).len(), told, "{effects:?}");
        assert!(
            matches!(
                effects.last(),
                Some(Effect::Report(EvaluationReport { outcome: Err(decline), .. }))
                    if decline.kind == DeclineKind::NoEvaluator
            ),
            "{effects:?}"
        );
    }
}

#[test]
fn an_evaluator_that_does_not_know_the_metric_is_a_decline_that_says_what_it_knows() {
    for (metrics, words) in [
        (
            &[("loss", 0.5), ("f1", 0.4)][..],
            "the evaluator reported no `accuracy`, only f1, loss",
        ),
        (
            &[],
            "the evaluator reported no `accuracy`, no metric at all: it prints {\"metrics\": {…}} on stdout",
        ),
    ] {
        let mut agent = Agent::new(Stay::WhileItLasts, Evaluator::Present, None);
        agent.step(asked(3));
        let effects = agent.step(measured(3, base(2), metrics));
        let decline = Decline::new(DeclineKind::EvaluatorFailed, words);
        assert_eq!(effects[1..], [declined(3, decline)]);
    }
}

#[test]
fn a_failed_evaluation_is_declined_and_the_client_goes_on() {
    let mut agent = evaluating();
    let why = decline(DeclineKind::EvaluatorTimedOut);
    let effects = agent.step(Event::EvaluationFailed {
        round: round(3),
        decline: why.clone(),
    });
    assert_eq!(
        lines(&effects),
        ["round 3: the merged model is not evaluated here (evaluator-timed-out): because"]
    );
    assert_eq!(effects[1..], [declined(3, why)]);
    assert_eq!(agent.step(asked(3)), []);
    assert_eq!(agent.step(asked(4)), [Effect::Measure(request(4), base(3))]);
}

#[test]
fn a_request_while_the_server_decides_waits_for_the_decision() {
    let mut agent = agent_after(Stay::WhileItLasts, path(3));
    assert_eq!(agent.step(asked(3)), []);
    let effects = agent.step(accepted(3));
    assert_eq!(lines(&effects), ["round 3: accepted"]);
    assert_eq!(effects[1..], [Effect::Measure(request(3), base(2))]);
}

#[test]
fn a_task_and_an_evaluation_never_run_at_once() {
    let mut agent = evaluating();
    let effects = agent.step(invited(4));
    assert_eq!(effects[0], Effect::Abort);
    assert_eq!(
        lines(&effects),
        ["round 3: over before this client had evaluated the merged model"]
    );
    assert_eq!(effects.last(), Some(&Effect::Download(task(4))));

    for steps in 1..=4 {
        let mut agent = agent_after(Stay::WhileItLasts, path(3).into_iter().take(steps));
        let effects = agent.step(asked(3));
        assert_eq!(effects[0], Effect::Abort, "{steps}");
        assert_eq!(effects.last(), Some(&Effect::Measure(request(3), base(2))));
    }
}

#[test]
fn a_lost_link_and_a_repeated_request_stop_no_evaluation() {
    let mut agent = evaluating();
    let later = EvaluationRequest {
        deadline: Timestamp::new(9_000),
        ..request(3)
    };
    assert_eq!(agent.step(Event::LinkLost), []);
    assert_eq!(
        agent.step(Event::NoticeReceived(Notice::Evaluate(later))),
        []
    );
    let effects = agent.step(accuracy(3, base(3), 0.75));
    assert_eq!(effects.last(), Some(&reported(3, 0.5, 0.75)));
}

#[test]
fn late_measurements_are_ignored() {
    let mut agent = evaluating();
    agent.step(standby("6 clients", "round 3 published model 3"));
    assert_eq!(agent.step(accuracy(3, base(3), 0.75)), []);
    let late = Event::EvaluationFailed {
        round: round(3),
        decline: decline(DeclineKind::Storage),
    };
    assert_eq!(agent.step(late.clone()), []);
    agent.step(asked(4));
    assert_eq!(agent.step(late), []);
    assert_eq!(agent.step(accuracy(3, base(3), 0.75)), []);
}

#[test]
fn a_stop_declines_the_evaluation_in_hand_and_leaves() {
    let mut agent = evaluating();
    let effects = agent.step(Event::StopAsked);
    assert_eq!(effects[0], Effect::Abort);
    assert!(
        matches!(
            &effects[2],
            Effect::Report(EvaluationReport { outcome: Err(decline), .. })
                if decline.kind == DeclineKind::Interrupted
        ),
        "{effects:?}"
    );
    assert_eq!(effects.last(), Some(&Effect::Leave));
}

#[test]
fn the_end_of_the_federation_ends_the_evaluation() {
    let mut agent = evaluating();
    let effects = agent.step(ended());
    assert_eq!(effects[0], Effect::Abort);
    assert_eq!(effects.last(), Some(&Effect::Leave));
}
