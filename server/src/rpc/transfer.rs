//! The straight line, the bytes: models down as chunks, updates up into staging, each acknowledged when it is durable.

mod compare;
mod downloads;
mod outline;
mod receiving;
mod sending;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fedmerge_common::digest::Digest;
use fedmerge_common::update::{ModelRef, UpdateHeader};
use fedmerge_coordinator::EvaluationTask;
use fedmerge_proto::convert::nested;
use fedmerge_proto::convert::transfer::upload_id;
use fedmerge_proto::limits::CHUNK_BYTES;
use fedmerge_proto::status::{Refusal, RefusalReason};
use fedmerge_proto::v1;
use fedmerge_proto::v1::transfer_server::Transfer;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::Desk;
use super::access::{Caller, caller, client};
use crate::compute;
use crate::files;
use downloads::Downloads;
use outline::Outlines;
use receiving::receive;
use sending::{Content, Packing, send};

/// Answers that wait for the wire.
const ANSWERS_AHEAD: usize = 1;
/// Longest silence of a transfer; its client begins again.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

/// The service `fedmerge.v1.Transfer`.
#[derive(Debug)]
pub(super) struct Service {
    desk: Arc<Desk>,
    downloads: Downloads,
    outlines: Outlines,
}

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
        let turn = self.downloads.turn(&caller).await?;
        let packing = self.packing(&caller, message.packed, message.older).await?;
        let (path, content) = self.open(&caller, &digest, message.offset, packing).await?;
        let end = match message.length {
            0 => u64::MAX,
            length => message.offset.saturating_add(length),
        };
        let (chunks, stream) = mpsc::channel(ANSWERS_AHEAD);
        let (stop, traffic) = (self.desk.stop.clone(), self.desk.traffic.clone());
        let refusals = self.desk.refusals.clone();
        self.desk.tasks.spawn(async move {
            let count = |bytes| {
                if let Caller::Client(client) = &caller {
                    traffic.add_down(client, bytes);
                }
            };
            let sending = send(content, message.offset..end, &chunks, count);
            let sending = async {
                let sent = turn.given_up.run_until_cancelled(sending).await;
                sent.unwrap_or(Ok(()))
            };
            let Some(sent) = stop.run_until_cancelled(sending).await else {
                let _gone = chunks.try_send(Err(refusals.counted(stopping())));
                return;
            };
            if let Err(error) = sent {
                let refused = refusals.counted(unreadable(&path, &error));
                let _gone = chunks.send(Err(refused)).await;
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
        let begun = self.desk.uploads.begin(&client, header).await?;
        Ok(Response::new(v1::BeginUploadResponse {
            upload_id: begun.id.to_string(),
            durable_bytes: begun.durable_bytes,
            chunk_bytes: u32::try_from(CHUNK_BYTES).unwrap_or(u32::MAX),
            packed: true,
        }))
    }

    async fn upload_chunks(
        &self,
        request: Request<Streaming<v1::UploadChunksRequest>>,
    ) -> Result<Response<Self::UploadChunksStream>, Status> {
        let client = client(&request)?;
        let (acknowledgements, stream) = mpsc::channel(ANSWERS_AHEAD);
        let desk = Arc::clone(&self.desk);
        let messages = request.into_inner();
        self.desk.tasks.spawn(async move {
            let receiving = receive(&desk, &client, messages, &acknowledgements);
            let result = tokio::select! {
                result = receiving => result,
                () = desk.stop.cancelled() => Err(stopping()),
            };
            if let Err(status) = result {
                let _gone = acknowledgements.try_send(Err(desk.refusals.counted(status)));
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
        let turn = self.desk.uploads.turn(&client).await;
        let desk = Arc::clone(&self.desk);
        // A client that goes away in the middle must not leave a file that was put in place and never decided.
        let deciding = self.desk.tasks.spawn(async move {
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
    pub(super) fn new(desk: Arc<Desk>) -> Self {
        Self {
            downloads: Downloads::new(desk.max_downloads),
            desk,
            outlines: Outlines::default(),
        }
    }

    /// Finds a published model, or the candidate that the caller is asked to evaluate; and its directory.
    async fn find(&self, caller: &Caller, digest: &Digest) -> Result<(ModelRef, PathBuf), Status> {
        let directory = &self.desk.uploads.directory;
        let published = self.desk.ledger.model_by_digest(digest).await;
        let published = published.map_err(Refusal::from)?.map(|stored| stored.model);
        if let Some(model) = published {
            return Ok((model, directory.model(model.version)));
        }
        let task = self.evaluation_of(caller, digest);
        let task = task.ok_or_else(|| unknown(digest))?;
        Ok((task.candidate, directory.candidate(task.round)))
    }

    /// How the caller takes what is packed. An older model that it may not have, or that is not here, was not named.
    async fn packing(
        &self,
        caller: &Caller,
        is_packed: bool,
        older: Option<v1::Digest>,
    ) -> Result<Packing, Status> {
        let Some(older) = older.filter(|_| is_packed) else {
            return Ok(if is_packed {
                Packing::Alone
            } else {
                Packing::None
            });
        };
        let older = Digest::try_from(older).map_err(|invalid| invalid.within("older"))?;
        let Ok((_, folder)) = self.find(caller, &older).await else {
            return Ok(Packing::Alone);
        };
        let opened = compute::blocking(move || File::open(folder.join(files::MODEL))).await;
        Ok(opened.map_or(Packing::Alone, Packing::Beside))
    }

    /// Opens a published model, or the candidate that the caller is asked to evaluate.
    async fn open(
        &self,
        caller: &Caller,
        digest: &Digest,
        offset: u64,
        packing: Packing,
    ) -> Result<(PathBuf, Content), Status> {
        let (model, folder) = self.find(caller, digest).await?;
        if offset > model.size_bytes {
            let words = format!(
                "offset {offset} is past the end of the model, which has {} bytes",
                model.size_bytes
            );
            return Err(Refusal::new(RefusalReason::WrongOffset, words).into());
        }
        let path = folder.join(files::MODEL);
        let place = path.clone();
        match compute::blocking(move || File::open(place)).await {
            Ok(file) => {
                let outline = self.outlines.of(digest, model.size_bytes);
                let content = Content {
                    file,
                    outline,
                    packing,
                };
                Ok((path, content))
            }
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
        let view = self.desk.federation.now();
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

fn stopping() -> Status {
    let words = "the server is about to stop";
    Refusal::new(RefusalReason::ShuttingDown, words).into()
}
