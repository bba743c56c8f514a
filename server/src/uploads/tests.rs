//! Uploads from the announcement to the decision, with a real driver, ledger and staging; good ones and lies.

#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use std::collections::BTreeMap;

use bytes::Bytes;
use fedmerge_common::digest::Digest;
use fedmerge_common::dtype::Dtype;
use fedmerge_common::reason::RejectionCode;
use fedmerge_common::task_vector::Encoding;
use fedmerge_proto::convert::transfer::chunk;

use super::*;
use crate::driver::{Seat, Stay};
use crate::testbed::{Bed, Running, client, invitation, plan, some_digest, write};

/// A round that waits for two clients, who attend.
struct Round {
    bed: Bed,
    running: Running,
    _seats: [Seat; 2],
}

impl Round {
    async fn open() -> Self {
        let bed = Bed::new();
        let running = bed.start(plan(2, 1), Stay::Always).await;
        let mut seats = [
            running.attend("ward-1").await,
            running.attend("ward-2").await,
        ];
        for seat in &mut seats {
            invitation(seat).await;
        }
        Self {
            bed,
            running,
            _seats: seats,
        }
    }

    fn payload(&self, values: &[f32]) -> Bytes {
        let path = self.bed.root.path().join("payload");
        write(&path, &[("w", Dtype::F32, values)]);
        std::fs::read(path).unwrap().into()
    }

    fn header(&self, payload: &Bytes) -> UpdateHeader {
        UpdateHeader {
            round: RoundNumber::new(1),
            base: self.bed.base.digest,
            encoding: Encoding::F32,
            payload: Digest::of(payload),
            payload_bytes: payload.len() as u64,
            num_examples: 10,
            metrics: BTreeMap::new(),
        }
    }

    async fn begin(&self, name: &str, header: &UpdateHeader) -> Begun {
        let client = client(name);
        let begun = self.running.uploads.begin(&client, header.clone());
        begun.await.unwrap()
    }

    async fn send(&self, name: &str, id: &UploadId, offset: u64, data: Bytes) {
        let (mut writer, _) = self
            .running
            .uploads
            .writer(&client(name), id)
            .await
            .unwrap();
        writer
            .append(vec![Some(chunk(offset, data))])
            .await
            .unwrap();
    }

    async fn commit(&self, name: &str, id: &UploadId) -> Result<UpdateOutcome, RefusalReason> {
        let turn = self.running.uploads.turn(&client(name)).await;
        let outcome = self.running.uploads.commit(&turn, id).await;
        outcome.map_err(|refusal| refusal.reason)
    }

    /// Announces, sends and commits.
    async fn upload(&self, name: &str, header: &UpdateHeader, data: &Bytes) -> UpdateOutcome {
        let begun = self.begin(name, header).await;
        if begun.durable_bytes == 0 {
            self.send(name, &begun.id, 0, data.clone()).await;
        }
        self.commit(name, &begun.id).await.unwrap()
    }

    fn place(&self, name: &str, header: &UpdateHeader) -> PathBuf {
        files::update(
            &self.bed.directory,
            header.round,
            &client(name),
            &header.payload,
        )
    }

    fn staged(&self) -> usize {
        std::fs::read_dir(self.bed.directory.staging())
            .unwrap()
            .count()
    }
}

fn code(outcome: UpdateOutcome) -> RejectionCode {
    outcome.unwrap_err().code
}

#[tokio::test]
async fn a_sound_update_is_accepted_and_waits_in_its_place() {
    let round = Round::open().await;
    let data = round.payload(&[0.5, -0.5]);
    let header = round.header(&data);
    assert_eq!(round.upload("ward-1", &header, &data).await, Ok(()));
    assert_eq!(std::fs::read(round.place("ward-1", &header)).unwrap(), data);
    assert_eq!(round.staged(), 0);
}

#[tokio::test]
async fn an_update_that_is_announced_again_goes_on_where_it_stood() {
    let round = Round::open().await;
    let data = round.payload(&[0.5, -0.5]);
    let header = round.header(&data);
    let begun = round.begin("ward-1", &header).await;
    assert_eq!(begun.durable_bytes, 0);
    round.send("ward-1", &begun.id, 0, data.slice(..40)).await;
    let early = round.commit("ward-1", &begun.id).await;
    assert_eq!(early, Err(RefusalReason::WrongOffset));
    let again = round.begin("ward-1", &header).await;
    assert_eq!((&again.id, again.durable_bytes), (&begun.id, 40));
    round.send("ward-1", &begun.id, 40, data.slice(40..)).await;
    assert_eq!(round.commit("ward-1", &begun.id).await, Ok(Ok(())));
    // The answer was lost: nothing needs to be sent, and the answer is the same.
    let again = round.begin("ward-1", &header).await;
    assert_eq!(again.durable_bytes, header.payload_bytes);
    assert_eq!(round.commit("ward-1", &again.id).await, Ok(Ok(())));
}

#[tokio::test]
async fn what_its_header_condemns_is_rejected_without_a_byte() {
    let round = Round::open().await;
    let data = round.payload(&[0.5, -0.5]);
    let lie = |change: fn(&mut UpdateHeader)| {
        let mut header = round.header(&data);
        change(&mut header);
        header
    };
    for (header, expected) in [
        (
            lie(|header| header.payload_bytes = 10_001),
            RejectionCode::TooLarge,
        ),
        (
            lie(|header| header.encoding = Encoding::Bf16),
            RejectionCode::EncodingNotAllowed,
        ),
        (
            lie(|header| header.base = some_digest()),
            RejectionCode::BaseMismatch,
        ),
        (
            lie(|header| header.num_examples = 0),
            RejectionCode::Examples,
        ),
    ] {
        let round = Round::open().await;
        let begun = round.begin("ward-1", &header).await;
        assert_eq!(
            begun.durable_bytes, header.payload_bytes,
            "bytes are wanted"
        );
        let refused = round
            .running
            .uploads
            .writer(&client("ward-1"), &begun.id)
            .await;
        assert_eq!(refused.unwrap_err().reason, RefusalReason::UploadUnknown);
        let outcome = round.commit("ward-1", &begun.id).await.unwrap();
        assert_eq!(code(outcome), expected);
        assert_eq!(round.staged(), 0);
    }
}

#[tokio::test]
async fn bytes_are_wanted_for_the_present_round_from_those_invited_alone() {
    let round = Round::open().await;
    let data = round.payload(&[0.5, -0.5]);
    let mut header = round.header(&data);
    for (name, number, expected) in [
        ("ward-9", 1, RejectionCode::NotInvited),
        ("ward-1", 0, RejectionCode::RoundClosed),
        ("ward-1", 2, RejectionCode::RoundClosed),
    ] {
        header.round = RoundNumber::new(number);
        let begun = round.begin(name, &header).await;
        assert_eq!(begun.durable_bytes, header.payload_bytes);
        let outcome = round.commit(name, &begun.id).await.unwrap();
        assert_eq!(code(outcome), expected, "{name} in round {number}");
    }
}

#[tokio::test]
async fn an_upload_is_its_clients_alone() {
    let round = Round::open().await;
    let data = round.payload(&[0.5, -0.5]);
    let begun = round.begin("ward-1", &round.header(&data)).await;
    let other = client("ward-2");
    let refused = round.running.uploads.writer(&other, &begun.id).await;
    assert_eq!(refused.unwrap_err().reason, RefusalReason::UploadUnknown);
    let refused = round.commit("ward-2", &begun.id).await;
    assert_eq!(refused, Err(RefusalReason::UploadUnknown));
}

#[tokio::test]
async fn another_announcement_replaces_the_one_before_and_ends_its_stream() {
    let round = Round::open().await;
    let (first, second) = (round.payload(&[0.5, -0.5]), round.payload(&[0.25, 0.0]));
    let begun = round.begin("ward-1", &round.header(&first)).await;
    let (mut writer, _) = round
        .running
        .uploads
        .writer(&client("ward-1"), &begun.id)
        .await
        .unwrap();
    let half = chunk(0, first.slice(..40));
    writer.append(vec![Some(half)]).await.unwrap();
    let given_up = writer.given_up();
    assert_eq!(round.staged(), 1);
    round.begin("ward-1", &round.header(&second)).await;
    assert!(given_up.is_cancelled());
    assert_eq!(round.staged(), 0);
    let gone = round.commit("ward-1", &begun.id).await;
    assert_eq!(gone, Err(RefusalReason::UploadUnknown));
    drop(writer);
    assert!(round.running.uploads.staging.uploads().is_empty());
}

#[tokio::test]
async fn a_value_that_is_not_finite_is_rejected_and_its_file_goes() {
    let round = Round::open().await;
    let data = round.payload(&[0.5, f32::NAN]);
    let header = round.header(&data);
    let outcome = round.upload("ward-1", &header, &data).await;
    assert_eq!(code(outcome), RejectionCode::NonFinite);
    assert_eq!(round.staged(), 0);
    assert!(!round.place("ward-1", &header).exists());
}

#[tokio::test]
async fn an_update_that_is_committed_twice_at_once_gets_one_answer_twice() {
    let round = Round::open().await;
    let data = round.payload(&[0.5, -0.5]);
    let header = round.header(&data);
    let begun = round.begin("ward-1", &header).await;
    round.send("ward-1", &begun.id, 0, data.clone()).await;
    let (one, two) = tokio::join!(
        round.commit("ward-1", &begun.id),
        round.commit("ward-1", &begun.id)
    );
    assert_eq!((one, two), (Ok(Ok(())), Ok(Ok(()))));
    assert!(round.place("ward-1", &header).exists());
}

#[tokio::test]
async fn a_lie_about_the_payload_that_counts_does_not_remove_it() {
    let round = Round::open().await;
    let data = round.payload(&[0.5, -0.5]);
    let header = round.header(&data);
    // It is in its place and not decided, as after a crash; a second announcement of the same bytes is a lie.
    let place = round.place("ward-1", &header);
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    std::fs::write(&place, &data).unwrap();
    let mut lie = header.clone();
    lie.num_examples = 0;
    let outcome = round.upload("ward-1", &lie, &data).await;
    assert_eq!(code(outcome), RejectionCode::Examples);
    assert!(place.exists());
}

#[test]
fn a_disk_without_room_is_no_fault_of_the_update() {
    let full = io::Error::from(io::ErrorKind::StorageFull);
    let refusal = unstored(&full);
    assert_eq!(refusal.reason, RefusalReason::StorageFull);
    assert!(refusal.is_retryable());
    let broken = io::Error::from(io::ErrorKind::PermissionDenied);
    assert_eq!(unstored(&broken).reason, RefusalReason::Internal);
}
