//! The straight line, the bytes: models down as chunks, updates up into staging, each acknowledged when it is durable.

mod compare;

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use fedmerge_common::digest::Digest;
use fedmerge_common::ids::{ClientId, RoundNumber};
use fedmerge_common::update::{ModelRef, UpdateHeader};
use fedmerge_coordinator::EvaluationTask;
use fedmerge_proto::convert::nested;
use fedmerge_proto::convert::transfer::{chunk, upload_id, verified_chunk};
use fedmerge_proto::limits::CHUNK_BYTES;
use fedmerge_proto::status::{Refusal, RefusalReason};
use fedmerge_proto::v1;
use fedmerge_proto::v1::transfer_server::Transfer;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, SeekFrom};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::Desk;
use super::access::{Caller, caller, client};
use crate::compute;
use crate::files;
use crate::store::staging::StagingWriter;

/// Chunks of a model that are read ahead of the wire.
const CHUNKS_AHEAD: usize = 4;
/// Bytes of an upload that wait for the disk, at most, before they are made durable.
const UNSYNCED_BYTES: u64 = 4 * 1024 * 1024;
/// How long bytes of a slow upload wait for the disk.
const SYNC_PAUSE: Duration = Duration::from_millis(500);
/// How often a running upload counts as progress.
const PROGRESS_PAUSE: Duration = Duration::from_secs(1);
/// Longest silence of an upload; its client begins again.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

/// The service `fedmerge.v1.Transfer`.
#[derive(Debug)]
pub(super) struct Service(pub(super) Arc<Desk>);

type Answers<T> = ReceiverStream<Result<T, Status>>;

#[tonic::async_trait]
impl Transfer for Service {
    type DownloadModelStream = Answers<v1::DownloadModelResponse>;
    type UploadChunksStream = Answers<v1::UploadChunksResponse>;

    async fn download_model(
        &self,
        request: Request<v1::DownloadModelRequest>,
    ) -> Result<Response<Self::DownloadModelStream>, Status> {
        let caller = caller(&request)?.clone();
        let message = request.into_inner();
        let digest: Digest = nested("digest", message.digest)?;
        let (path, file) = self.open(&caller, &digest, message.offset).await?;
        let end = match message.length {
            0 => u64::MAX,
            length => message.offset.saturating_add(length),
        };
        let (chunks, stream) = mpsc::channel(CHUNKS_AHEAD);
        let stop = self.0.stop.clone();
        self.0.tasks.spawn(async move {
            let sending = send_file(file, message.offset..end, &chunks);
            let Some(sent) = stop.run_until_cancelled(sending).await else {
                let _gone = chunks.try_send(Err(stopping()));
                return;
            };
            if let Err(error) = sent {
                let _gone = chunks.send(Err(unreadable(&path, &error))).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn compare_models(
        &self,
        request: Request<v1::CompareModelsRequest>,
    ) -> Result<Response<v1::CompareModelsResponse>, Status> {
        let caller = caller(&request)?.clone();
        let message = request.into_inner();
        let (_, have) = self.find(&caller, &nested("have", message.have)?).await?;
        let (_, want) = self.find(&caller, &nested("want", message.want)?).await?;
        let path = want.clone();
        let changed = compute::blocking(move || compare::changed(&have, &want)).await;
        let changed = changed.map_err(|error| unreadable(&path, &error))?;
        let changed = changed.into_iter().map(|range| v1::ByteRange {
            start: range.start,
            end: range.end,
        });
        Ok(Response::new(v1::CompareModelsResponse {
            changed: changed.collect(),
        }))
    }

    async fn begin_upload(
        &self,
        request: Request<v1::BeginUploadRequest>,
    ) -> Result<Response<v1::BeginUploadResponse>, Status> {
        let client = client(&request)?;
        let header = UpdateHeader::try_from(request.into_inner())?;
        let begun = self.0.uploads.begin(&client, header).await?;
        Ok(Response::new(v1::BeginUploadResponse {
            upload_id: begun.id.to_string(),
            durable_bytes: begun.durable_bytes,
            chunk_bytes: u32::try_from(CHUNK_BYTES).unwrap_or(u32::MAX),
        }))
    }

    async fn upload_chunks(
        &self,
        request: Request<Streaming<v1::UploadChunksRequest>>,
    ) -> Result<Response<Self::UploadChunksStream>, Status> {
        let client = client(&request)?;
        let (acknowledgements, stream) = mpsc::channel(CHUNKS_AHEAD);
        let desk = Arc::clone(&self.0);
        let messages = request.into_inner();
        self.0.tasks.spawn(async move {
            let receiving = receive(&desk, &client, messages, &acknowledgements);
            let result = tokio::select! {
                result = receiving => result,
                () = acknowledgements.closed() => Ok(()),
                () = desk.stop.cancelled() => Err(stopping()),
            };
            if let Err(status) = result {
                let _gone = acknowledgements.try_send(Err(status));
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn commit_upload(
        &self,
        request: Request<v1::CommitUploadRequest>,
    ) -> Result<Response<v1::CommitUploadResponse>, Status> {
        let client = client(&request)?;
        let id = upload_id(&request.into_inner().upload_id)?;
        let turn = self.0.uploads.turn(&client).await;
        let desk = Arc::clone(&self.0);
        // A client that goes away in the middle must not leave a file that was put in place and never decided.
        let deciding = self.0.tasks.spawn(async move {
            let deciding = desk.uploads.commit(&turn, &id);
            desk.stop.run_until_cancelled(deciding).await
        });
        match deciding.await {
            Ok(Some(outcome)) => Ok(Response::new(outcome?.into())),
            Ok(None) => Err(stopping()),
            Err(error) => {
                tracing::error!(%error, "a commit broke off");
                let words = "the server could not examine the update";
                Err(Refusal::new(RefusalReason::Internal, words).into())
            }
        }
    }
}

impl Service {
    /// Finds a published model, or the candidate that the caller is asked to evaluate; and its directory.
    async fn find(&self, caller: &Caller, digest: &Digest) -> Result<(ModelRef, PathBuf), Status> {
        let directory = &self.0.uploads.directory;
        let published = self.0.ledger.model_by_digest(digest).await;
        let published = published.map_err(Refusal::from)?.map(|stored| stored.model);
        if let Some(model) = published {
            return Ok((model, directory.model(model.version)));
        }
        let task = self.evaluation_of(caller, digest);
        let task = task.ok_or_else(|| unknown(digest))?;
        Ok((task.candidate, directory.candidate(task.round)))
    }

    /// Opens a published model, or the candidate that the caller is asked to evaluate.
    async fn open(
        &self,
        caller: &Caller,
        digest: &Digest,
        offset: u64,
    ) -> Result<(PathBuf, File), Status> {
        let (model, folder) = self.find(caller, digest).await?;
        if offset > model.size_bytes {
            let words = format!(
                "offset {offset} is past the end of the model, which has {} bytes",
                model.size_bytes
            );
            return Err(Refusal::new(RefusalReason::WrongOffset, words).into());
        }
        let path = folder.join(files::MODEL);
        match File::open(&path).await {
            Ok(file) => Ok((path, file)),
            // While it was looked for it was published, or removed for good: asking again says which.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), "a model that was asked for is not there");
                Err(unknown(digest))
            }
            Err(error) => Err(unreadable(&path, &error)),
        }
    }

    /// What the caller evaluates now, where its candidate has the digest.
    fn evaluation_of(&self, caller: &Caller, digest: &Digest) -> Option<EvaluationTask> {
        let Caller::Client(client) = caller else {
            return None;
        };
        let view = self.0.federation.now();
        let evaluation = view.evaluation.as_ref()?;
        let is_its = evaluation.asked.contains(client);
        let task = &evaluation.task;
        (is_its && task.candidate.digest == *digest).then(|| task.clone())
    }
}

fn unknown(digest: &Digest) -> Status {
    let words = format!("there is no model {digest}");
    Refusal::new(RefusalReason::ModelUnknown, words).into()
}

fn unreadable(path: &Path, error: &io::Error) -> Status {
    tracing::error!(path = %path.display(), %error, "model not readable");
    let words = "the server could not read the model";
    Refusal::new(RefusalReason::Internal, words).into()
}

/// Sends these bytes of a file, or as many of them as it has, until nobody listens.
async fn send_file(
    mut file: File,
    bytes: Range<u64>,
    chunks: &mpsc::Sender<Result<v1::DownloadModelResponse, Status>>,
) -> io::Result<()> {
    file.set_max_buf_size(CHUNK_BYTES);
    let mut offset = bytes.start;
    file.seek(SeekFrom::Start(offset)).await?;
    loop {
        let left = usize::try_from(bytes.end - offset).unwrap_or(usize::MAX);
        let length = CHUNK_BYTES.min(left);
        let mut data = BytesMut::with_capacity(length);
        while data.len() < length {
            let room = (length - data.len()) as u64;
            if (&mut file).take(room).read_buf(&mut data).await? == 0 {
                break;
            }
        }
        if data.is_empty() {
            return Ok(());
        }
        let length = data.len() as u64;
        let message = v1::DownloadModelResponse {
            chunk: Some(chunk(offset, data.freeze())),
        };
        // A client that takes nothing for so long begins again where it ended.
        if chunks.send_timeout(Ok(message), IDLE_LIMIT).await.is_err() {
            return Ok(());
        }
        offset += length;
    }
}

/// An upload that receives.
struct Receiving<'a> {
    desk: &'a Desk,
    client: &'a ClientId,
    round: RoundNumber,
    whole_bytes: u64,
    upload: String,
    writer: StagingWriter,
    told: Instant,
    acknowledgements: &'a mpsc::Sender<Result<v1::UploadChunksResponse, Status>>,
}

async fn receive(
    desk: &Desk,
    client: &ClientId,
    mut messages: Streaming<v1::UploadChunksRequest>,
    acknowledgements: &mpsc::Sender<Result<v1::UploadChunksResponse, Status>>,
) -> Result<(), Status> {
    let Some(first) = next(&mut messages, IDLE_LIMIT).await? else {
        return Ok(());
    };
    let id = upload_id(&first.upload_id)?;
    let (writer, header) = desk.uploads.writer(client, &id).await?;
    let mut receiving = Receiving {
        desk,
        client,
        round: header.round,
        whole_bytes: header.payload_bytes,
        upload: first.upload_id.clone(),
        writer,
        told: Instant::now(),
        acknowledgements,
    };
    // A client that announces another update, ends this one, or comes with another stream has no more use for this one: it must not
    // keep its space, or the upload.
    let given_up = receiving.writer.given_up();
    tokio::select! {
        result = receiving.run(first, messages) => result,
        () = given_up.cancelled() => Ok(()),
    }
}

async fn next(
    messages: &mut Streaming<v1::UploadChunksRequest>,
    limit: Duration,
) -> Result<Option<v1::UploadChunksRequest>, Status> {
    let message = tokio::time::timeout(limit, messages.message()).await;
    message.map_err(|_| silent())?
}

fn stopping() -> Status {
    let words = "the server is about to stop";
    Refusal::new(RefusalReason::ShuttingDown, words).into()
}

fn silent() -> Status {
    let words = format!("no bytes within {} s", IDLE_LIMIT.as_secs());
    Refusal::new(RefusalReason::Busy, words).into()
}

impl Receiving<'_> {
    async fn run(
        &mut self,
        first: v1::UploadChunksRequest,
        mut messages: Streaming<v1::UploadChunksRequest>,
    ) -> Result<(), Status> {
        self.append(first).await?;
        loop {
            let patience = if self.writer.unsynced_bytes() > 0 {
                SYNC_PAUSE
            } else {
                IDLE_LIMIT
            };
            match tokio::time::timeout(patience, messages.message()).await {
                Ok(message) => match message? {
                    Some(message) => self.append(message).await?,
                    None => return self.sync().await,
                },
                Err(_) if patience == SYNC_PAUSE => self.sync().await?,
                Err(_) => return Err(silent()),
            }
        }
    }

    async fn append(&mut self, message: v1::UploadChunksRequest) -> Result<(), Status> {
        if message.upload_id != self.upload {
            let words = "one stream of chunks is one upload";
            return Err(Refusal::new(RefusalReason::InvalidRequest, words).into());
        }
        let chunk = verified_chunk(message.chunk).map_err(Refusal::from)?;
        let end = chunk.end();
        let appended = self.writer.append(chunk.offset, chunk.data).await;
        appended.map_err(Refusal::from)?;
        if end >= self.whole_bytes || self.writer.unsynced_bytes() >= UNSYNCED_BYTES {
            self.sync().await?;
        }
        Ok(())
    }

    /// Makes what came durable and says so; a client that has gone away asks again.
    async fn sync(&mut self) -> Result<(), Status> {
        if self.writer.unsynced_bytes() == 0 {
            return Ok(());
        }
        let durable_bytes = self.writer.sync().await.map_err(Refusal::from)?;
        if self.told.elapsed() >= PROGRESS_PAUSE {
            self.told = Instant::now();
            self.desk.federation.note_progress(self.client, self.round);
        }
        let answer = v1::UploadChunksResponse { durable_bytes };
        let sent = self.acknowledgements.send_timeout(Ok(answer), IDLE_LIMIT);
        match sent.await {
            Err(SendTimeoutError::Timeout(_)) => Err(silent()),
            Ok(()) | Err(SendTimeoutError::Closed(_)) => Ok(()),
        }
    }
}
