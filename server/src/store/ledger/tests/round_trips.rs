//! What each method writes is read back, also after the ledger was closed and opened again.

use fedmerge_common::ids::{ModelVersion, UploadId};

use super::*;
use crate::store::ledger::{PlanRow, Revocation, RoundStory, Rounds};

#[tokio::test]
async fn a_reopened_ledger_says_the_same() {
    let (directory, ledger) = new_ledger().await;
    ledger.commit(&record(3), &[summary(1)]).await.unwrap();
    ledger.note_merge(&note(1)).await.unwrap();
    ledger.publish(&stored(1, b"one")).await.unwrap();
    ledger.add_token(&token("t1", 2)).await.unwrap();
    ledger.admit(&wish("t1", "a", 1)).await.unwrap().unwrap();
    ledger.begin_upload(&upload("u1", "a", 2)).await.unwrap();
    ledger.close().await;

    let ledger = Ledger::open(&path(&directory)).await.unwrap();
    assert_eq!(ledger.record().await.unwrap(), Some(record(3)));
    let story = RoundStory {
        summary: summary(1),
        merge_ms: Some(12),
    };
    assert_eq!(ledger.rounds(Rounds::Newest(9)).await.unwrap(), [story]);
    assert_eq!(ledger.models().await.unwrap(), [stored(1, b"one")]);
    assert_eq!(ledger.tokens().await.unwrap()[0].used, 1);
    let client = ledger.client(&"a".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(client.labels, token("t1", 2).labels);
    assert_eq!(ledger.clients().await.unwrap(), [client]);
    assert_eq!(ledger.uploads().await.unwrap(), [upload("u1", "a", 2)]);
}

#[tokio::test]
async fn the_last_record_and_story_count() {
    let (_directory, ledger) = new_ledger().await;
    ledger.commit(&record(1), &[summary(1)]).await.unwrap();
    let mut told_again = summary(1);
    told_again.closed = Timestamp::new(99);
    let closed = [told_again.clone(), summary(2)];
    ledger.commit(&record(2), &closed).await.unwrap();
    assert_eq!(ledger.record().await.unwrap(), Some(record(2)));
    let stories = ledger
        .rounds(Rounds::From(RoundNumber::new(1)))
        .await
        .unwrap();
    let summaries: Vec<_> = stories.into_iter().map(|story| story.summary).collect();
    assert_eq!(summaries, closed);
    assert_eq!(
        ledger
            .rounds(Rounds::From(RoundNumber::new(2)))
            .await
            .unwrap()
            .len(),
        1
    );
    assert!(
        ledger
            .rounds(Rounds::From(RoundNumber::new(u64::MAX)))
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn the_newest_rounds_are_read_alone_and_in_order() {
    let (_directory, ledger) = new_ledger().await;
    let closed: Vec<RoundSummary> = (1..=5).map(summary).collect();
    ledger.commit(&record(5), &closed).await.unwrap();
    ledger.note_merge(&note(4)).await.unwrap();
    let stories = ledger.rounds(Rounds::Newest(2)).await.unwrap();
    let seen: Vec<_> = stories
        .iter()
        .map(|story| (story.summary.round.get(), story.merge_ms))
        .collect();
    assert_eq!(seen, [(4, Some(12)), (5, None)]);
    let only = Rounds::Only(RoundNumber::new(3));
    assert_eq!(ledger.rounds(only).await.unwrap()[0].summary, summary(3));
    assert_eq!(ledger.round_count().await.unwrap(), 5);
}

#[tokio::test]
async fn each_round_has_the_plan_that_began_last_before_it() {
    let (_directory, ledger) = new_ledger().await;
    let round = RoundNumber::new;
    let row = |first, text: &str| PlanRow {
        first_round: round(first),
        text: text.to_owned(),
    };
    assert_eq!(ledger.plan_of(round(1)).await.unwrap(), None);
    for plan in [row(1, "a"), row(4, "given up"), row(4, "b")] {
        ledger.keep_plan(&plan).await.unwrap();
    }
    for (number, plan) in [(1, row(1, "a")), (3, row(1, "a")), (4, row(4, "b"))] {
        assert_eq!(ledger.plan_of(round(number)).await.unwrap(), Some(plan));
    }
    let last = ledger.plan_of(round(u64::MAX)).await.unwrap();
    assert_eq!(last, Some(row(4, "b")));
}

#[tokio::test]
async fn a_commit_that_fails_leaves_nothing_of_itself() {
    let (_directory, ledger) = new_ledger().await;
    ledger.commit(&record(1), &[]).await.unwrap();
    let error = ledger
        .commit(&record(2), &[summary(1), summary_of_an_absurd_round()])
        .await
        .unwrap_err();
    assert!(matches!(error, LedgerError::TooLarge { .. }), "{error:?}");
    assert_eq!(ledger.record().await.unwrap(), Some(record(1)));
    assert!(ledger.rounds(Rounds::Newest(9)).await.unwrap().is_empty());
}

fn id(name: &str) -> UploadId {
    name.parse().unwrap()
}

fn summary_of_an_absurd_round() -> RoundSummary {
    RoundSummary {
        round: RoundNumber::new(u64::MAX),
        ..summary(1)
    }
}

#[tokio::test]
async fn a_merge_is_noted_before_its_round_is_over() {
    let (_directory, ledger) = new_ledger().await;
    let round = RoundNumber::new(1);
    assert_eq!(ledger.merge_note(round).await.unwrap(), None);
    ledger.note_merge(&note(1)).await.unwrap();
    let again = MergeNote {
        elapsed_ms: 13,
        ..note(1)
    };
    ledger.note_merge(&again).await.unwrap();
    assert_eq!(ledger.merge_note(round).await.unwrap(), Some(again));
    assert!(ledger.rounds(Rounds::Only(round)).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_version_is_published_once() {
    let (_directory, ledger) = new_ledger().await;
    let first = StoredModel {
        parent: None,
        round: None,
        ..stored(0, b"base")
    };
    ledger.publish(&first).await.unwrap();
    let later = StoredModel {
        published: Timestamp::new(9999),
        ..first.clone()
    };
    ledger.publish(&later).await.unwrap();
    assert_eq!(ledger.models().await.unwrap(), [first]);
    let message = ledger
        .publish(&stored(0, b"other"))
        .await
        .unwrap_err()
        .to_string();
    for digest in [Digest::of(b"base"), Digest::of(b"other")] {
        assert!(message.contains(&digest.to_string()), "{message}");
    }
}

#[tokio::test]
async fn models_are_found_by_content_and_by_age() {
    let (_directory, ledger) = new_ledger().await;
    assert_eq!(ledger.newest_model().await.unwrap(), None);
    for (version, content) in [(0, b"a"), (1, b"b"), (2, b"a")] {
        ledger.publish(&stored(version, content)).await.unwrap();
    }
    let found = |digest| {
        let ledger = ledger.clone();
        async move { ledger.model_by_digest(&digest).await.unwrap() }
    };
    assert_eq!(found(Digest::of(b"b")).await, Some(stored(1, b"b")));
    assert_eq!(found(Digest::of(b"a")).await, Some(stored(2, b"a")));
    assert_eq!(found(Digest::of(b"c")).await, None);
    let version = ModelVersion::new;
    let one = ledger.model(version(1)).await.unwrap();
    assert_eq!(one, Some(stored(1, b"b")));
    assert_eq!(ledger.model(version(3)).await.unwrap(), None);
    assert_eq!(ledger.newest_model().await.unwrap(), Some(stored(2, b"a")));
}

#[tokio::test]
async fn tokens_are_listed_by_age_and_are_revoked_once() {
    let (_directory, ledger) = new_ledger().await;
    let older = TokenRow {
        created: Timestamp::new(1),
        ..token("z", 1)
    };
    for token in [&token("a", 1), &older] {
        ledger.add_token(token).await.unwrap();
    }
    let error = ledger.add_token(&older).await.unwrap_err();
    assert_eq!(error.to_string(), "token `z` is there already");
    for expected in [Revocation::Revoked, Revocation::AlreadyRevoked] {
        assert_eq!(
            ledger
                .revoke_token(&older.id, Timestamp::new(160))
                .await
                .unwrap(),
            expected
        );
    }
    let unknown = ledger
        .revoke_token(&"nobody".parse().unwrap(), Timestamp::new(160))
        .await;
    assert_eq!(unknown.unwrap(), Revocation::Unknown);
    let revoked = TokenRow {
        is_revoked: true,
        ..older
    };
    assert_eq!(ledger.tokens().await.unwrap(), [revoked, token("a", 1)]);
}

#[test]
fn a_tokens_hash_is_not_shown() {
    assert!(!format!("{:?}", token("t1", 1)).contains("secret"));
    assert!(!format!("{:?}", wish("t1", "a", 1)).contains("secret"));
}

#[tokio::test]
async fn a_client_that_announces_anew_gives_the_upload_before_up() {
    let (_directory, ledger) = new_ledger().await;
    let begin = |upload: UploadRow| {
        let ledger = ledger.clone();
        async move { ledger.begin_upload(&upload).await.unwrap() }
    };
    assert!(begin(upload("u1", "a", 1)).await.is_empty());
    assert!(begin(upload("u2", "b", 1)).await.is_empty());
    let again = UploadRow {
        begun: Timestamp::new(9999),
        ..upload("u1", "a", 1)
    };
    assert!(begin(again).await.is_empty());
    let first = id("u1");
    assert_eq!(
        ledger.upload(&first).await.unwrap(),
        Some(upload("u1", "a", 1))
    );
    assert_eq!(begin(upload("u3", "a", 2)).await, [id("u1")]);
    assert_eq!(ledger.upload(&first).await.unwrap(), None);
}

#[tokio::test]
async fn uploads_of_rounds_that_are_over_are_forgotten() {
    let (_directory, ledger) = new_ledger().await;
    for (id, client, round) in [("u1", "a", 1), ("u2", "b", 2), ("u3", "c", 3)] {
        ledger
            .begin_upload(&upload(id, client, round))
            .await
            .unwrap();
    }
    let forgotten = ledger.forget_uploads_through(RoundNumber::new(2)).await;
    let names: Vec<String> = forgotten.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["u1", "u2"]);
    assert_eq!(ledger.uploads().await.unwrap(), [upload("u3", "c", 3)]);
}

#[tokio::test]
async fn metrics_come_back_bit_for_bit() {
    let (_directory, ledger) = new_ledger().await;
    let mut row = upload("u1", "a", 1);
    let values = [f64::NAN, -0.0, 5e-324, f64::MAX, 0.1 + 0.2, 1.0 / 3.0];
    row.header.metrics = values
        .iter()
        .enumerate()
        .map(|(number, value)| (format!("m{number}"), *value))
        .collect();
    ledger.begin_upload(&row).await.unwrap();
    let back = ledger.upload(&row.id).await.unwrap().unwrap();
    let bits = |row: &UploadRow| -> Vec<u64> {
        let metrics = row.header.metrics.values();
        metrics.map(|value| value.to_bits()).collect()
    };
    assert_eq!(bits(&back), bits(&row));
}

#[tokio::test]
async fn a_number_that_does_not_fit_is_an_error_and_not_another_number() {
    let (_directory, ledger) = new_ledger().await;
    let error = ledger
        .begin_upload(&upload("u1", "a", u64::MAX))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "round 18446744073709551615 is too large for the ledger"
    );
    assert!(ledger.uploads().await.unwrap().is_empty());
}
