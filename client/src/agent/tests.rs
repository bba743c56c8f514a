//! Tables: from each phase, what each event leads to.

#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

mod evaluating;
mod lineage;
mod remains;

use std::collections::BTreeMap;

use fedmerge_common::digest::Digest;
use fedmerge_common::ids::ModelVersion;
use fedmerge_common::reason::Rejection;
use fedmerge_common::task_vector::Encoding;
use fedmerge_common::task_vector::encoding::Density;
use fedmerge_common::units::{ByteSize, Millis, Timestamp};
use fedmerge_common::update::{ModelRef, UpdateHeader};

use super::*;
use crate::submission::Prepared;

fn round(number: u64) -> RoundNumber {
    RoundNumber::new(number)
}

fn base(version: u64) -> ModelRef {
    ModelRef {
        version: ModelVersion::new(version),
        digest: Digest::of(&version.to_le_bytes()),
        size_bytes: 100,
    }
}

fn task(number: u64) -> Task {
    Task {
        round: round(number),
        base: base(number - 1),
        deadline: Timestamp::new(1_000),
        encodings: vec![Encoding::F32],
        density: Density::default(),
        max_update_bytes: ByteSize::new(1_000),
        step_back: None,
        doubt: None,
        noise: None,
    }
}

fn invited(number: u64) -> Event {
    Event::NoticeReceived(Notice::Invited(task(number)))
}

fn standby(waiting_for: &str, last_round: &str) -> Event {
    Event::NoticeReceived(Notice::Standby {
        waiting_for: waiting_for.to_owned(),
        last_round: last_round.to_owned(),
    })
}

fn ended() -> Event {
    Event::NoticeReceived(Notice::Ended {
        reason: "all rounds are done".to_owned(),
        last: Some(base(9)),
    })
}

fn trained(num_examples: Option<u64>) -> Trained {
    Trained {
        num_examples,
        metrics: BTreeMap::from([("loss".to_owned(), 0.5)]),
        elapsed: Millis::new(400),
    }
}

fn header(number: u64) -> UpdateHeader {
    UpdateHeader {
        round: round(number),
        base: base(number - 1).digest,
        encoding: Encoding::F32,
        payload: Digest::of(b"payload"),
        payload_bytes: 7,
        num_examples: 180,
        metrics: BTreeMap::new(),
    }
}

fn decline(kind: DeclineKind) -> Decline {
    Decline::new(kind, "because")
}

fn prepared(number: u64, residual_dropped: Option<&'static str>) -> Event {
    Event::UpdatePrepared(Prepared {
        header: header(number),
        residual_dropped,
    })
}

fn accepted(number: u64) -> Event {
    Event::UpdateAnswered {
        round: round(number),
        answer: Answer::Accepted,
    }
}

/// The events of a whole round up to the moment before each phase ends.
fn path(number: u64) -> Vec<Event> {
    vec![
        invited(number),
        Event::BaseDownloaded {
            round: round(number),
        },
        Event::TrainingFinished {
            round: round(number),
            trained: trained(Some(180)),
        },
        prepared(number, None),
        Event::UpdateSent {
            round: round(number),
        },
    ]
}

fn agent_after(stay: Stay, events: impl IntoIterator<Item = Event>) -> Agent {
    let mut agent = Agent::new(stay, Evaluator::Present, None);
    for event in events {
        agent.step(event);
    }
    agent
}

fn lines(effects: &[Effect]) -> Vec<String> {
    let told = effects.iter().filter_map(|effect| {
        if let Effect::Tell(milestone) = effect {
            Some(milestone.to_string())
        } else {
            None
        }
    });
    told.collect()
}

#[test]
fn a_round_goes_from_invitation_to_acceptance() {
    let mut agent = Agent::new(Stay::WhileItLasts, Evaluator::Present, None);
    let [invitation, downloaded, finished, prepared, sent] = path(3).try_into().unwrap();
    assert_eq!(agent.step(invitation), [Effect::Download(task(3))]);
    let effects = agent.step(downloaded);
    let short = base(2).digest.short();
    assert_eq!(
        lines(&effects),
        [format!("round 3: base 2 (blake3:{short}…, 100 B)")]
    );
    assert_eq!(effects[1..], [Effect::Train(task(3))]);
    let effects = agent.step(finished);
    assert_eq!(
        lines(&effects),
        ["round 3: trained in 400 ms on 180 examples, loss 0.50"]
    );
    assert_eq!(effects[1..], [Effect::Prepare(task(3), trained(Some(180)))]);
    assert_eq!(agent.step(prepared), [Effect::Upload(header(3))]);
    assert_eq!(agent.step(sent), []);
    assert_eq!(lines(&agent.step(accepted(3))), ["round 3: accepted"]);
    assert_eq!(agent.phase.task(), None);
}

#[test]
fn a_residual_that_is_dropped_is_told_before_the_update_leaves() {
    let mut agent = agent_after(Stay::WhileItLasts, path(3).into_iter().take(3));
    let effects = agent.step(prepared(3, Some("a round was missed")));
    assert_eq!(
        lines(&effects),
        ["round 3: what the encoding of earlier updates lost is dropped: a round was missed"]
    );
    assert_eq!(effects[1..], [Effect::Upload(header(3))]);
}

#[test]
fn a_rejection_is_told_with_its_reason_and_the_client_goes_on() {
    let mut agent = agent_after(Stay::WhileItLasts, path(3));
    let rejection = Rejection::non_finite("hidden.weight", 17, f32::NAN);
    let answer = Answer::Rejected(rejection.clone());
    let effects = agent.step(Event::UpdateAnswered {
        round: round(3),
        answer,
    });
    assert_eq!(
        lines(&effects),
        [format!(
            "round 3: rejected (non-finite): {}",
            rejection.detail
        )]
    );
    assert_eq!(agent.step(invited(4)), [Effect::Download(task(4))]);
}

#[test]
fn a_failure_in_any_phase_is_declined_and_the_client_goes_on() {
    for steps in 1..=5 {
        let mut agent = agent_after(Stay::WhileItLasts, path(3).into_iter().take(steps));
        let why = decline(DeclineKind::TrainerFailed);
        let effects = agent.step(Event::TaskFailed {
            round: round(3),
            decline: why.clone(),
        });
        assert_eq!(
            lines(&effects),
            ["round 3: declined (trainer-failed): because"]
        );
        assert_eq!(
            effects[1..],
            [Effect::Decline {
                round: round(3),
                decline: why
            }],
            "{steps}"
        );
        assert_eq!(
            agent.step(invited(3)),
            [],
            "the echo of a declined invitation"
        );
        assert_eq!(agent.step(invited(4)), [Effect::Download(task(4))]);
    }
}

#[test]
fn a_repeated_invitation_changes_nothing_in_any_phase() {
    for steps in 1..=5 {
        let mut agent = agent_after(Stay::WhileItLasts, path(3).into_iter().take(steps));
        let before = agent.clone();
        assert_eq!(agent.step(invited(3)), [], "{steps}");
        assert_eq!(agent.phase, before.phase);
    }
}

#[test]
fn a_lost_link_alone_stops_no_work() {
    for steps in 0..=5 {
        let mut agent = agent_after(Stay::WhileItLasts, path(3).into_iter().take(steps));
        let before = agent.clone();
        assert_eq!(agent.step(Event::LinkLost), []);
        assert_eq!(agent.phase, before.phase);
    }
}

#[test]
fn work_for_a_round_that_is_over_is_stopped() {
    for steps in 1..=4 {
        let mut agent = agent_after(Stay::WhileItLasts, path(3).into_iter().take(steps));
        let effects = agent.step(standby("6 clients", "round 3: published"));
        assert_eq!(effects[0], Effect::Abort, "{steps}");
        assert_eq!(
            lines(&effects),
            [
                "round 3: over before this client's update was in",
                "round 3: published",
                "waiting: 6 clients"
            ]
        );
        assert_eq!(agent.phase.task(), None);
    }
}

#[test]
fn the_next_invitation_replaces_work_that_is_too_late() {
    let mut agent = agent_after(Stay::WhileItLasts, path(3).into_iter().take(2));
    let effects = agent.step(invited(4));
    assert_eq!(effects[0], Effect::Abort);
    assert_eq!(effects.last(), Some(&Effect::Download(task(4))));
}

#[test]
fn reports_of_aborted_work_are_ignored() {
    let mut agent = agent_after(Stay::WhileItLasts, path(3).into_iter().take(2));
    agent.step(invited(4));
    let before = agent.clone();
    for late in path(3).into_iter().skip(1) {
        assert_eq!(agent.step(late.clone()), [], "{late:?}");
    }
    assert_eq!(agent.step(accepted(3)), []);
    let why = decline(DeclineKind::Storage);
    assert_eq!(
        agent.step(Event::TaskFailed {
            round: round(3),
            decline: why
        }),
        []
    );
    assert_eq!(agent.phase, before.phase);
}

#[test]
fn a_notice_while_the_server_decides_waits_for_the_decision() {
    let mut agent = agent_after(Stay::WhileItLasts, path(3));
    assert_eq!(agent.step(standby("5 clients", "")), []);
    assert_eq!(agent.step(invited(4)), []);
    let effects = agent.step(accepted(3));
    assert_eq!(lines(&effects), ["round 3: accepted"]);
    assert_eq!(effects[1..], [Effect::Download(task(4))]);
}

#[test]
fn the_end_of_the_federation_is_told_and_the_client_leaves() {
    let mut agent = agent_after(Stay::WhileItLasts, path(3));
    assert_eq!(agent.step(ended()), []);
    let effects = agent.step(accepted(3));
    assert_eq!(effects.len(), 3);
    assert!(
        lines(&effects)[1].starts_with("the federation ended: all rounds are done; last base 9")
    );
    assert_eq!(effects[2], Effect::Leave);
    assert_eq!(
        agent.step(invited(4)),
        [],
        "who has left takes no invitation"
    );
}

#[test]
fn the_end_is_not_missed_when_the_server_goes_before_it_decides() {
    let mut agent = agent_after(Stay::WhileItLasts, path(3));
    agent.step(ended());
    let effects = agent.step(Event::LinkLost);
    assert_eq!(effects.first(), Some(&Effect::Abort));
    assert_eq!(effects.last(), Some(&Effect::Leave));
}

#[test]
fn who_is_told_to_stay_stays_when_the_federation_ends() {
    let mut agent = Agent::new(Stay::Always, Evaluator::Present, None);
    assert_eq!(lines(&agent.step(ended())).len(), 1);
    assert_eq!(agent.step(invited(4)), [Effect::Download(task(4))]);
}

#[test]
fn who_stays_for_one_round_leaves_after_it_however_it_ends() {
    let why = || decline(DeclineKind::BadCheckpoint);
    let ends = [
        (5, accepted(3)),
        (
            2,
            Event::TaskFailed {
                round: round(3),
                decline: why(),
            },
        ),
        (2, standby("", "")),
    ];
    for (steps, end) in ends {
        let mut agent = agent_after(Stay::OneRound, path(3).into_iter().take(steps));
        assert_eq!(agent.step(end).last(), Some(&Effect::Leave));
    }
}

#[test]
fn a_stop_declines_the_task_in_hand_and_leaves() {
    let mut agent = agent_after(Stay::WhileItLasts, path(3).into_iter().take(2));
    let effects = agent.step(Event::StopAsked);
    assert_eq!(effects[0], Effect::Abort);
    assert!(
        matches!(&effects[2], Effect::Decline { decline, .. } if decline.kind == DeclineKind::Interrupted)
    );
    assert_eq!(effects[3], Effect::Leave);
    assert_eq!(
        Agent::new(Stay::Always, Evaluator::Present, None).step(Event::StopAsked),
        [Effect::Leave]
    );
    assert_eq!(agent.step(Event::StopAsked), [], "once is enough");
}

#[test]
fn the_same_wait_is_told_once() {
    let mut agent = Agent::new(Stay::WhileItLasts, Evaluator::Present, None);
    assert_eq!(
        lines(&agent.step(standby("6 clients", ""))),
        ["waiting: 6 clients"]
    );
    assert_eq!(agent.step(standby("6 clients", "")), []);
    assert_eq!(
        lines(&agent.step(standby("5 clients", ""))),
        ["waiting: 5 clients"]
    );
}

#[test]
fn a_trainer_that_counts_no_examples_is_remarked_upon_once() {
    let mut agent = Agent::new(Stay::WhileItLasts, Evaluator::Present, None);
    let mut remarks = 0;
    for number in 1..=2 {
        let mut events = path(number);
        events[2] = Event::TrainingFinished {
            round: round(number),
            trained: trained(None),
        };
        events.push(accepted(number));
        for event in events {
            let effects = agent.step(event);
            remarks += effects
                .iter()
                .filter(|effect| **effect == Effect::Tell(Milestone::ExamplesUnknown))
                .count();
        }
    }
    assert_eq!(remarks, 1);
}
