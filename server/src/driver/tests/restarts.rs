//! Crashes in each phase: a new driver on the same ledger comes to the same model.

use std::sync::atomic::AtomicBool;

use fedmerge_merge::{Method, Recipe};

use super::*;
use crate::merging::merge;

fn updates(bed: &Bed) -> [(ClientId, UpdateRef); 2] {
    [
        bed.update(1, "ward-1", 3, ONE),
        bed.update(1, "ward-2", 5, TWO),
    ]
}

async fn digest_of_the_next_model(running: &Running) -> Digest {
    let view = running.until(|view| view.rounds_ended == 1).await;
    assert_eq!(view.base.version.get(), 1, "{:?}", view.last_round);
    view.base.digest
}

async fn undisturbed() -> Digest {
    let bed = Bed::new();
    let (running, _one, _two) = begun(&bed, 1).await;
    for update in updates(&bed) {
        running.submit(1, update).await;
    }
    digest_of_the_next_model(&running).await
}

/// A coordinator whose round has all its updates, and the effects of the last of them not performed.
fn collected(bed: &Bed) -> Coordinator {
    let clock = Clock::with_offset(0);
    let mut coordinator = Coordinator::new(plan(2, 1), bed.base);
    let round = RoundNumber::new(1);
    for name in ["ward-1", "ward-2"] {
        let client = client(name);
        coordinator.step(clock.now(), Event::ClientArrived { client });
    }
    for (client, update) in updates(bed) {
        let event = Event::UpdateValidated {
            client,
            round,
            update,
        };
        coordinator.step(clock.now(), event);
    }
    coordinator
}

async fn keep(bed: &Bed, coordinator: &Coordinator) {
    let ledger = Ledger::open(&bed.directory.ledger()).await.unwrap();
    ledger.commit(&coordinator.record(), &[]).await.unwrap();
    ledger.close().await;
}

/// A server that crashed after it decided to publish; what it had done of that is up to `half_way`.
async fn goes_on_publishing(half_way: impl AsyncFnOnce(&Bed)) {
    let bed = Bed::new();
    let mut coordinator = collected(&bed);
    let job = bed.job(&updates(&bed), Recipe::of(Method::Mean));
    let merged = merge(&job, &AtomicBool::new(false)).unwrap();
    let event = Event::MergeFinished {
        round: job.round,
        candidate: merged.candidate,
    };
    coordinator.step(Clock::with_offset(0).now(), event);
    assert_eq!(coordinator.view().phase, "publishing");
    keep(&bed, &coordinator).await;
    half_way(&bed).await;
    let running = bed.start(plan(2, 1), Stay::Always).await;
    assert_eq!(
        digest_of_the_next_model(&running).await,
        undisturbed().await
    );
    let newest = running.ledger.newest_model().await.unwrap().unwrap();
    assert_eq!(newest.model, merged.candidate);
}

#[tokio::test]
async fn a_crash_while_updates_are_collected_loses_none_that_was_accepted() {
    let bed = Bed::new();
    let (running, _one, _two) = begun(&bed, 1).await;
    let [one, two] = updates(&bed);
    running.submit(1, one.clone()).await;
    running.crash().await;

    let (running, _one, _two) = {
        let running = bed.start(plan(2, 1), Stay::Always).await;
        // The one whose update counts has nothing to do; asking again gets the same answer.
        let seat = running.attend("ward-1").await;
        running.submit(1, one).await;
        let mut other = running.attend("ward-2").await;
        assert_eq!(invitation(&mut other).await.round, 1);
        (running, seat, other)
    };
    running.submit(1, two).await;
    assert_eq!(
        digest_of_the_next_model(&running).await,
        undisturbed().await
    );
}

#[tokio::test]
async fn a_crash_while_merging_repeats_the_merge() {
    let bed = Bed::new();
    let coordinator = collected(&bed);
    assert_eq!(coordinator.view().phase, "merging");
    keep(&bed, &coordinator).await;
    let running = bed.start(plan(2, 1), Stay::Always).await;
    assert_eq!(
        digest_of_the_next_model(&running).await,
        undisturbed().await
    );
}

#[tokio::test]
async fn a_crash_before_the_rename_publishes_after_the_restart() {
    goes_on_publishing(async |_| {}).await;
}

#[tokio::test]
async fn a_crash_between_rename_and_transaction_publishes_after_the_restart() {
    goes_on_publishing(async |bed| {
        let candidate = bed.directory.candidate(RoundNumber::new(1));
        let published = bed.directory.model(bed.base.version.next());
        std::fs::rename(candidate, published).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_to_end_and_was_restarted_waits_for_clients_to_hear_of_the_end() {
    let bed = Bed::new();
    let mut coordinator = Coordinator::new(plan(2, 1), bed.base);
    coordinator.step(Clock::with_offset(0).now(), Event::Stopped);
    keep(&bed, &coordinator).await;
    let running = bed.start(plan(2, 1), Stay::UntilDone).await;
    let seat = running.attend("ward-1").await;
    assert!(format!("{:?}", seat.notices.borrow()).contains("Ended"));
    let (client, session) = (client("ward-1"), seat.session);
    running.federation.leave(client, session).await;
    running.driving.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_server_that_is_to_end_waits_for_each_client_of_its_last_round() {
    let bed = Bed::new();
    let (running, _one, _two) = begun(&bed, 1).await;
    for update in updates(&bed) {
        running.submit(1, update).await;
    }
    running.until(|view| view.ended.is_some()).await;
    running.crash().await;
    let running = bed.start(plan(2, 1), Stay::UntilDone).await;
    let one = running.attend("ward-1").await;
    running
        .federation
        .leave(client("ward-1"), one.session)
        .await;
    // It still answers, though the first has come and gone.
    running.federation.report(Event::TimePassed).await.unwrap();
    let two = running.attend("ward-2").await;
    running
        .federation
        .leave(client("ward-2"), two.session)
        .await;
    running.driving.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_round_that_is_over_is_over_after_a_restart_too() {
    let bed = Bed::new();
    let (running, _one, _two) = begun(&bed, 1).await;
    for update in updates(&bed) {
        running.submit(1, update).await;
    }
    let digest = digest_of_the_next_model(&running).await;
    running.crash().await;
    let running = bed.start(plan(2, 1), Stay::Always).await;
    let view = running.until(|view| view.ended.is_some()).await;
    assert_eq!(view.base.digest, digest);
    let rounds = running.ledger.rounds(Rounds::Newest(9)).await.unwrap();
    assert_eq!(rounds.len(), 1);
}
