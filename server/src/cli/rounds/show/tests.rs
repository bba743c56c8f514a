//! The story of a round as people and programs see it.
#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use std::collections::BTreeMap;

use fedmerge_common::digest::Digest;
use fedmerge_common::ids::{ClientId, ModelVersion};
use fedmerge_common::reason::{AbandonReason, Decline, DeclineKind, Rejection};
use fedmerge_common::units::Timestamp;
use fedmerge_coordinator::{
    EvaluationOutcome, Gain, Measure, Origin, RoundOutcome, UpdateRef, WithdrawReason,
};

use super::*;
use crate::directory::ServerDirectory;

const OPENED: u64 = 1_700_049_600_000;

fn model(version: u64) -> ModelRef {
    ModelRef {
        version: ModelVersion::new(version),
        digest: Digest::of(&[0]),
        size_bytes: 2048,
    }
}

fn accepted(after: u64) -> ClientOutcome {
    ClientOutcome::Accepted {
        update: UpdateRef {
            payload: Digest::of(b"update"),
            num_examples: 719,
            bytes: 1024,
        },
        at: Timestamp::new(OPENED + after),
    }
}

fn report() -> Value {
    json!({
        "recipe": { "method": "mean", "before": [], "weight": "examples" },
        "step_norm": 0.5,
        "updates": [
            { "client": "ward-2", "weight_share": 0.75, "norm": 2.0, "clip_factor": 1.0 },
            { "client": "ward-1", "weight_share": 0.25, "norm": null, "clip_factor": 0.5 },
        ],
        "diagnostics": {
            "effective_clients": 1.6,
            "shrinkage": 0.83,
            "drift": null,
            "least_cosine": 0.25,
            "greatest_cosine": 0.25,
            "clients": [
                { "client": "ward-2", "distance": 0.1, "sign_disagreement": 0.0 },
                { "client": "ward-1", "distance": 3.0, "sign_disagreement": 0.5 },
            ],
        },
    })
}

fn story(outcome: RoundOutcome, merge: Option<Value>) -> Story {
    let outcomes = [
        ("ward-1", accepted(3200)),
        ("ward-2", accepted(31_000)),
        (
            "ward-3",
            ClientOutcome::Rejected(Rejection::non_finite("fc.weight", 3, f32::NAN)),
        ),
        (
            "ward-4",
            ClientOutcome::Declined(Decline::new(DeclineKind::TrainerFailed, "first\nround 9")),
        ),
        (
            "ward-5",
            ClientOutcome::Silent {
                reason: WithdrawReason::Absent,
            },
        ),
    ];
    let clients: BTreeMap<ClientId, ClientOutcome> = outcomes
        .into_iter()
        .map(|(client, outcome)| (client.parse().unwrap(), outcome))
        .collect();
    let summary = RoundSummary {
        round: RoundNumber::new(4),
        base: model(2),
        outcome,
        clients,
        origins: BTreeMap::new(),
        evaluations: BTreeMap::new(),
        opened: Timestamp::new(OPENED),
        collected: Some(Timestamp::new(OPENED + 31_250)),
        closed: Timestamp::new(OPENED + 31_660),
    };
    let merge = merge.map(|report| MergeNote {
        round: summary.round,
        candidate: model(3),
        elapsed_ms: 12,
        report,
    });
    let merge_ms = merge.as_ref().map(|merge| merge.elapsed_ms);
    Story {
        closed: ClosedRound::new(&summary, merge_ms, &ServerDirectory::new("hub")),
        summary,
        merge,
    }
}

#[test]
fn the_story_of_a_published_round_fits_a_terminal_and_leaves_nothing_out() {
    let told = story(RoundOutcome::Published(model(3)), Some(report())).lines();
    let told = told.join("\n");
    let short = model(2).digest.short();
    let update = Digest::of(b"update").short();
    let expected = format!(
        "\
round 4      published model 3 (blake3:{short}…, 2 KiB)
base         2 (blake3:{short}…, 2 KiB)
opened       2023-11-15T12:00:00Z
collected    2023-11-15T12:00:31.25Z, 31.2 s later
closed       2023-11-15T12:00:31.66Z, 410 ms later: the merge took 12 ms
model        hub/models/3/model.safetensors

client  outcome   after   examples  size   update
ward-1  accepted  3.2 s   719       1 KiB  blake3:{update}…
ward-2  accepted  31.0 s  719       1 KiB  blake3:{update}…
ward-3  rejected
ward-4  declined
ward-5  silent
  ward-3 rejected: non-finite: tensor `fc.weight` has NaN at index 3
  ward-4 declined: trainer-failed: first
    round 9
  ward-5 silent: connection lost and not back in time

merge        mean, weight examples
step         0.50 long, 83 % of the clients' mean length
agreement    1.60 of 2 clients pull on their own, cosines from 0.25 to 0.25

merged  weight  length  kept   distance  conflict
ward-1  25 %            50 %   3.00      50 %
ward-2  75 %    2.00    100 %  0.10      0 %"
    );
    assert_eq!(told, expected);
    assert!(told.lines().all(|line| line.chars().count() <= 80));
}

#[test]
fn the_story_of_an_abandoned_round_tells_why() {
    let reason = AbandonReason::QuorumNotReached {
        accepted: 2,
        quorum: 3,
        rejected: 1,
        declined: 1,
        silent: 1,
    };
    let story = story(RoundOutcome::Abandoned(reason.clone()), None);
    let lines = story.lines();
    assert_eq!(lines[0], format!("round 4      abandoned: {reason}"));
    assert!(!lines.iter().any(|line| line.starts_with("model")));
    let json = story.as_json();
    assert_eq!(json["outcome"], "abandoned");
    assert_eq!(json["merge"], Value::Null);
    assert_eq!(json["clients"][0]["weight_share"], Value::Null);
}

#[test]
fn programs_get_every_time_client_and_number() {
    let json = story(RoundOutcome::Published(model(3)), Some(report())).as_json();
    for (key, expected) in [
        ("round", json!(4)),
        ("opened", json!("2023-11-15T12:00:00Z")),
        ("collected", json!("2023-11-15T12:00:31.25Z")),
        ("closed", json!("2023-11-15T12:00:31.66Z")),
        ("collect_ms", json!(31_250)),
        ("merge_ms", json!(12)),
        ("wall_ms", json!(31_660)),
        ("merge", report()),
    ] {
        assert_eq!(json[key], expected, "{key}");
    }
    assert_eq!(json["base"]["version"], 2);
    assert_eq!(json["model"]["version"], 3);
    assert_eq!(
        json["clients"][0],
        json!({
            "client": "ward-1",
            "outcome": "accepted",
            "reason": "",
            "num_examples": 719,
            "update": Digest::of(b"update"),
            "bytes": 1024,
            "accepted": "2023-11-15T12:00:03.2Z",
            "weight_share": 0.25,
        })
    );
    let codes = [2, 3, 4].map(|number: usize| json["clients"][number]["code"].clone());
    assert_eq!(
        codes,
        ["non-finite", "trainer-failed", "absent"].map(|code| json!(code))
    );
}

#[test]
fn who_answered_the_task_of_an_earlier_round_and_who_goes_on_in_the_next_is_told() {
    let mut late = story(RoundOutcome::Published(model(3)), None);
    let client = |name: &str| name.parse::<ClientId>().unwrap();
    let origin = |round, version| Origin {
        round: RoundNumber::new(round),
        base: model(version),
    };
    let before = ClientOutcome::Accepted {
        update: UpdateRef {
            payload: Digest::of(b"late"),
            num_examples: 70,
            bytes: 1024,
        },
        at: Timestamp::new(OPENED - 500),
    };
    let RoundSummary {
        clients, origins, ..
    } = &mut late.summary;
    clients.insert(client("ward-1"), before);
    clients.insert(client("ward-5"), ClientOutcome::CarriedOver);
    origins.insert(client("ward-1"), origin(2, 1));
    origins.insert(client("ward-5"), origin(3, 2));
    late.closed = ClosedRound::new(&late.summary, None, &ServerDirectory::new("hub"));
    let told = late.lines().join("\n");
    for line in [
        "ward-1  accepted      before  70        1 KiB",
        "ward-5  carried-over",
        "  ward-1 accepted: for its task of round 2, staleness 1",
        "  ward-5 carried-over: it counts in the next round",
    ] {
        assert!(told.contains(line), "{told}");
    }
    let json = late.as_json();
    let told = |number: usize, key: &str| json["clients"][number][key].clone();
    assert_eq!(told(0, "task_round"), 2);
    assert_eq!(told(0, "staleness"), 1);
    assert_eq!(told(1, "task_round"), Value::Null);
    assert_eq!(told(4, "outcome"), "carried-over");
    assert_eq!(told(4, "task_round"), 3);
}

#[test]
fn what_each_client_said_of_the_candidate_is_told() {
    let mut gated = story(RoundOutcome::Published(model(3)), None);
    let reported = EvaluationOutcome::Reported {
        gain: Gain(Some(0.25)),
        after: Measure(Some(0.75)),
        num_examples: 36,
    };
    let decline = Decline::new(DeclineKind::EvaluatorFailed, "first\nround 9");
    gated.summary.evaluations = BTreeMap::from([
        ("ward-1".parse().unwrap(), reported),
        (
            "ward-2".parse().unwrap(),
            EvaluationOutcome::Declined(decline),
        ),
    ]);
    gated.closed = ClosedRound::new(&gated.summary, None, &ServerDirectory::new("hub"));
    let told = gated.lines().join("\n");
    let expected = "
evaluations
  ward-1: gain +0.25 on 36 examples
  ward-2: declined: evaluator-failed: first
    round 9";
    assert!(told.ends_with(expected), "{told}");
    let json = gated.as_json();
    assert_eq!(json["clients"][0]["evaluation"]["gain"], 0.25);
    assert_eq!(json["clients"][0]["evaluation"]["value"], 0.75);
    assert_eq!(json["clients"][1]["evaluation"]["outcome"], "declined");
    assert_eq!(json["clients"][2]["evaluation"], Value::Null);
}
