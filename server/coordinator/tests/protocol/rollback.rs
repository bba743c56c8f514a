//! An older model becomes the base again.

use fedmerge_common::reason::{AbandonReason, RejectionCode};
use fedmerge_common::update::ModelRef;
use fedmerge_coordinator::{
    Assignment, Effect, EndReason, Event, LatePolicy, Rollback, RoundOutcome, RoundPlan,
    WithdrawReason,
};

use super::federation::{
    Federation, accepts, client, closed, invited, model, plan, rejection, round,
};

const REASON: &str = "round 2 taught it nonsense";

/// A federation of two that has published models 1 and 2.
fn with_two_models(plan: RoundPlan) -> Federation {
    let mut federation = Federation::with(plan, 2);
    for number in 1..=2 {
        federation.submit(1, number);
        federation.submit(2, number);
        federation.merged(number);
        federation.published(number);
    }
    assert_eq!(*federation.coordinator.base(), model(2));
    federation
}

fn ask(federation: &mut Federation, to: u64) -> Vec<Effect> {
    federation.step(Event::RollbackAsked {
        to: model(to),
        reason: REASON.into(),
        above: model(0).version,
    })
}

/// Model `of` as version `version`.
fn again(of: u64, version: u64) -> ModelRef {
    ModelRef {
        version: model(version).version,
        ..model(of)
    }
}

fn rollback(effects: &[Effect]) -> Option<Rollback> {
    effects.iter().find_map(|effect| {
        let Effect::RollBack(rollback) = effect else {
            return None;
        };
        Some(rollback.clone())
    })
}

fn answer(effects: &[Effect]) -> Option<Result<ModelRef, String>> {
    effects.iter().find_map(|effect| {
        let Effect::AnswerRollback { outcome } = effect else {
            return None;
        };
        Some(outcome.clone())
    })
}

#[test]
fn an_older_model_becomes_the_next_version_and_the_base_of_the_next_round() {
    let mut federation = with_two_models(plan(2, 2));
    let effects = ask(&mut federation, 1);
    let expected = Rollback {
        model: again(1, 3),
        of: model(1).version,
        reason: REASON.into(),
    };
    assert_eq!(rollback(&effects), Some(expected));
    assert_eq!(answer(&effects), None);
    assert_eq!(
        closed(&effects).unwrap().outcome,
        RoundOutcome::Abandoned(AbandonReason::RolledBack {
            to: model(1).version
        })
    );
    assert_eq!(federation.phase(), "rolling-back");
    assert!(invited(&federation.wait(600)).is_empty());

    let effects = federation.step(Event::RolledBack { model: again(1, 3) });
    assert_eq!(answer(&effects), Some(Ok(again(1, 3))));
    assert_eq!(*federation.coordinator.base(), again(1, 3));
    assert_eq!(invited(&effects).len(), 2, "the next round opens at once");
    let Assignment::Invited(task) = federation.coordinator.assignment(&client(1)) else {
        panic!("nobody is invited");
    };
    assert_eq!((task.round, task.base), (round(4), again(1, 3)));
}

#[test]
fn clients_are_released_and_their_updates_are_too_late() {
    let mut federation = with_two_models(plan(2, 2));
    let effects = ask(&mut federation, 1);
    let released = effects.iter().filter(|effect| {
        matches!(effect, Effect::Withdraw { reason, .. } if *reason == WithdrawReason::RolledBack)
    });
    assert_eq!(released.count(), 2);
    let effects = federation.submit(1, 3);
    assert_eq!(rejection(&effects), Some(RejectionCode::RoundClosed));
}

/// A federation whose second round merges, with an update that is accepted for the next one.
fn with_a_late_update() -> Federation {
    let plan = RoundPlan {
        late: LatePolicy::Carry,
        max_staleness: 5,
        ..plan(3, 2)
    };
    let mut federation = Federation::with(plan, 3);
    for number in 1..=3 {
        federation.submit(number, 1);
    }
    federation.merged(1);
    federation.published(1);
    federation.submit(1, 2);
    federation.submit(2, 2);
    federation.wait(601);
    assert_eq!(federation.phase(), "merging");
    assert!(accepts(&federation.submit(3, 2), 3));
    federation
}

#[test]
fn what_was_accepted_for_the_next_round_is_given_up() {
    let mut federation = with_a_late_update();
    ask(&mut federation, 0);
    let effects = federation.step(Event::RolledBack { model: again(0, 2) });
    assert_eq!(invited(&effects).len(), 3);
    assert_eq!(federation.coordinator.view().tally.accepted, 0);
}

#[test]
fn what_was_accepted_for_the_next_round_counts_where_the_rollback_fails() {
    let mut federation = with_a_late_update();
    ask(&mut federation, 0);
    federation.step(Event::RollbackFailed {
        model: again(0, 2),
        detail: "no such file".into(),
    });
    federation.wait(2);
    assert_eq!(federation.phase(), "collecting");
    assert_eq!(federation.coordinator.view().tally.accepted, 1);
}

#[test]
fn a_model_that_may_be_a_fact_already_goes_first() {
    let mut federation = with_two_models(plan(2, 2));
    federation.submit(1, 3);
    federation.submit(2, 3);
    federation.merged(3);
    assert!(ask(&mut federation, 1).is_empty());
    federation.restart();
    let effects = federation.published(3);
    assert_eq!(
        closed(&effects).unwrap().outcome,
        RoundOutcome::Published(model(3))
    );
    assert_eq!(rollback(&effects).unwrap().model, again(1, 4));
}

#[test]
fn a_rollback_is_asked_for_again_after_a_restart_and_done_once() {
    let mut federation = with_two_models(plan(2, 2));
    ask(&mut federation, 1);
    let effects = federation.restart();
    assert_eq!(rollback(&effects).unwrap().model, again(1, 3));
    let other = Event::RolledBack { model: again(1, 2) };
    assert!(federation.step(other).is_empty());
    federation.step(Event::RolledBack { model: again(1, 3) });
    let late = Event::RolledBack { model: again(1, 3) };
    assert!(federation.step(late).is_empty());
    assert_eq!(rollback(&federation.restart()), None);
}

#[test]
fn the_base_itself_and_a_second_rollback_are_refused_with_the_reason() {
    let mut federation = with_two_models(plan(2, 2));
    let refused = |effects: &[Effect]| match effects {
        [Effect::RefuseRollback { detail }] => detail.clone(),
        other => panic!("{other:?}"),
    };
    let detail = refused(&ask(&mut federation, 2));
    assert_eq!(detail, "model 2 is the base, and has that content");
    ask(&mut federation, 1);
    let detail = refused(&ask(&mut federation, 0));
    assert_eq!(detail, "a rollback to model 1 is under way");
}

#[test]
fn a_rollback_that_fails_leaves_the_base_as_it_was() {
    let mut federation = with_two_models(plan(2, 2));
    ask(&mut federation, 1);
    let detail = "no such file".to_owned();
    let effects = federation.step(Event::RollbackFailed {
        model: again(1, 3),
        detail: detail.clone(),
    });
    assert_eq!(answer(&effects), Some(Err(detail)));
    assert_eq!(*federation.coordinator.base(), model(2));
    federation.wait(2);
    assert_eq!(federation.phase(), "collecting");
}

#[test]
fn a_federation_that_is_over_can_be_rolled_back_and_stays_over() {
    let reason = EndReason::RoundsCompleted { rounds: 2 };
    let plan = RoundPlan {
        rounds: 2,
        ..plan(2, 2)
    };
    let mut federation = with_two_models(plan);
    assert_eq!(federation.coordinator.ended(), Some(reason));
    assert!(closed(&ask(&mut federation, 1)).is_none());
    assert_eq!(federation.coordinator.ended(), None);
    let effects = federation.step(Event::RolledBack { model: again(1, 3) });
    let last = again(1, 3);
    assert_eq!(
        effects.last(),
        Some(&Effect::EndFederation { reason, last })
    );
}

#[test]
fn stopping_waits_for_a_rollback_that_may_be_a_fact_already() {
    let mut federation = with_two_models(plan(2, 2));
    ask(&mut federation, 1);
    assert!(federation.step(Event::Stopped).is_empty());
    federation.step(Event::RolledBack { model: again(1, 3) });
    assert_eq!(federation.coordinator.ended(), Some(EndReason::Stopped));
    assert_eq!(*federation.coordinator.base(), again(1, 3));
}

#[test]
fn a_base_gets_a_version_above_those_that_clients_know() {
    let mut federation = with_two_models(plan(2, 2));
    let effects = federation.step(Event::RollbackAsked {
        to: model(2),
        reason: REASON.into(),
        above: model(7).version,
    });
    assert_eq!(rollback(&effects).unwrap().model, again(2, 8));
    federation.step(Event::RolledBack { model: again(2, 8) });
    federation.submit(1, 4);
    federation.submit(2, 4);
    federation.merged(4);
    federation.published(4);
    assert_eq!(federation.coordinator.base().version, model(9).version);
}
