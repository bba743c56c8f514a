//! Transfers against a server that breaks, lies and forgets.

#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::Write;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use fedmerge_common::digest::Digest;
use fedmerge_common::ids::{ModelVersion, RoundNumber};
use fedmerge_common::packing::{Packer, Run, Unpacker};
use fedmerge_common::reason::Rejection;
use fedmerge_common::task_vector::Encoding;
use fedmerge_common::update::{ModelRef, UpdateHeader};
use fedmerge_proto::convert::transfer::{chunk, verified_chunk};
use fedmerge_proto::status::{Refusal, RefusalReason};
use fedmerge_proto::v1;
use fedmerge_proto::v1::commit_upload_response::Outcome;
use fedmerge_proto::v1::transfer_server::{Transfer, TransferServer};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use super::*;
use crate::agent::Answer;
use crate::cache::Cache;
use crate::link::{Greeting, Link};
use crate::testbed::{Authority, Served, serve};

mod packed;

/// Chunks of this size, so that small payloads have many.
const CHUNK: u32 = 1000;
/// What the depot asks for on the way up: clients cut where a hash tree does.
const UPLOAD_CHUNK: u32 = 1024;

/// What goes wrong with one call, in the order of the calls; nothing once they are used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mishap {
    CorruptSecondChunk,
    StreamEndsEarly,
    SkippedChunk,
    OtherFile,
    Refused(RefusalReason),
}

#[derive(Default)]
struct Depot {
    content: Bytes,
    mishaps: Mutex<VecDeque<Mishap>>,
    /// Offsets asked for by downloads, offsets received by uploads.
    offsets: Mutex<Vec<u64>>,
    staged: Mutex<Vec<u8>>,
    rejection: Option<Rejection>,
    /// What a comparison of models answers.
    changed: Vec<Range<u64>>,
    /// Whether uploads may be packed.
    packs: bool,
    /// What the server has as the base that clients have: downloads beside it are distances from it.
    older: Option<Vec<u8>>,
    packed_chunks: Mutex<usize>,
}

impl Depot {
    fn mishap(&self) -> Option<Mishap> {
        self.mishaps.lock().unwrap().pop_front()
    }
}

type Answers<T> = ReceiverStream<Result<T, Status>>;

/// The whole as one chunk of distances from a base.
fn distances(content: &Bytes, base: &[u8]) -> v1::Chunk {
    let mut older = tempfile::tempfile().unwrap();
    older.write_all(base).unwrap();
    let packed = Packer::beside(Some(older)).unwrap().pack(0, content);
    let bytes = packed.unwrap();
    // A first byte of these forms speaks of distances.
    assert!((4..8).contains(&bytes[0]), "{}", bytes[0]);
    v1::Chunk::from(Run {
        offset: 0,
        hash: fedmerge_common::digest::tree::hash_at(0, content),
        data: bytes.into(),
        unpacked_bytes: Some(content.len()),
    })
}

/// Serves the depot.
struct Desk(Arc<Depot>);

#[tonic::async_trait]
impl Transfer for Desk {
    type DownloadModelStream = Answers<v1::DownloadModelResponse>;
    type UploadChunksStream = Answers<v1::UploadChunksResponse>;

    async fn download_model(
        &self,
        request: Request<v1::DownloadModelRequest>,
    ) -> Result<Response<Self::DownloadModelStream>, Status> {
        let v1::DownloadModelRequest {
            offset,
            length,
            older,
            ..
        } = request.into_inner();
        self.0.offsets.lock().unwrap().push(offset);
        let mishap = self.0.mishap();
        if let Some(Mishap::Refused(reason)) = mishap {
            return Err(Refusal::new(reason, "because").into());
        }
        let content = if mishap == Some(Mishap::OtherFile) {
            vec![7; self.0.content.len()].into()
        } else {
            self.0.content.clone()
        };
        let content = content.slice(..content.len().min(usize::try_from(offset + length).unwrap()));
        let mut chunks = Vec::new();
        for start in (usize::try_from(offset).unwrap()..content.len()).step_by(CHUNK as usize) {
            chunks.push(chunk(
                start as u64,
                content.slice(start..content.len().min(start + CHUNK as usize)),
            ));
        }
        if let Some(base) = self.0.older.as_ref().filter(|_| older.is_some()) {
            chunks = vec![distances(&content, base)];
        }
        match mishap {
            Some(Mishap::CorruptSecondChunk) => chunks[1].data = Bytes::from_static(b"corrupt"),
            Some(Mishap::StreamEndsEarly) => chunks.truncate(2),
            Some(Mishap::SkippedChunk) => drop(chunks.remove(1)),
            Some(Mishap::OtherFile | Mishap::Refused(_)) | None => {}
        }
        let (sender, receiver) = mpsc::channel(chunks.len().max(1));
        for chunk in chunks {
            sender
                .try_send(Ok(v1::DownloadModelResponse { chunk: Some(chunk) }))
                .unwrap();
        }
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn compare_models(
        &self,
        _request: Request<v1::CompareModelsRequest>,
    ) -> Result<Response<v1::CompareModelsResponse>, Status> {
        let changed = self.0.changed.iter().map(|range| v1::ByteRange {
            start: range.start,
            end: range.end,
        });
        let changed = changed.collect();
        Ok(Response::new(v1::CompareModelsResponse { changed }))
    }

    async fn begin_upload(
        &self,
        _request: Request<v1::BeginUploadRequest>,
    ) -> Result<Response<v1::BeginUploadResponse>, Status> {
        Ok(Response::new(v1::BeginUploadResponse {
            upload_id: "u1".to_owned(),
            durable_bytes: self.0.staged.lock().unwrap().len() as u64,
            chunk_bytes: UPLOAD_CHUNK,
            packed: self.0.packs,
        }))
    }

    async fn upload_chunks(
        &self,
        request: Request<Streaming<v1::UploadChunksRequest>>,
    ) -> Result<Response<Self::UploadChunksStream>, Status> {
        let mut incoming = request.into_inner();
        let (sender, receiver) = mpsc::channel(4);
        let depot = Arc::clone(&self.0);
        let mishap = self.0.mishap();
        tokio::spawn(async move {
            let (mut taken, mut unpacker) = (0, Unpacker::default());
            while let Ok(Some(message)) = incoming.message().await {
                let is_packed = message
                    .chunk
                    .as_ref()
                    .is_some_and(|chunk| chunk.unpacked_bytes > 0);
                *depot.packed_chunks.lock().unwrap() += usize::from(is_packed);
                let chunk = verified_chunk(message.chunk, &mut unpacker).unwrap();
                let answer = match mishap {
                    Some(Mishap::StreamEndsEarly) if taken == 2 => return,
                    Some(Mishap::Refused(reason)) if taken == 2 => {
                        Err(Refusal::new(reason, "because").into())
                    }
                    _ => {
                        depot.offsets.lock().unwrap().push(chunk.offset);
                        let mut staged = depot.staged.lock().unwrap();
                        assert_eq!(chunk.offset, staged.len() as u64);
                        staged.extend_from_slice(&chunk.data);
                        Ok(v1::UploadChunksResponse {
                            durable_bytes: staged.len() as u64,
                        })
                    }
                };
                taken += 1;
                let is_last = answer.is_err();
                if sender.send(answer).await.is_err() || is_last {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn commit_upload(
        &self,
        _request: Request<v1::CommitUploadRequest>,
    ) -> Result<Response<v1::CommitUploadResponse>, Status> {
        let outcome = match &self.0.rejection {
            Some(rejection) => Outcome::Rejected(rejection.clone().into()),
            None => Outcome::Accepted(v1::Accepted {}),
        };
        Ok(Response::new(v1::CommitUploadResponse {
            outcome: Some(outcome),
        }))
    }
}

struct Bench {
    root: tempfile::TempDir,
    depot: Arc<Depot>,
    link: Link,
    _served: Served,
}

async fn bench(depot: Depot) -> Bench {
    let authority = Authority::new();
    let depot = Arc::new(depot);
    let served = serve(
        &authority,
        Routes::new(TransferServer::new(Desk(Arc::clone(&depot)))),
    )
    .await;
    Bench {
        root: tempfile::tempdir().unwrap(),
        link: served.link(&authority, Greeting::None),
        depot,
        _served: served,
    }
}

fn content() -> Bytes {
    (0..5_500_u32)
        .map(|position| u8::try_from(position % 101).unwrap())
        .collect()
}

fn depot(mishaps: impl Into<VecDeque<Mishap>>) -> Depot {
    Depot {
        content: content(),
        mishaps: Mutex::new(mishaps.into()),
        ..Depot::default()
    }
}

fn model() -> ModelRef {
    ModelRef {
        version: ModelVersion::new(1),
        digest: Digest::of(&content()),
        size_bytes: content().len() as u64,
    }
}

async fn fetched(mishaps: impl Into<VecDeque<Mishap>>) -> (Bench, Result<PathBuf, TransferError>) {
    let bench = bench(depot(mishaps)).await;
    let cache = Cache::open(bench.root.path().to_owned()).unwrap();
    let result = in_time(download::fetch(&bench.link, &cache, &model())).await;
    (bench, result)
}

/// A transfer retries for ever; a test does not.
async fn in_time<T>(transfer: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), transfer)
        .await
        .unwrap()
}

fn offsets(bench: &Bench) -> Vec<u64> {
    bench.depot.offsets.lock().unwrap().clone()
}

#[tokio::test]
async fn a_base_is_downloaded_once_and_then_cached() {
    let (bench, path) = fetched([]).await;
    assert_eq!(fs::read(path.unwrap()).unwrap(), content());
    let cache = Cache::open(bench.root.path().to_owned()).unwrap();
    download::fetch(&bench.link, &cache, &model())
        .await
        .unwrap();
    assert_eq!(offsets(&bench), [0]);
}

#[tokio::test]
async fn a_corrupt_chunk_is_refused_and_asked_for_again() {
    let (bench, path) = fetched([Mishap::CorruptSecondChunk]).await;
    assert_eq!(fs::read(path.unwrap()).unwrap(), content());
    assert_eq!(offsets(&bench), [0, 1000]);
}

#[tokio::test]
async fn a_stream_that_ends_early_goes_on_where_it_stopped() {
    let (bench, path) = fetched([Mishap::StreamEndsEarly, Mishap::StreamEndsEarly]).await;
    assert_eq!(fs::read(path.unwrap()).unwrap(), content());
    assert_eq!(offsets(&bench), [0, 2000, 4000]);
}

#[tokio::test]
async fn a_chunk_out_of_place_is_refused() {
    let (bench, path) = fetched([Mishap::SkippedChunk]).await;
    assert_eq!(fs::read(path.unwrap()).unwrap(), content());
    assert_eq!(offsets(&bench), [0, 1000]);
}

#[tokio::test]
async fn a_download_goes_on_after_the_process_died() {
    let bench = bench(depot([])).await;
    let cache = Cache::open(bench.root.path().to_owned()).unwrap();
    fs::write(cache.part(&model().digest), &content()[..3000]).unwrap();
    let path = download::fetch(&bench.link, &cache, &model())
        .await
        .unwrap();
    assert_eq!(fs::read(path).unwrap(), content());
    assert_eq!(offsets(&bench), [3000]);
}

/// Fetches where a base is here that differs at bytes 1,500 to 2,000 and 5,000 to 5,500, and the server says that `changed` differ.
async fn fetched_beside_another(changed: &[(u64, u64)], part: usize) -> Bench {
    let mut other = content().to_vec();
    for differs in [1500..2000, 5000..5500] {
        other[differs].fill(0xff);
    }
    let bench = bench(Depot {
        changed: changed.iter().map(|(start, end)| *start..*end).collect(),
        ..depot([])
    })
    .await;
    let cache = Cache::open(bench.root.path().to_owned()).unwrap();
    let digest = Digest::of(&other);
    fs::write(cache.part(&digest), &other).unwrap();
    cache.store(&digest, digest).unwrap();
    fs::write(cache.part(&model().digest), &content()[..part]).unwrap();
    let path = in_time(download::fetch(&bench.link, &cache, &model())).await;
    assert_eq!(fs::read(path.unwrap()).unwrap(), content());
    bench
}

#[tokio::test]
async fn what_a_base_that_is_here_has_in_common_with_a_new_one_does_not_travel() {
    let changed = [(1500, 2000), (5000, 5500)];
    let bench = fetched_beside_another(&changed, 0).await;
    assert_eq!(offsets(&bench), [1500, 5000]);
    let bench = fetched_beside_another(&changed, 1700).await;
    assert_eq!(offsets(&bench), [1700, 5000], "it goes on where it stopped");
    let bench = fetched_beside_another(&changed, 3000).await;
    assert_eq!(offsets(&bench), [5000], "also among bytes that are here");
}

#[tokio::test]
async fn a_server_that_says_too_little_is_changed_costs_a_whole_download_and_no_wrong_byte() {
    let bench = fetched_beside_another(&[(1500, 1600)], 0).await;
    assert_eq!(offsets(&bench), [1500, 0]);
    let bench = fetched_beside_another(&[(9, 3)], 0).await;
    assert_eq!(offsets(&bench), [0]);
}

#[tokio::test]
async fn another_file_than_asked_for_is_downloaded_anew() {
    let (bench, path) = fetched([Mishap::OtherFile]).await;
    assert_eq!(fs::read(path.unwrap()).unwrap(), content());
    assert_eq!(offsets(&bench), [0, 0]);
}

#[tokio::test]
async fn a_server_that_always_sends_another_file_costs_the_task_only() {
    let (bench, result) = fetched([Mishap::OtherFile; 3]).await;
    let decline = result.unwrap_err().into_decline().unwrap();
    assert_eq!(decline.kind, DeclineKind::Storage);
    assert_eq!(offsets(&bench), [0, 0, 0]);
}

#[tokio::test]
async fn an_unknown_model_costs_the_task_and_a_lost_place_ends_the_client() {
    let (_bench, result) = fetched([Mishap::Refused(RefusalReason::ModelUnknown)]).await;
    assert!(
        result
            .unwrap_err()
            .into_decline()
            .unwrap()
            .detail
            .contains("model-unknown")
    );
    let (_bench, result) = fetched([Mishap::Refused(RefusalReason::ClientUnknown)]).await;
    assert!(matches!(
        result.unwrap_err().into_decline(),
        Err(Trouble::Refused(_))
    ));
}

fn header() -> UpdateHeader {
    UpdateHeader {
        round: RoundNumber::new(3),
        base: Digest::of(b"base"),
        encoding: Encoding::F32,
        payload: Digest::of(&content()),
        payload_bytes: content().len() as u64,
        num_examples: 1,
        metrics: BTreeMap::new(),
    }
}

async fn submitted(depot: Depot) -> (Bench, Result<Answer, TransferError>) {
    let bench = bench(depot).await;
    let payload = bench.root.path().join("update.safetensors");
    fs::write(&payload, content()).unwrap();
    let result = in_time(upload::submit(&bench.link, &header(), &payload, || {})).await;
    (bench, result)
}

#[tokio::test]
async fn an_update_is_sent_in_chunks_and_accepted() {
    let (bench, answer) = submitted(depot([])).await;
    assert_eq!(answer.unwrap(), Answer::Accepted);
    assert_eq!(*bench.depot.staged.lock().unwrap(), content());
    assert_eq!(offsets(&bench), [0, 1024, 2048, 3072, 4096, 5120]);
}

#[tokio::test]
async fn an_upload_resumes_at_the_durable_offset() {
    let depot = depot([]);
    depot
        .staged
        .lock()
        .unwrap()
        .extend_from_slice(&content()[..2500]);
    let (bench, answer) = submitted(depot).await;
    assert_eq!(answer.unwrap(), Answer::Accepted);
    assert_eq!(*bench.depot.staged.lock().unwrap(), content());
    assert_eq!(offsets(&bench), [2500, 3072, 4096, 5120]);
}

#[tokio::test]
async fn an_upload_that_is_all_there_is_only_committed() {
    let depot = depot([]);
    depot.staged.lock().unwrap().extend_from_slice(&content());
    let (bench, answer) = submitted(depot).await;
    assert_eq!(answer.unwrap(), Answer::Accepted);
    assert!(offsets(&bench).is_empty());
}

#[tokio::test]
async fn a_broken_upload_sends_no_byte_twice() {
    for mishap in [
        Mishap::StreamEndsEarly,
        Mishap::Refused(RefusalReason::ChunkCorrupt),
        Mishap::Refused(RefusalReason::WrongOffset),
        Mishap::Refused(RefusalReason::UploadUnknown),
        Mishap::Refused(RefusalReason::Busy),
    ] {
        let (bench, answer) = submitted(depot([mishap])).await;
        assert_eq!(answer.unwrap(), Answer::Accepted, "{mishap:?}");
        assert_eq!(
            offsets(&bench),
            [0, 1024, 2048, 3072, 4096, 5120],
            "{mishap:?}"
        );
    }
}

#[tokio::test]
async fn a_rejection_comes_back_with_code_and_detail() {
    let rejection = Rejection::non_finite("hidden.weight", 17, f32::NAN);
    let (_bench, answer) = submitted(Depot {
        rejection: Some(rejection.clone()),
        ..depot([])
    })
    .await;
    assert_eq!(answer.unwrap(), Answer::Rejected(rejection));
}

#[tokio::test]
async fn a_payload_that_changed_on_disk_is_not_sent() {
    let bench = bench(depot([])).await;
    let payload = bench.root.path().join("update.safetensors");
    fs::write(&payload, b"shorter").unwrap();
    let result = upload::submit(&bench.link, &header(), &payload, || {}).await;
    assert!(matches!(result, Err(TransferError::Disk { .. })));
    assert!(offsets(&bench).is_empty());
}
