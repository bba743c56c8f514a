//! Real commands, well behaved and not.

#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use fedmerge_common::digest::Digest;
use fedmerge_common::ids::{ModelVersion, RoundNumber};
use fedmerge_common::reason::DeclineKind;
use fedmerge_common::units::Timestamp;
use fedmerge_common::update::ModelRef;
use fedmerge_proto::convert::evaluation::EvaluationRequest;

use super::*;

struct Trial {
    _root: tempfile::TempDir,
    place: EvaluationPlace,
}

fn trial() -> Trial {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("model.safetensors");
    std::fs::write(&path, "model").unwrap();
    let model = |version| ModelRef {
        version: ModelVersion::new(version),
        digest: Digest::of(b"model"),
        size_bytes: 5,
    };
    let request = EvaluationRequest {
        round: RoundNumber::new(3),
        base: model(2),
        candidate: model(3),
        metric: "accuracy".to_owned(),
        deadline: Timestamp::new(77),
    };
    let (federation, client) = ("digits".parse().unwrap(), "ward-3".parse().unwrap());
    let work = root.path().join("work");
    let place = EvaluationPlace::prepare(
        &work,
        &request,
        (&request.candidate, path),
        (&federation, &client),
    )
    .unwrap();
    Trial { _root: root, place }
}

async fn run(trial: &Trial, command: &str) -> Result<Measurement, Decline> {
    let evaluator = EvaluatorCommand {
        command: command.to_owned(),
        time_limit: Millis::from_secs(60),
    };
    evaluator.run(&trial.place).await
}

#[tokio::test]
async fn an_evaluator_gets_its_model_and_is_heard() {
    let command = r#"
        test "$FEDMERGE_ROUND" = 3 && test -z "$FEDMERGE_OUT" && test "$(cat "$FEDMERGE_BASE")" = model &&
        echo '{"num_examples":36,"metrics":{"accuracy":0.75}}'
    "#;
    let measurement = run(&trial(), command).await.unwrap();
    assert_eq!(measurement.num_examples, Some(36));
    assert_eq!(measurement.metrics.get("accuracy"), Some(&0.75));
}

#[tokio::test]
async fn the_config_of_an_evaluator_says_what_it_measures() {
    let trial = trial();
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&trial.place.config).unwrap()).unwrap();
    assert_eq!(config["federation"], "digits");
    assert_eq!(config["client"], "ward-3");
    assert_eq!(config["metric"], "accuracy");
    assert_eq!(config["base"]["version"], 3);
    assert_eq!(config["base"]["path"], trial.place.model.to_str().unwrap());
    assert_eq!(config["deadline_ms"], 77);
}

#[tokio::test]
async fn an_evaluator_that_fails_declines_with_its_last_words() {
    let decline = run(&trial(), "echo 'no held-out data' >&2; exit 4")
        .await
        .unwrap_err();
    assert_eq!(decline.kind, DeclineKind::EvaluatorFailed);
    assert_eq!(
        decline.detail,
        "the evaluator ended with exit status: 4: no held-out data"
    );
}

#[tokio::test]
async fn an_evaluator_that_measures_what_is_no_number_declines_and_quotes_it() {
    let line = r#"{"num_examples":36,"metrics":{"accuracy":NaN}}"#;
    let decline = run(&trial(), &format!("echo '{line}'")).await.unwrap_err();
    assert_eq!(decline.kind, DeclineKind::EvaluatorFailed);
    assert!(
        decline.detail.starts_with("the evaluator printed") && decline.detail.contains(line),
        "{decline}"
    );
}

#[tokio::test]
async fn an_evaluator_past_its_limit_is_killed_and_declines() {
    let evaluator = EvaluatorCommand {
        command: "echo stuck >&2; sleep 1000".to_owned(),
        time_limit: Millis::new(300),
    };
    let decline = evaluator.run(&trial().place).await.unwrap_err();
    assert_eq!(decline.kind, DeclineKind::EvaluatorTimedOut);
    assert_eq!(
        decline.detail,
        "the evaluator ran past its limit of 300ms: stuck"
    );
}
