//! What people and clients are told.

use fedmerge_common::reason::AbandonReason;
use fedmerge_coordinator::{Assignment, Event};

use super::federation::{Federation, NOON, client, plan, round};

fn standby(federation: &Federation, number: usize) -> (String, String) {
    let assignment = federation.coordinator.assignment(&client(number));
    let Assignment::Standby {
        waiting_for,
        last_round,
    } = assignment
    else {
        panic!("{assignment:?}");
    };
    (waiting_for, last_round)
}

#[test]
fn each_wait_is_told_with_its_numbers_and_its_end() {
    let mut federation = Federation::with(plan(8, 5), 3);
    let told = |federation: &Federation| federation.coordinator.view().waiting_for;
    assert_eq!(
        told(&federation),
        "3 of 8 clients (at least 5 to open a round)"
    );
    federation.arrive(4..=7);
    assert_eq!(
        told(&federation),
        "7 of 8 clients; the round opens with those at 12:00:30 UTC"
    );
    federation.arrive([8]);
    for number in [1, 3, 4, 5, 8] {
        federation.submit(number, 1);
    }
    assert_eq!(
        told(&federation),
        "5 of 8 updates, missing client-2, client-6 and 1 more, until 12:10:00 UTC"
    );
    federation.decline(6, 1);
    assert_eq!(
        told(&federation),
        "5 of 7 updates, missing client-2 and client-7, until 12:10:00 UTC"
    );
    federation.submit(2, 1);
    assert_eq!(
        told(&federation),
        "6 of 7 updates, missing client-7, until 12:10:00 UTC"
    );
    federation.submit(7, 1);
    assert_eq!(told(&federation), "the merge of 7 updates");
    federation.merged(1);
    assert_eq!(told(&federation), "the publication of model 1");
    federation.published(1);
    federation.step(Event::Stopped);
    assert_eq!(told(&federation), "nothing: the federation was stopped");
}

#[test]
fn programs_are_told_each_awaited_client_and_the_end_of_the_wait() {
    let mut federation = Federation::with(plan(4, 2), 1);
    let told = |federation: &Federation| {
        let view = federation.coordinator.view();
        let seconds = view.until.map(|until| (until - NOON).get() / 1000);
        (view.awaited.into_iter().collect::<Vec<_>>(), seconds)
    };
    assert_eq!(told(&federation), (vec![], None));
    federation.arrive([2]);
    assert_eq!(told(&federation), (vec![], Some(30)));
    federation.arrive([3, 4]);
    federation.submit(3, 1);
    let missing = vec![client(1), client(2), client(4)];
    assert_eq!(told(&federation), (missing, Some(600)));
    for number in [1, 2, 4] {
        federation.submit(number, 1);
    }
    assert_eq!(told(&federation), (vec![], None));
}

#[test]
fn a_pause_is_told_with_its_cause() {
    let mut federation = Federation::with(plan(2, 2), 2);
    federation.decline(1, 1);
    assert_eq!(
        federation.coordinator.view().waiting_for,
        "a pause until 12:00:02 UTC after 1 round abandoned in a row"
    );
}

#[test]
fn a_client_is_told_how_things_stand_without_anyones_name() {
    let mut federation = Federation::with(plan(2, 2), 3);
    let (waiting_for, last_round) = standby(&federation, 3);
    assert_eq!(waiting_for, "the updates of others until 12:10:00 UTC");
    assert_eq!(last_round, "");
    federation.submit(1, 1);
    federation.submit(2, 1);
    federation.step(Event::MergeFailed {
        round: round(1),
        detail: "the update of client-2 is gone".into(),
    });
    assert_eq!(
        standby(&federation, 3).1,
        "round 1 was abandoned: the merge failed"
    );
}

#[test]
fn the_status_counts_rounds_and_invitations() {
    let mut federation = Federation::new(plan(2, 2));
    let view = federation.coordinator.view();
    assert_eq!(
        (view.round, view.rounds_ended, view.phase),
        (None, 0, "gathering")
    );
    federation.arrive([1, 2, 3]);
    let view = federation.coordinator.view();
    assert_eq!((view.round, view.rounds_ended), (Some(round(1)), 0));
    assert_eq!((view.attending.len(), view.tally.invited()), (3, 2));
    federation.decline(1, 1);
    let view = federation.coordinator.view();
    assert_eq!((view.round, view.rounds_ended), (Some(round(1)), 1));
    let reason = AbandonReason::QuorumNotReached {
        accepted: 0,
        quorum: 2,
        rejected: 0,
        declined: 1,
        silent: 1,
    };
    assert_eq!(
        view.last_round.unwrap().outcome,
        fedmerge_coordinator::RoundOutcome::Abandoned(reason)
    );
}
