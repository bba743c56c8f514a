//! One place for each client, whoever asks for it and however it is left.

use fedmerge_proto::status::RefusalReason;

use super::*;

async fn refusal(running: &Running, instance: u8) -> Option<RefusalReason> {
    let asked = running.federation.attend(client("ward-1"), [instance; 16]);
    asked.await.err().map(|refusal| refusal.reason)
}

#[tokio::test]
async fn a_second_process_is_refused_and_the_first_takes_its_place_back() {
    let bed = Bed::new();
    let running = bed.start(plan(2, 1), Stay::Always).await;
    let mut first = running.attend("ward-1").await;
    assert_eq!(
        refusal(&running, 2).await,
        Some(RefusalReason::IdentityInUse)
    );
    let again = running.attend("ward-1").await;
    assert_ne!(first.session, again.session);
    // The earlier stream ends, and its farewell does not end the later one.
    while first.notices.changed().await.is_ok() {}
    let session = first.session;
    running.federation.leave(client("ward-1"), session).await;
    assert_eq!(
        refusal(&running, 2).await,
        Some(RefusalReason::IdentityInUse)
    );
    assert_eq!(running.federation.now().attending.len(), 1);
}

#[tokio::test]
async fn a_place_that_was_given_back_is_anybodys() {
    let bed = Bed::new();
    let running = bed.start(plan(2, 1), Stay::Always).await;
    let seat = running.attend("ward-1").await;
    let session = seat.session;
    running.federation.leave(client("ward-1"), session).await;
    running.until(|view| view.attending.is_empty()).await;
    assert_eq!(refusal(&running, 2).await, None);
}

#[tokio::test]
async fn a_place_whose_answer_nobody_took_is_free() {
    let bed = Bed::new();
    let running = bed.start(plan(2, 1), Stay::Always).await;
    drop(running.attend("ward-1").await);
    let _two = running.attend("ward-2").await;
    let view = running.until(|view| view.attending.len() == 1).await;
    assert!(view.attending.contains(&client("ward-2")));
    assert_eq!(view.phase, "gathering", "a ghost was invited");
    drop(running.attend("ward-1").await);
    let asked = running.federation.attend(client("ward-1"), [2; 16]).await;
    assert!(asked.is_ok());
}

#[tokio::test]
async fn whoever_leaves_a_round_and_comes_back_is_invited_again() {
    let bed = Bed::new();
    let (running, one, _two) = begun(&bed, 1).await;
    running
        .federation
        .leave(client("ward-1"), one.session)
        .await;
    running.until(|view| view.attending.len() == 1).await;
    let mut again = running.attend("ward-1").await;
    assert_eq!(invitation(&mut again).await.round, 1);
}
