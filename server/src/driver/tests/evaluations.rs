//! The gate before publishing: who is asked, that answers are durable, and what a restart goes on with.

use fedmerge_common::reason::{Decline, DeclineKind};
use fedmerge_coordinator::{
    EvaluationOutcome, EvaluationRule, Gain, GainSummary, Goal, Measure, RoundPlan,
};
use fedmerge_proto::v1::notice::State;

use super::*;

fn gated() -> RoundPlan {
    RoundPlan {
        quorum: 1,
        evaluate: Some(EvaluationRule {
            metric: "accuracy".to_owned(),
            goal: Goal::Max,
            min_gain: 0.0,
            summary: GainSummary::Quantile(0.5),
        }),
        ..plan(2, 1)
    }
}

/// Waits until a client is told to evaluate.
async fn request(seat: &mut Seat) -> fedmerge_proto::v1::Evaluation {
    let asked =
        |notice: &fedmerge_proto::v1::Notice| matches!(&notice.state, Some(State::Evaluation(_)));
    let notice = seat.notices.wait_for(asked).await.unwrap().clone();
    match notice.state {
        Some(State::Evaluation(request)) => request,
        Some(State::Standby(_) | State::Invitation(_) | State::Ended(_)) | None => {
            unreachable!("was waited for")
        }
    }
}

fn is_asked(seat: &Seat) -> bool {
    matches!(seat.notices.borrow().state, Some(State::Evaluation(_)))
}

/// Both clients of a gated round are asked to evaluate its candidate; a third only attends.
async fn evaluating(bed: &Bed) -> (Running, Seat, Seat, Seat) {
    let running = bed.start(gated(), Stay::Always).await;
    let (mut one, mut two) = (
        running.attend("ward-1").await,
        running.attend("ward-2").await,
    );
    let other = running.attend("ward-3").await;
    for seat in [&mut one, &mut two] {
        invitation(seat).await;
    }
    running.submit(1, bed.update(1, "ward-1", 1, ONE)).await;
    running.submit(1, bed.update(1, "ward-2", 1, TWO)).await;
    for seat in [&mut one, &mut two] {
        let request = request(seat).await;
        assert_eq!((request.round, request.metric.as_str()), (1, "accuracy"));
        assert_eq!(request.base, Some(bed.base.into()));
        let candidate = Digest::of_file(&bed.candidate()).unwrap();
        assert_eq!(request.candidate.unwrap().digest, Some(candidate.into()));
    }
    (running, one, two, other)
}

async fn report(running: &Running, name: &str, after: f64) {
    let event = Event::EvaluationReported {
        client: client(name),
        round: RoundNumber::new(1),
        before: 0.5,
        after,
        num_examples: 36,
    };
    running.federation.report(event).await.unwrap();
}

#[tokio::test]
async fn the_clients_of_a_round_are_asked_and_their_verdict_publishes() {
    let bed = Bed::new();
    let (running, one, two, other) = evaluating(&bed).await;
    assert!(!is_asked(&other), "a client that took no part was asked");
    assert_eq!(running.federation.now().base, bed.base);
    report(&running, "ward-1", 0.75).await;
    assert!(!is_asked(&one) && is_asked(&two));
    report(&running, "ward-2", 0.75).await;
    let view = running.until(|view| view.rounds_ended == 1).await;
    assert_eq!(view.base.version.get(), 1);
    assert!(!is_asked(&two));
    let newest = running.ledger.newest_model().await.unwrap().unwrap();
    assert_eq!(newest.score.unwrap().value, Measure(Some(0.75)));
}

#[tokio::test]
async fn a_worse_candidate_is_abandoned_removed_and_told_with_what_each_answered() {
    let bed = Bed::new();
    let (running, _one, _two, _other) = evaluating(&bed).await;
    report(&running, "ward-1", 0.25).await;
    let event = Event::EvaluationDeclined {
        client: client("ward-2"),
        round: RoundNumber::new(1),
        decline: Decline::new(DeclineKind::NoEvaluator, "none here"),
    };
    running.federation.report(event).await.unwrap();
    let view = running.until(|view| view.rounds_ended == 1).await;
    assert_eq!(view.base, bed.base);
    while bed.candidate().exists() {
        tokio::task::yield_now().await;
    }
    let stories = running.ledger.rounds(Rounds::Newest(9)).await.unwrap();
    let evaluations = &stories[0].summary.evaluations;
    assert_eq!(
        evaluations[&client("ward-1")],
        EvaluationOutcome::Reported {
            gain: Gain(Some(-0.25)),
            after: Measure(Some(0.25)),
            num_examples: 36
        }
    );
    let closed = crate::closed_round::ClosedRound::new(
        &stories[0].summary,
        stories[0].merge_ms,
        &bed.directory,
    );
    assert_eq!(
        closed.reason,
        "regression: the median of the gains in accuracy of 1 client is -0.25, at least 0 is needed"
    );
    let words: Vec<String> = closed
        .clients
        .iter()
        .filter_map(|one| one.evaluation.as_ref())
        .map(crate::closed_round::ClosedEvaluation::in_words)
        .collect();
    assert_eq!(
        words,
        [
            "gain -0.25 on 36 examples",
            "declined: no-evaluator: none here"
        ]
    );
}

#[tokio::test]
async fn an_answer_is_in_the_ledger_before_it_is_acknowledged() {
    let bed = Bed::new();
    let (running, _one, _two, _other) = evaluating(&bed).await;
    assert!(!written(&bed).await.contains("0.03125"));
    report(&running, "ward-1", 0.531_25).await;
    assert!(written(&bed).await.contains("0.03125"));
}

#[tokio::test]
async fn a_crash_while_evaluating_loses_no_answer_and_asks_the_others_again() {
    let bed = Bed::new();
    let (running, _one, _two, _other) = evaluating(&bed).await;
    report(&running, "ward-1", 0.75).await;
    running.crash().await;

    let running = bed.start(gated(), Stay::Always).await;
    let one = running.attend("ward-1").await;
    assert!(!is_asked(&one));
    let mut two = running.attend("ward-2").await;
    let candidate = request(&mut two).await.candidate.unwrap();
    assert!(bed.candidate().exists());
    report(&running, "ward-2", 0.75).await;
    let view = running.until(|view| view.rounds_ended == 1).await;
    assert_eq!(candidate, view.base.into());
}
