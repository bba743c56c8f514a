//! Staging on real files.
#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use fedmerge_common::digest::Digest;
use fedmerge_common::ids::RoundNumber;
use fedmerge_common::task_vector::Encoding;
use fedmerge_common::units::Millis;
use fedmerge_proto::convert::transfer::chunk;
use fedmerge_proto::status::{Refusal, RefusalReason};
use fedmerge_proto::v1;
use tempfile::TempDir;
use tokio::time::Instant;

use super::*;

/// Uploads that are written at the same time, at most.
const UPLOADS: usize = 3;

fn staging(directory: &TempDir, limit_bytes: u64) -> Staging {
    let limits = StagingLimits {
        bytes: ByteSize::new(limit_bytes),
        uploads: UPLOADS,
    };
    Staging::open(directory.path().join("staging"), limits).unwrap()
}

fn piece(offset: u64, data: &'static [u8]) -> Option<v1::Chunk> {
    Some(chunk(offset, Bytes::from_static(data)))
}

fn id(name: &str) -> UploadId {
    name.parse().unwrap()
}

fn header() -> UpdateHeader {
    UpdateHeader {
        round: RoundNumber::new(1),
        base: Digest::of(b"base"),
        encoding: Encoding::F32,
        payload: Digest::of(b"payload"),
        payload_bytes: 7,
        num_examples: 10,
        metrics: BTreeMap::from([("loss".to_owned(), 0.5)]),
    }
}

#[test]
fn the_same_announcement_is_the_same_upload_and_every_other_is_another() {
    let client = "a".parse().unwrap();
    let change = |change: fn(&mut UpdateHeader)| {
        let mut header = header();
        change(&mut header);
        upload_id(&client, &header)
    };
    let ids = [
        upload_id(&client, &header()),
        upload_id(&"b".parse().unwrap(), &header()),
        change(|header| header.round = RoundNumber::new(2)),
        change(|header| header.base = Digest::of(b"other")),
        change(|header| header.encoding = Encoding::Bf16),
        change(|header| header.payload = Digest::of(b"other")),
        change(|header| header.payload_bytes = 8),
        change(|header| header.num_examples = 11),
        change(|header| header.metrics.clear()),
        change(|header| *header.metrics.get_mut("loss").unwrap() = 0.25),
        change(|header| header.metrics = BTreeMap::from([("losss".to_owned(), 0.5)])),
    ];
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
    assert_eq!(ids[0], upload_id(&client, &header()));
}

#[tokio::test]
async fn bytes_are_appended_and_survive_a_restart() {
    let directory = TempDir::new().unwrap();
    let staging = staging(&directory, 100);
    assert_eq!(staging.durable_bytes(&id("u")).unwrap(), 0);
    let mut writer = staging.writer(&id("u"), 6).await.unwrap();
    let mut syncer = writer.syncer();
    writer.append(vec![piece(0, b"abc")]).await.unwrap();
    assert_eq!(syncer.unsynced_bytes(), 3);
    assert_eq!(syncer.sync().await.unwrap(), 3);
    assert_eq!(syncer.unsynced_bytes(), 0);
    drop((writer, syncer));
    drop(staging);

    let staging = self::staging(&directory, 100);
    assert_eq!(staging.uploads(), [id("u")]);
    assert_eq!(staging.durable_bytes(&id("u")).unwrap(), 3);
    let mut writer = staging.writer(&id("u"), 6).await.unwrap();
    assert_eq!(writer.written_bytes(), 3);
    let mut syncer = writer.syncer();
    assert_eq!(syncer.sync().await.unwrap(), 3);
    writer.append(vec![piece(3, b"def")]).await.unwrap();
    assert_eq!(syncer.sync().await.unwrap(), 6);
    assert_eq!(fs::read(staging.path(&id("u"))).unwrap(), b"abcdef");
}

#[tokio::test(start_paused = true)]
async fn bytes_are_made_durable_when_they_are_enough_or_waited_long_or_are_the_last() {
    const PATIENCE: Duration = Duration::from_secs(1);
    let directory = TempDir::new().unwrap();
    let staging = staging(&directory, 100);
    let mut writer = staging.writer(&id("u"), 7).await.unwrap();
    let mut syncer = writer.syncer();
    let begun = Instant::now();
    writer.append(vec![piece(0, b"abc")]).await.unwrap();
    assert!(syncer.due(3, PATIENCE).await);
    assert_eq!(begun.elapsed(), Duration::ZERO);
    syncer.sync().await.unwrap();

    writer.append(vec![piece(3, b"d")]).await.unwrap();
    assert!(syncer.due(3, PATIENCE).await);
    assert_eq!(begun.elapsed(), PATIENCE);
    syncer.sync().await.unwrap();

    writer
        .append(vec![piece(4, b"e"), piece(5, b"fg")])
        .await
        .unwrap();
    assert!(syncer.due(100, PATIENCE).await);
    assert_eq!(syncer.sync().await.unwrap(), 7);
    assert_eq!(begun.elapsed(), PATIENCE);
    drop(writer);
    assert!(!syncer.due(3, PATIENCE).await);
}

#[tokio::test]
async fn what_a_writer_left_is_made_durable() {
    let directory = TempDir::new().unwrap();
    let staging = staging(&directory, 100);
    let mut writer = staging.writer(&id("u"), 7).await.unwrap();
    let mut syncer = writer.syncer();
    writer.append(vec![piece(0, b"abc")]).await.unwrap();
    drop(writer);
    assert!(syncer.due(100, Duration::MAX).await);
    assert_eq!(syncer.sync().await.unwrap(), 3);
    assert!(!syncer.due(100, Duration::MAX).await);
}

#[tokio::test]
async fn a_corrupt_chunk_is_not_written_and_those_before_it_are() {
    let directory = TempDir::new().unwrap();
    let staging = staging(&directory, 100);
    let mut writer = staging.writer(&id("u"), 6).await.unwrap();
    let spoilt = v1::Chunk {
        data: Bytes::from_static(b"CD"),
        ..piece(2, b"cd").unwrap()
    };
    let chunks = vec![piece(0, b"ab"), Some(spoilt), piece(4, b"ef")];
    let refusal = Refusal::from(writer.append(chunks).await.unwrap_err());
    assert_eq!(refusal.reason, RefusalReason::ChunkCorrupt);
    let refusal = Refusal::from(writer.append(vec![None]).await.unwrap_err());
    assert_eq!(refusal.reason, RefusalReason::InvalidRequest);
    assert_eq!(writer.written_bytes(), 2);
    assert_eq!(fs::read(staging.path(&id("u"))).unwrap(), b"ab");
}

#[tokio::test]
async fn a_chunk_that_does_not_continue_is_told_where_the_file_ends() {
    let directory = TempDir::new().unwrap();
    let staging = staging(&directory, 100);
    let mut writer = staging.writer(&id("u"), 6).await.unwrap();
    writer.append(vec![piece(0, b"ab")]).await.unwrap();
    for offset in [0, 1, 3] {
        let error = writer.append(vec![piece(offset, b"x")]).await;
        let refusal = Refusal::from(error.unwrap_err());
        assert_eq!(refusal.reason, RefusalReason::WrongOffset);
        assert_eq!(
            refusal.detail,
            format!("the chunk begins at byte {offset}, the server stands at byte 2")
        );
    }
    assert_eq!(fs::read(staging.path(&id("u"))).unwrap(), b"ab");
}

#[tokio::test]
async fn more_than_was_announced_is_not_written() {
    let directory = TempDir::new().unwrap();
    let staging = staging(&directory, 100);
    let mut writer = staging.writer(&id("u"), 2).await.unwrap();
    let error = writer.append(vec![piece(0, b"abc")]).await.unwrap_err();
    assert!(matches!(
        error,
        StageError::TooLarge {
            bytes: 3,
            limit_bytes: 2
        }
    ));
    writer.append(vec![piece(0, b"ab")]).await.unwrap();
}

#[tokio::test]
async fn an_upload_has_one_writer_at_a_time() {
    let directory = TempDir::new().unwrap();
    let staging = staging(&directory, 100);
    let writer = staging.writer(&id("u"), 6).await.unwrap();
    let error = staging.writer(&id("u"), 6).await.unwrap_err();
    assert_eq!(Refusal::from(error).reason, RefusalReason::Busy);
    staging.writer(&id("other"), 6).await.unwrap();
    drop(writer);
    staging.writer(&id("u"), 6).await.unwrap();
}

#[tokio::test]
async fn a_writer_is_told_to_end_when_its_client_comes_again() {
    let directory = TempDir::new().unwrap();
    let staging = staging(&directory, 100);
    let mut writer = staging.writer(&id("u"), 6).await.unwrap();
    writer.append(vec![piece(0, b"abc")]).await.unwrap();
    let given_up = writer.given_up();
    assert!(!given_up.is_cancelled());
    staging.writer(&id("u"), 6).await.unwrap_err();
    assert!(given_up.is_cancelled());
    drop(writer);
    let next = staging.writer(&id("u"), 6).await.unwrap();
    assert_eq!(next.written_bytes(), 3);
    assert!(!next.given_up().is_cancelled());
}

#[tokio::test]
async fn announced_sizes_count_while_they_are_written_and_staged_bytes_afterwards() {
    let directory = TempDir::new().unwrap();
    let staging = staging(&directory, 10);
    let mut first = staging.writer(&id("a"), 6).await.unwrap();
    let error = staging.writer(&id("b"), 5).await.unwrap_err();
    assert_eq!(Refusal::from(error).reason, RefusalReason::StorageFull);
    first.append(vec![piece(0, b"abcd")]).await.unwrap();
    drop(first);
    // 4 bytes are staged: 6 are left, and 7 are not.
    assert!(matches!(
        staging.writer(&id("b"), 7).await.unwrap_err(),
        StageError::Full
    ));
    let second = staging.writer(&id("b"), 6).await.unwrap();
    assert!(matches!(
        staging.writer(&id("a"), 6).await.unwrap_err(),
        StageError::Full
    ));
    drop(second);
    staging.writer(&id("a"), 6).await.unwrap();
    let error = staging.writer(&id("c"), 11).await.unwrap_err();
    assert_eq!(Refusal::from(error).reason, RefusalReason::TooLarge);
}

#[tokio::test]
async fn what_was_staged_before_a_restart_counts() {
    let directory = TempDir::new().unwrap();
    let staging = staging(&directory, 10);
    fs::write(staging.path(&id("a")), [0; 8]).unwrap();
    fs::write(directory.path().join("staging/notes.txt"), [0; 8]).unwrap();
    let staging = self::staging(&directory, 10);
    assert_eq!(staging.uploads(), [id("a")]);
    assert!(matches!(
        staging.writer(&id("b"), 3).await.unwrap_err(),
        StageError::Full
    ));
    staging.remove(&id("a")).unwrap();
    staging.remove(&id("a")).unwrap();
    staging.writer(&id("b"), 3).await.unwrap();
}

#[tokio::test]
async fn an_upload_that_was_moved_away_frees_its_space() {
    let directory = TempDir::new().unwrap();
    let staging = staging(&directory, 10);
    let mut writer = staging.writer(&id("a"), 10).await.unwrap();
    writer.append(vec![piece(0, b"0123456789")]).await.unwrap();
    fs::rename(staging.path(&id("a")), directory.path().join("update")).unwrap();
    drop(writer);
    assert!(staging.uploads().is_empty());
    staging.writer(&id("b"), 10).await.unwrap();
}

#[tokio::test]
async fn an_upload_that_is_removed_while_it_is_written_keeps_its_reservation() {
    let directory = TempDir::new().unwrap();
    let staging = staging(&directory, 10);
    let writer = staging.writer(&id("a"), 10).await.unwrap();
    staging.remove(&id("a")).unwrap();
    assert!(matches!(
        staging.writer(&id("b"), 1).await.unwrap_err(),
        StageError::Full
    ));
    drop(writer);
    staging.writer(&id("b"), 10).await.unwrap();
}

#[tokio::test]
async fn a_client_is_not_told_the_servers_paths() {
    let directory = TempDir::new().unwrap();
    let staging = staging(&directory, 10);
    fs::remove_dir(directory.path().join("staging")).unwrap();
    let error = staging.writer(&id("a"), 1).await.unwrap_err();
    assert!(error.to_string().contains("staging/a.part"), "{error}");
    let refusal = Refusal::from(error);
    assert_eq!(refusal.reason, RefusalReason::Internal);
    assert!(!refusal.detail.contains("a.part"), "{refusal}");
    // The right to write was given back.
    fs::create_dir(directory.path().join("staging")).unwrap();
    staging.writer(&id("a"), 1).await.unwrap();
}

#[tokio::test]
async fn more_uploads_than_are_taken_at_once_are_told_when_to_come_back() {
    let directory = TempDir::new().unwrap();
    let staging = staging(&directory, 1000);
    let names = ["a", "b", "c"].map(id);
    let mut writers = Vec::new();
    for name in &names {
        writers.push(staging.writer(name, 1).await.unwrap());
    }
    assert_eq!(writers.len(), UPLOADS);
    let refusal = Refusal::from(staging.writer(&id("d"), 1).await.unwrap_err());
    assert_eq!(refusal.reason, RefusalReason::Busy);
    assert!(refusal.retry_after > Some(Millis::ZERO), "{refusal:?}");
    writers.pop();
    staging.writer(&id("d"), 1).await.unwrap();
}

#[tokio::test]
async fn whoever_finds_no_space_is_told_when_to_come_back() {
    let directory = TempDir::new().unwrap();
    let staging = staging(&directory, 10);
    let _writer = staging.writer(&id("a"), 6).await.unwrap();
    let refusal = Refusal::from(staging.writer(&id("b"), 5).await.unwrap_err());
    assert_eq!(refusal.reason, RefusalReason::StorageFull);
    assert!(refusal.retry_after > Some(Millis::ZERO), "{refusal:?}");
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_uploads_that_nobody_went_on_with_give_way_to_one_that_is_sent() {
    const BEGUN: u64 = 10_000;
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("staging");
    fs::create_dir(&path).unwrap();
    for number in 0..BEGUN {
        fs::write(path.join(format!("u{number}.part")), b"x").unwrap();
    }
    let staging = staging(&directory, BEGUN);
    assert_eq!(staging.uploads().len(), 10_000);
    let early = staging.writer(&id("new"), 100).await.unwrap_err();
    assert!(matches!(early, StageError::Full));

    tokio::time::advance(book::IDLE_UPLOAD_LIFE).await;
    // One comes back in time: it is no longer left.
    drop(staging.writer(&id("u0"), 1).await.unwrap());
    let mut writer = staging.writer(&id("new"), 100).await.unwrap();
    let uploads = staging.uploads();
    assert_eq!(uploads.len(), 10_000 - 100 + 1);
    assert_eq!(fs::read_dir(&path).unwrap().count(), 10_000 - 100 + 1);
    assert!(uploads.contains(&id("u0")));
    writer.append(vec![piece(0, b"abc")]).await.unwrap();
    drop(writer);
    // What it did not use is free again.
    staging.writer(&id("newer"), 97).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_being_sent_never_gives_way() {
    let directory = TempDir::new().unwrap();
    let staging = staging(&directory, 10);
    let _writer = staging.writer(&id("a"), 6).await.unwrap();
    tokio::time::advance(2 * book::IDLE_UPLOAD_LIFE).await;
    let error = staging.writer(&id("b"), 5).await.unwrap_err();
    assert!(matches!(error, StageError::Full));
    assert_eq!(staging.uploads(), [id("a")]);
}

#[tokio::test]
async fn what_one_writer_wrote_from_the_beginning_need_not_be_hashed_again() {
    let directory = TempDir::new().unwrap();
    let staging = staging(&directory, 100);
    let mut writer = staging.writer(&id("u"), 7).await.unwrap();
    writer.append(vec![piece(0, b"pay")]).await.unwrap();
    assert_eq!(staging.digest(&id("u")), None, "something is missing");
    writer.append(vec![piece(3, b"load")]).await.unwrap();
    let whole = Some(Digest::of(b"payload"));
    assert_eq!(staging.digest(&id("u")), whole);
    drop(writer);
    assert_eq!(staging.digest(&id("u")), whole);
    staging.remove(&id("u")).unwrap();
    assert_eq!(staging.digest(&id("u")), None);
}

#[tokio::test]
async fn what_another_writer_began_is_hashed_by_whoever_needs_it() {
    let directory = TempDir::new().unwrap();
    let staging = staging(&directory, 100);
    let mut writer = staging.writer(&id("u"), 7).await.unwrap();
    writer.append(vec![piece(0, b"pay")]).await.unwrap();
    drop(writer);
    let mut writer = staging.writer(&id("u"), 7).await.unwrap();
    writer.append(vec![piece(3, b"load")]).await.unwrap();
    assert_eq!(staging.digest(&id("u")), None);
}
