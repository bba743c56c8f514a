//! Real commands, well behaved and not.

#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use fedmerge_common::digest::Digest;
use fedmerge_common::ids::{ModelVersion, RoundNumber};
use fedmerge_common::reason::DeclineKind;
use fedmerge_common::task_vector::Encoding;
use fedmerge_common::task_vector::encoding::Density;
use fedmerge_common::units::{ByteSize, Timestamp};
use fedmerge_common::update::ModelRef;
use rustix::process::{Pid, test_kill_process};
use tokio::time::Instant;

use super::*;
use crate::task::Task;

struct Trial {
    root: tempfile::TempDir,
    place: Workplace,
}

fn trial() -> Trial {
    let root = tempfile::tempdir().unwrap();
    let base = root.path().join("base.safetensors");
    fs::write(&base, "base").unwrap();
    let task = Task {
        round: RoundNumber::new(3),
        base: ModelRef {
            version: ModelVersion::new(2),
            digest: Digest::of(b"base"),
            size_bytes: 4,
        },
        deadline: Timestamp::new(77),
        encodings: vec![Encoding::Bf16],
        density: Density::default(),
        max_update_bytes: ByteSize::new(1_000),
        step_back: None,
        doubt: None,
        noise: None,
    };
    let (federation, client) = ("digits".parse().unwrap(), "ward-3".parse().unwrap());
    let place = Workplace::prepare(
        &root.path().join("work"),
        &task,
        base,
        (&federation, &client),
    )
    .unwrap();
    Trial { root, place }
}

async fn run_within(
    trial: &Trial,
    command: &str,
    time_limit: Millis,
) -> (Result<Trained, Decline>, Progress) {
    let (sender, seen) = watch::channel(Progress::default());
    let trainer = TrainerCommand {
        command: command.to_owned(),
        time_limit,
    };
    let result = trainer.run(&trial.place, &sender).await;
    let last = *seen.borrow();
    (result, last)
}

async fn run(trial: &Trial, command: &str) -> Result<Trained, Decline> {
    run_within(trial, command, Millis::from_secs(60)).await.0
}

/// Waits until a process is gone or only waits to be reaped, which a kill takes a moment to do.
async fn gone(process: i32) {
    let pid = Pid::from_raw(process).unwrap();
    let patience = Instant::now() + Duration::from_secs(10);
    while test_kill_process(pid).is_ok() {
        assert!(Instant::now() < patience, "process {process} goes on");
        let state = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        if state
            .rsplit_once(") ")
            .is_none_or(|(_, rest)| rest.starts_with('Z'))
        {
            return;
        }
        tokio::task::yield_now().await;
    }
}

fn pid_in(path: &PathBuf) -> i32 {
    fs::read_to_string(path).unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn a_trainer_gets_its_task_and_is_heard() {
    let trial = trial();
    let command = r#"
        test "$FEDMERGE_ROUND" = 3 && cp "$FEDMERGE_BASE" "$FEDMERGE_OUT" && grep -q '"client": "ward-3"' "$FEDMERGE_CONFIG"
        code=$?
        echo '{"progress":0.5,"loss":0.25}'
        echo '{"num_examples":1280,"metrics":{"accuracy":0.9}}'
        exit $code
    "#;
    let (result, progress) = run_within(&trial, command, Millis::from_secs(60)).await;
    let trained = result.unwrap();
    assert_eq!(trained.num_examples, Some(1280));
    assert_eq!(trained.metrics.get("accuracy"), Some(&0.9));
    assert_eq!(
        progress,
        Progress {
            done: 0.5,
            loss: Some(0.25)
        }
    );
    assert_eq!(fs::read(&trial.place.out).unwrap(), b"base");
}

#[tokio::test]
async fn the_config_of_a_trainer_says_what_it_trains_for() {
    let trial = trial();
    let config: serde_json::Value =
        serde_json::from_slice(&fs::read(&trial.place.config).unwrap()).unwrap();
    assert_eq!(config["federation"], "digits");
    assert_eq!(config["round"], 3);
    assert_eq!(config["base"]["version"], 2);
    assert_eq!(config["base"]["digest"], Digest::of(b"base").to_string());
    assert_eq!(config["deadline_ms"], 77);
    assert_eq!(config["encodings"][0], "bf16");
}

#[tokio::test]
async fn a_trainer_that_fails_declines_with_its_last_words() {
    let trial = trial();
    let decline = run(
        &trial,
        "echo first >&2; echo 'no data in ward-3.csv' >&2; exit 1",
    )
    .await
    .unwrap_err();
    assert_eq!(decline.kind, DeclineKind::TrainerFailed);
    assert!(decline.detail.contains("exit status: 1"), "{decline:?}");
    assert!(
        decline.detail.ends_with("no data in ward-3.csv"),
        "{decline:?}"
    );
}

#[tokio::test]
async fn a_command_that_does_not_exist_declines_and_names_it() {
    let decline = run(&trial(), "/no/such/trainer --x").await.unwrap_err();
    assert_eq!(decline.kind, DeclineKind::TrainerFailed);
    assert!(decline.detail.contains("/no/such/trainer"), "{decline:?}");
}

#[tokio::test]
async fn a_trainer_killed_by_a_signal_declines_and_names_it() {
    let decline = run(&trial(), "kill -9 $$").await.unwrap_err();
    assert_eq!(decline.kind, DeclineKind::TrainerFailed);
    assert!(decline.detail.contains("signal: 9"), "{decline:?}");
}

#[tokio::test]
async fn garbage_on_both_streams_breaks_nothing_and_stays_bounded() {
    let trial = trial();
    let command = "head -c 3000000 /dev/urandom; head -c 3000000 /dev/urandom >&2; yes | head -n 50000; \
                   echo; echo '{\"num_examples\":5}'";
    let trained = run(&trial, command).await.unwrap();
    assert_eq!(trained.num_examples, Some(5));
    assert!(trial.place.log.metadata().unwrap().len() < 2 * 1024 * 1024);
}

#[tokio::test]
async fn a_flood_on_stderr_is_cut_to_a_decline_that_fits() {
    let decline = run(&trial(), "yes éééééééééé | head -n 100000 >&2; exit 3")
        .await
        .unwrap_err();
    assert!(decline.detail.len() <= fedmerge_common::reason::MAX_DETAIL_BYTES);
    assert!(decline.detail.contains("exit status: 3"));
}

#[tokio::test]
async fn an_impossible_example_count_declines() {
    let decline = run(&trial(), "echo '{\"num_examples\":0}'")
        .await
        .unwrap_err();
    assert_eq!(decline.kind, DeclineKind::TrainerFailed);
    assert!(decline.detail.contains("num_examples = 0"), "{decline:?}");
}

#[tokio::test]
async fn a_trainer_past_its_limit_is_killed_with_its_grandchildren() {
    let trial = trial();
    let pids = trial.root.path().join("pid");
    let command = format!(
        "trap '' TERM; sh -c 'trap \"\" TERM; sleep 1000' & echo $! > {0}.part; mv {0}.part {0}; \
         echo stuck >&2; wait; sleep 1000",
        pids.display()
    );
    let (result, _) = run_within(&trial, &command, Millis::new(300)).await;
    let decline = result.unwrap_err();
    assert_eq!(decline.kind, DeclineKind::TrainerTimedOut);
    assert!(decline.detail.contains("limit of 300ms"), "{decline:?}");
    assert!(decline.detail.ends_with("stuck"), "{decline:?}");
    gone(pid_in(&pids)).await;
}

#[tokio::test]
async fn what_a_trainer_leaves_running_does_not_outlive_it() {
    let trial = trial();
    let pids = trial.root.path().join("pid");
    let command = format!(
        "sleep 1000 & echo $! > {}; echo '{{\"num_examples\":2}}'",
        pids.display()
    );
    assert_eq!(run(&trial, &command).await.unwrap().num_examples, Some(2));
    gone(pid_in(&pids)).await;
}

#[tokio::test]
async fn a_dropped_run_kills_the_trainer_and_its_children() {
    let trial = trial();
    let pids = trial.root.path().join("pid");
    let command = format!(
        "sleep 1000 & echo $! > {0}.part; mv {0}.part {0}; wait",
        pids.display()
    );
    {
        let running = run(&trial, &command);
        tokio::pin!(running);
        while !pids.exists() {
            tokio::select! {
                biased;
                _ = &mut running => unreachable!("the trainer sleeps"),
                () = tokio::task::yield_now() => {}
            }
        }
    }
    gone(pid_in(&pids)).await;
}

#[tokio::test]
async fn only_the_newest_round_is_kept_on_disk() {
    let trial = trial();
    let work = trial.root.path().join("work");
    let task = Task {
        round: RoundNumber::new(4),
        base: ModelRef {
            version: ModelVersion::new(3),
            digest: Digest::of(b"next"),
            size_bytes: 4,
        },
        deadline: Timestamp::new(77),
        encodings: Vec::new(),
        density: Density::default(),
        max_update_bytes: ByteSize::new(1),
        step_back: None,
        doubt: None,
        noise: None,
    };
    let (federation, client) = ("digits".parse().unwrap(), "ward-3".parse().unwrap());
    Workplace::prepare(
        &work,
        &task,
        trial.place.base.clone(),
        (&federation, &client),
    )
    .unwrap();
    assert!(!trial.place.config.exists());
    assert!(work.join("round-4/config.json").exists());
}
