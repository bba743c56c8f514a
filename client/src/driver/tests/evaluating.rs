//! A client that is asked to evaluate what became of its update.

use fedmerge_proto::v1::report_evaluation_request::Outcome;

use super::*;

/// A play whose server asks for the evaluation of six ones of another shape.
fn gated(evaluator: Option<&str>) -> Play {
    let mut play = play();
    let path = play.root.path().join("candidate.safetensors");
    play.theatre.candidate = Some(checkpoint(&path, [3, 2]));
    play.evaluator = evaluator.map(str::to_owned);
    play
}

fn declined(seen: &Seen) -> &v1::EvaluationDeclined {
    assert_eq!(seen.evaluations.len(), 1);
    assert_eq!(seen.begun.len(), 1, "the update was sent all the same");
    match &seen.evaluations[0].outcome {
        Some(Outcome::Declined(declined)) => declined,
        other @ (Some(Outcome::Comparison(_)) | None) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_client_measures_the_base_and_the_candidate_and_reports_both() {
    // Better where the shape of the candidate stands in the file's header.
    let command = "if grep -q '\\[3,2\\]' \"$FEDMERGE_BASE\"; then accuracy=0.75; else accuracy=0.5; fi; \
                   echo \"{\\\"num_examples\\\":36,\\\"metrics\\\":{\\\"accuracy\\\":$accuracy}}\"";
    let (result, seen) = perform(gated(Some(command)), COPY).await;
    result.unwrap();
    let expected = v1::Comparison {
        before: 0.5,
        after: 0.75,
        num_examples: 36,
    };
    assert_eq!(seen.evaluations.len(), 1);
    assert_eq!(seen.evaluations[0].round, 3);
    assert_eq!(
        seen.evaluations[0].outcome,
        Some(Outcome::Comparison(expected))
    );
}

#[tokio::test]
async fn a_client_without_evaluator_declines_politely() {
    let (result, seen) = perform(gated(None), COPY).await;
    result.unwrap();
    assert_eq!(declined(&seen).kind(), v1::DeclineKind::NoEvaluator);
}

#[tokio::test]
async fn a_failed_evaluator_is_a_decline_with_its_words() {
    let play = gated(Some("echo 'no held-out data' >&2; exit 1"));
    let (result, seen) = perform(play, COPY).await;
    result.unwrap();
    let declined = declined(&seen);
    assert_eq!(declined.kind(), v1::DeclineKind::EvaluatorFailed);
    assert!(declined.detail.ends_with("no held-out data"));
}

#[tokio::test]
async fn a_stop_kills_the_evaluator_declines_and_ends_well() {
    let mut play = gated(None);
    let (started, command) = play.sleeper();
    play.evaluator = Some(command);
    let root = std::mem::replace(&mut play.root, tempfile::tempdir().unwrap());
    let stop = {
        let started = started.clone();
        |_| async move { appears(&started).await }
    };
    let (result, seen) = perform_until(stop, play, COPY).await;
    result.unwrap();
    assert_eq!(declined(&seen).kind(), v1::DeclineKind::Interrupted);
    let process = fs::read_to_string(&started).unwrap();
    let pid = Pid::from_raw(process.trim().parse().unwrap()).unwrap();
    let patience = Instant::now() + Duration::from_secs(10);
    while is_at_work(pid) {
        assert!(
            Instant::now() < patience,
            "the evaluator outlived its client"
        );
        tokio::task::yield_now().await;
    }
    drop(root);
}
