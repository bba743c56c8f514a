//! What a restart finds, does again, and refuses.

use fedmerge_coordinator::{
    Coordinator, Effect, EndReason, Event, Record, RestoreError, RoundPlan, WithdrawReason,
};

use super::federation::{
    Federation, accepts, client, closed, invited, median_of_accuracy, merge, model, plan, round,
    stored,
};

#[test]
fn a_restart_while_collecting_keeps_what_was_accepted_and_invites_again_on_arrival() {
    let mut federation = Federation::with(plan(3, 2), 3);
    federation.submit(1, 1);
    assert!(federation.restart().is_empty());
    assert_eq!(federation.coordinator.view().tally.accepted, 1);
    assert_eq!(
        invited(&federation.arrive([1, 2, 3])),
        [client(2), client(3)]
    );
    assert!(accepts(&federation.submit(1, 1), 1));
    federation.submit(2, 1);
    assert_eq!(merge(&federation.submit(3, 1)).unwrap().len(), 3);
}

#[test]
fn a_restart_after_the_deadline_gives_clients_the_grace_time_to_come_back() {
    let mut federation = Federation::with(plan(3, 2), 3);
    federation.submit(1, 1);
    federation.now = federation.now + fedmerge_common::units::Millis::from_secs(3600);
    assert!(federation.restart().is_empty());
    federation.arrive([2]);
    assert_eq!(federation.submit(2, 1).len(), 1);
    assert_eq!(merge(&federation.wait(30)).unwrap().len(), 2);
}

#[test]
fn clients_that_do_not_come_back_after_a_restart_are_not_waited_for() {
    let mut federation = Federation::with(plan(3, 2), 3);
    federation.submit(1, 1);
    federation.restart();
    let effects = federation.wait(30);
    assert!(closed(&effects).is_some());
    let reason = WithdrawReason::Absent;
    assert_eq!(
        federation.outcome(2, 1),
        fedmerge_coordinator::ClientOutcome::Silent { reason }
    );
}

#[test]
fn a_merge_that_was_running_is_started_again_with_the_same_updates() {
    let mut federation = Federation::with(plan(2, 2), 2);
    federation.submit(1, 1);
    let before = federation.submit(2, 1);
    let again = federation.restart();
    assert!(again.iter().all(|effect| before.contains(effect)));
    assert_eq!(merge(&again).unwrap().len(), 2);
}

#[test]
fn a_publication_is_repeated_after_a_restart() {
    let mut federation = Federation::with(plan(2, 2), 2);
    federation.submit(1, 1);
    federation.submit(2, 1);
    let before = federation.merged(1);
    assert_eq!(federation.restart(), before);
    federation.published(1);
    assert_eq!(*federation.coordinator.base(), model(1));
}

#[test]
fn evaluations_are_asked_for_again_after_a_restart() {
    let evaluate = Some(median_of_accuracy(0.0));
    let mut federation = Federation::with(
        RoundPlan {
            evaluate,
            ..plan(2, 2)
        },
        2,
    );
    federation.submit(1, 1);
    federation.submit(2, 1);
    federation.merged(1);
    federation.step(Event::EvaluationReported {
        client: client(1),
        round: round(1),
        before: 0.5,
        after: 0.75,
        num_examples: 10,
    });
    let effects = federation.restart();
    assert!(
        matches!(&effects[..], [Effect::RequestEvaluations { clients, .. }] if clients.len() == 1)
    );
}

#[test]
fn the_story_of_the_last_round_and_the_end_are_told_again_after_a_restart() {
    let mut federation = Federation::with(
        RoundPlan {
            rounds: 1,
            ..plan(2, 2)
        },
        2,
    );
    let before = federation.decline(1, 1);
    let again = federation.restart();
    assert_eq!(again.len(), 2);
    assert!(again.iter().all(|effect| before.contains(effect)));
}

#[test]
fn a_changed_plan_takes_effect_at_the_next_round() {
    let mut federation = Federation::with(plan(2, 2), 2);
    federation.plan = plan(3, 3);
    federation.restart();
    federation.arrive([1, 2]);
    federation.submit(1, 1);
    assert!(merge(&federation.submit(2, 1)).is_some());
    federation.merged(1);
    assert!(invited(&federation.published(1)).is_empty());
    assert_eq!(invited(&federation.arrive([3])).len(), 3);
}

/// A federation whose plan of `rounds` rounds was changed to `later` and that was restarted after `held` rounds.
fn with_another_count(rounds: u64, held: u64, later: u64) -> (Federation, Vec<Effect>) {
    let counted = |rounds| RoundPlan {
        rounds,
        ..plan(2, 2)
    };
    let mut federation = Federation::with(counted(rounds), 2);
    for number in 1..=held {
        federation.wait(60);
        federation.decline(1, number);
    }
    federation.plan = counted(later);
    let effects = federation.restart();
    (federation, effects)
}

fn ends(effects: &[Effect]) -> bool {
    let is_end = |effect: &Effect| matches!(effect, Effect::EndFederation { .. });
    effects.iter().any(is_end)
}

#[test]
fn a_federation_that_ended_with_its_last_round_goes_on_where_the_plan_has_more() {
    for later in [3, 0] {
        let (mut federation, effects) = with_another_count(2, 2, later);
        assert!(!ends(&effects), "{effects:?}");
        assert_eq!(federation.coordinator.view().phase, "gathering");
        assert_eq!(invited(&federation.arrive([1, 2])).len(), 2);
        assert_eq!(federation.coordinator.view().round, Some(round(3)));
        assert_eq!(ends(&federation.decline(1, 3)), later == 3);
    }
}

#[test]
fn a_federation_that_ended_stays_ended_where_the_plan_has_no_more() {
    for later in [1, 2] {
        let (federation, effects) = with_another_count(2, 2, later);
        assert!(ends(&effects), "{later}");
        let reason = EndReason::RoundsCompleted { rounds: 2 };
        assert_eq!(federation.coordinator.ended(), Some(reason));
        assert_eq!(federation.coordinator.record().ended(), Some(reason));
    }
}

#[test]
fn a_federation_that_a_person_stopped_stays_stopped_whatever_the_count() {
    let mut federation = Federation::with(plan(2, 2), 1);
    federation.step(Event::Stopped);
    federation.plan.rounds = 100;
    assert!(ends(&federation.restart()));
}

#[test]
fn a_lower_count_ends_a_federation_between_rounds_and_lets_an_open_round_end() {
    let (federation, effects) = with_another_count(9, 3, 2);
    assert!(ends(&effects));
    let reason = EndReason::RoundsCompleted { rounds: 3 };
    assert_eq!(federation.coordinator.ended(), Some(reason));

    let mut federation = Federation::with(plan(2, 2), 2);
    federation.plan.rounds = 1;
    assert!(!ends(&federation.restart()));
    federation.arrive([1, 2]);
    assert!(ends(&federation.decline(1, 1)));
}

#[test]
fn a_record_of_a_newer_version_is_refused_and_named() {
    for text in [
        r#"{"version": 4, "state": {"unheard": "of"}}"#,
        r#"{"version": 4}"#,
    ] {
        let record: Record = serde_json::from_str(text).unwrap();
        assert_eq!(
            Coordinator::restore(plan(2, 2), record),
            Err(RestoreError::NewerVersion { found: 4, known: 3 })
        );
    }
}

#[test]
fn a_record_that_is_not_whole_is_refused() {
    let whole = serde_json::to_string(&Coordinator::new(plan(2, 2), model(0)).record()).unwrap();
    let spoilt = whole.replace("gathering", "gathered");
    let record: Record = serde_json::from_str(&spoilt).unwrap();
    assert_eq!(
        Coordinator::restore(plan(2, 2), record),
        Err(RestoreError::Unreadable { version: 3 })
    );
    assert!(serde_json::from_str::<Record>("{}").is_err());
}

#[test]
fn a_record_keeps_its_form() {
    let mut federation = Federation::with(plan(2, 2), 1);
    let record = federation.coordinator.record();
    assert_eq!(record.version(), 3);
    assert_eq!(stored(&record), record);
    federation.arrive([2]);
    let text = serde_json::to_string(&federation.coordinator.record()).unwrap();
    let beginning = r#"{"version":3,"state":{"base":{"version":0,"digest":"blake3:"#;
    assert!(text.starts_with(beginning), "{text}");
    assert!(
        text.contains(r#""phase":{"collecting":{"round":{"number":1,"#),
        "{text}"
    );
}

#[test]
fn a_record_of_the_first_version_is_read() {
    let mut federation = Federation::with(plan(3, 2), 3);
    federation.submit(1, 1);
    let text = serde_json::to_string(&federation.coordinator.record()).unwrap();
    // What the second version added, left out.
    let added = [
        r#","mode":"synchronous","late":"reject","max_staleness":0,"allow_small_quorum":true"#,
        r#""population":null,"#,
        r#","late":{"clients":{},"deadline":0}"#,
    ];
    let old = added.iter().fold(text, |text, added| {
        assert!(text.contains(added), "{text}");
        text.replace(added, "")
    });
    let old = old.replace(r#""version":3,"state""#, r#""version":1,"state""#);
    let record: Record = serde_json::from_str(&old).unwrap();
    assert_eq!(record.version(), 1);
    let restored = Coordinator::restore(plan(3, 2), record).unwrap();
    assert_eq!(restored.view().tally.accepted, 1);
    assert_eq!(restored.view().tally.pending, 2);
}

#[test]
fn a_record_of_the_second_version_is_read() {
    let plan = RoundPlan {
        evaluate: Some(median_of_accuracy(0.0)),
        ..plan(2, 2)
    };
    let mut federation = Federation::with(plan.clone(), 2);
    for number in 1..=2 {
        federation.submit(number, 1);
    }
    federation.merged(1);
    federation.step(Event::EvaluationReported {
        client: client(1),
        round: round(1),
        before: 0.5,
        after: 0.75,
        num_examples: 10,
    });
    let text = serde_json::to_string(&federation.coordinator.record()).unwrap();
    // What the third version added, left out.
    let added = r#","after":"0.75""#;
    assert!(text.contains(added), "{text}");
    let old = text.replace(added, "");
    let old = old.replace(r#""version":3,"state""#, r#""version":2,"state""#);
    let record: Record = serde_json::from_str(&old).unwrap();
    assert_eq!(record.version(), 2);
    let restored = Coordinator::restore(plan, record).unwrap();
    assert_eq!(restored.view().phase, "evaluating");
}
