//! The driver with a real ledger and a real coordinator: what is told, when, and what a restart goes on with.

#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

mod evaluations;
mod places;
mod restarts;
mod rollbacks;

use fedmerge_common::digest::Digest;
use fedmerge_common::dtype::Dtype;
use fedmerge_common::ids::RoundNumber;
use fedmerge_common::reason::RejectionCode;

use super::*;
use crate::store::ledger::Rounds;
use crate::testbed::{Bed, Running, Tensor, client, invitation, plan, some_digest};

const ONE: &[Tensor<'_>] = &[("w", Dtype::F32, &[1.0, 0.5])];
const TWO: &[Tensor<'_>] = &[("w", Dtype::F32, &[3.0, 4.5])];

/// Both clients of a round in their places.
async fn begun(bed: &Bed, rounds: u64) -> (Running, Seat, Seat) {
    let running = bed.start(plan(2, rounds), Stay::Always).await;
    let (mut one, mut two) = (
        running.attend("ward-1").await,
        running.attend("ward-2").await,
    );
    for seat in [&mut one, &mut two] {
        invitation(seat).await;
    }
    (running, one, two)
}

/// What the ledger's file holds, read by somebody else.
async fn written(bed: &Bed) -> String {
    let ledger = Ledger::open(&bed.directory.ledger()).await.unwrap();
    let record = ledger.record().await.unwrap();
    ledger.close().await;
    serde_json::to_string(&record).unwrap()
}

#[tokio::test]
async fn a_round_opens_when_its_clients_attend_and_each_is_invited() {
    let bed = Bed::new();
    let running = bed.start(plan(2, 1), Stay::Always).await;
    let mut one = running.attend("ward-1").await;
    assert_eq!(running.federation.now().phase, "gathering");
    let mut two = running.attend("ward-2").await;
    for seat in [&mut one, &mut two] {
        let invitation = invitation(seat).await;
        assert_eq!(invitation.round, 1);
        assert_eq!(invitation.base, Some(bed.base.into()));
    }
}

#[tokio::test]
async fn an_answer_comes_after_the_ledger_holds_it() {
    let bed = Bed::new();
    let (running, _one, _two) = begun(&bed, 1).await;
    let update = bed.update(1, "ward-1", 3, ONE);
    let payload = update.1.payload.to_string();
    assert!(!written(&bed).await.contains(&payload));
    running.submit(1, update).await;
    assert!(written(&bed).await.contains(&payload));
}

#[tokio::test]
async fn signs_of_life_alone_are_written_once_a_second() {
    let bed = Bed::new();
    let (running, _one, _two) = begun(&bed, 1).await;
    let before = written(&bed).await;
    let noted = Instant::now();
    let note = |name| {
        let round = RoundNumber::new(1);
        running.federation.note_progress(&client(name), round);
    };
    note("ward-1");
    note("ward-2");
    while written(&bed).await == before {
        tokio::task::yield_now().await;
    }
    assert!(noted.elapsed() >= PROGRESS_PAUSE);
    assert!(!written(&bed).await.contains("\"progress\":null"));
}

#[tokio::test]
async fn signs_of_life_are_written_with_what_happens_next() {
    let bed = Bed::new();
    let (running, _one, _two) = begun(&bed, 1).await;
    let round = RoundNumber::new(1);
    running.federation.note_progress(&client("ward-2"), round);
    running.submit(1, bed.update(1, "ward-1", 3, ONE)).await;
    assert!(!written(&bed).await.contains("\"progress\":null"));
}

#[tokio::test]
async fn while_the_ledger_is_locked_nobody_is_told_and_nothing_is_lost() {
    use sqlx::{ConnectOptions, Connection, Executor};
    let bed = Bed::new();
    let running = bed.start(plan(1, 1), Stay::Always).await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(bed.directory.ledger());
    let mut other = options.connect().await.unwrap();
    other.execute("BEGIN IMMEDIATE").await.unwrap();

    let mut attending = Box::pin(running.attend("ward-1"));
    let told = tokio::time::timeout(Duration::from_millis(300), &mut attending).await;
    assert!(
        told.is_err(),
        "an invitation was shown before it was written"
    );

    other.execute("ROLLBACK").await.unwrap();
    other.close().await.unwrap();
    let mut seat = attending.await;
    invitation(&mut seat).await;
    assert!(written(&bed).await.contains("collecting"));
}

#[tokio::test]
async fn the_same_update_gets_the_same_answer_and_another_is_a_duplicate() {
    let bed = Bed::new();
    let (running, _one, _two) = begun(&bed, 1).await;
    let update = bed.update(1, "ward-1", 3, ONE);
    running.submit(1, update.clone()).await;
    running.submit(1, update.clone()).await;
    let mut other = update.1.clone();
    other.payload = some_digest();
    let round = RoundNumber::new(1);
    let answer = running.federation.decide(update.0, round, Ok(other));
    let rejection = answer.await.unwrap().unwrap_err();
    assert_eq!(rejection.code, RejectionCode::Duplicate);
}

#[tokio::test]
async fn whoever_was_not_invited_and_whatever_is_of_no_round_is_answered_too() {
    let bed = Bed::new();
    let (running, _one, _two) = begun(&bed, 1).await;
    for (name, round, code) in [
        ("ward-9", 1, RejectionCode::NotInvited),
        ("ward-1", 8, RejectionCode::RoundClosed),
    ] {
        let (client, update) = bed.update(round, name, 3, ONE);
        let answer = running
            .federation
            .decide(client, RoundNumber::new(round), Ok(update));
        assert_eq!(answer.await.unwrap().unwrap_err().code, code, "{name}");
    }
}

#[tokio::test]
async fn a_round_is_merged_published_and_cleaned_up_and_the_next_starts_from_it() {
    let bed = Bed::new();
    let left_by_a_crash = bed.directory.candidate(RoundNumber::new(0));
    std::fs::create_dir_all(&left_by_a_crash).unwrap();
    let (running, mut one, _two) = begun(&bed, 2).await;
    running.submit(1, bed.update(1, "ward-1", 1, ONE)).await;
    running.submit(1, bed.update(1, "ward-2", 1, TWO)).await;
    let view = running
        .until(|view| view.round == Some(RoundNumber::new(2)))
        .await;
    assert_eq!(view.base.version.get(), 1);
    let model = bed.directory.model(view.base.version);
    let path = model.join(crate::files::MODEL);
    assert_eq!(crate::testbed::values_of(&path, "w"), [3.0, 4.5]);
    let next = |notice: &fedmerge_proto::v1::Notice| format!("{notice:?}").contains("round: 2");
    one.notices.wait_for(next).await.unwrap();
    assert_eq!(invitation(&mut one).await.base, Some(view.base.into()));
    let updates = bed.directory.round_updates(RoundNumber::new(1));
    while updates.exists() || left_by_a_crash.exists() {
        tokio::task::yield_now().await;
    }
    let rounds = running.ledger.rounds(Rounds::Newest(9)).await.unwrap();
    assert_eq!(rounds.len(), 1);
    assert!(rounds[0].merge_ms.is_some());
    let note = running.ledger.merge_note(RoundNumber::new(1)).await;
    assert_eq!(note.unwrap().unwrap().candidate, view.base);
}

#[tokio::test]
async fn a_driver_that_is_to_end_with_the_federation_waits_for_its_clients_to_leave() {
    let bed = Bed::new();
    let running = bed.start(plan(1, 1), Stay::UntilDone).await;
    let mut seat = running.attend("ward-1").await;
    invitation(&mut seat).await;
    running.submit(1, bed.update(1, "ward-1", 1, ONE)).await;
    let ended = |notice: &fedmerge_proto::v1::Notice| format!("{notice:?}").contains("Ended");
    seat.notices.wait_for(ended).await.unwrap();
    assert!(!running.driving.is_finished());
    running
        .federation
        .leave(client("ward-1"), seat.session)
        .await;
    running.driving.await.unwrap().unwrap();
}

#[tokio::test]
async fn when_the_server_stops_callers_are_told_to_try_again() {
    let bed = Bed::new();
    let (running, _one, _two) = begun(&bed, 1).await;
    running.stop.cancel();
    running.driving.await.unwrap().unwrap();
    let refused = running.federation.attend(client("ward-1"), [1; 16]).await;
    let reason = refused.unwrap_err().reason;
    assert_eq!(reason, fedmerge_proto::status::RefusalReason::ShuttingDown);
}
