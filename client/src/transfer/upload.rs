//! The straight line, third step: chunks with offset and digest, then the server's decision.
//!
//! Where to go on is always the server's answer to `BeginUpload`, never this side's memory: after any break the upload
//! is announced again, and the same payload gets the same upload. Bytes count when they are acknowledged.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use fedmerge_common::failpoint::{self, Point};
use fedmerge_common::pieces::{read_piece, stream_bytes};
use fedmerge_common::reason::Rejection;
use fedmerge_common::update::UpdateHeader;
use fedmerge_proto::convert::transfer::chunk;
use fedmerge_proto::limits::{CHUNK_BYTES, MAX_CHUNK_BYTES};
use fedmerge_proto::status::RefusalReason;
use fedmerge_proto::v1;
use fedmerge_proto::v1::commit_upload_response::Outcome;
use fedmerge_proto::v1::transfer_client::TransferClient;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::download::blocking;
use super::{PROGRESS_LIMIT, TransferError};
use crate::agent::Answer;
use crate::link::trouble::Trouble;
use crate::link::{Connection, Link};

/// Messages that wait for the wire.
const MESSAGES_AHEAD: usize = 1;
/// Chunks that are read by one job. While they are sent, the next job runs.
const CHUNKS_AT_ONCE: usize = 4;
/// Longest wait for the decision: the server looks at every value of the update.
const DECISION_LIMIT: Duration = Duration::from_secs(15 * 60);

/// Sends an update and has it decided; `sent` is called when every byte is durable.
///
/// # Errors
/// When the server refuses for good, or the file cannot be read.
pub async fn submit(
    link: &Link,
    header: &UpdateHeader,
    payload: &Path,
    sent: impl Fn(),
) -> Result<Answer, TransferError> {
    let mut retry = link.retry();
    let mut durable_bytes = 0;
    loop {
        let before = durable_bytes;
        let result = attempt(link, header, payload, &mut durable_bytes, &sent).await;
        if durable_bytes > before {
            retry.progressed();
        }
        match result {
            Ok(answer) => return Ok(answer),
            Err(Interruption::Link(trouble)) => {
                let trouble = begin_again(trouble);
                retry.wait(trouble).await.map_err(TransferError::Link)?;
            }
            Err(Interruption::Disk(source)) => {
                return Err(TransferError::Disk {
                    path: payload.to_owned(),
                    source,
                });
            }
        }
    }
}

async fn attempt(
    link: &Link,
    header: &UpdateHeader,
    payload: &Path,
    durable_bytes: &mut u64,
    sent: &impl Fn(),
) -> Result<Answer, Interruption> {
    let connection = link.connection().await?;
    let result = attempt_on(&connection, header, payload, durable_bytes, sent).await;
    if let Err(Interruption::Link(trouble)) = &result {
        link.note_trouble(&connection, trouble).await;
    }
    result
}

async fn attempt_on(
    connection: &Connection,
    header: &UpdateHeader,
    payload: &Path,
    durable_bytes: &mut u64,
    sent: &impl Fn(),
) -> Result<Answer, Interruption> {
    let mut client = TransferClient::new(connection.channel.clone());
    let request = v1::BeginUploadRequest {
        header: Some(header.clone().into()),
    };
    let begun = within(PROGRESS_LIMIT, client.begin_upload(request))
        .await?
        .into_inner();
    *durable_bytes = up_to_whole(begun.durable_bytes, header)?;
    if begun.durable_bytes < header.payload_bytes {
        let (path, answer) = (payload.to_owned(), begun.clone());
        let whole_bytes = header.payload_bytes;
        let opened = blocking(move || Reading::open(&path, &answer, whole_bytes)).await;
        let reading = opened.map_err(Interruption::Disk)?;
        send(
            &mut client,
            &begun.upload_id,
            reading,
            header,
            durable_bytes,
        )
        .await?;
    }
    sent();
    failpoint::pass(Point::ClientBeforeCommit);
    let request = v1::CommitUploadRequest {
        upload_id: begun.upload_id,
    };
    let decided = within(DECISION_LIMIT, client.commit_upload(request))
        .await?
        .into_inner();
    failpoint::pass(Point::ClientAfterCommit);
    Ok(decision(decided)?)
}

fn decision(response: v1::CommitUploadResponse) -> Result<Answer, Trouble> {
    match response.outcome {
        Some(Outcome::Accepted(v1::Accepted {})) => Ok(Answer::Accepted),
        Some(Outcome::Rejected(rejected)) => Rejection::try_from(rejected)
            .map(Answer::Rejected)
            .map_err(|error| Trouble::Nonsense(error.to_string())),
        None => Err(Trouble::Nonsense(
            "neither accepted nor rejected".to_owned(),
        )),
    }
}

async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, tonic::Status>>,
) -> Result<T, Trouble> {
    match timeout(limit, call).await {
        Ok(answer) => answer.map_err(|status| Trouble::from_status(&status)),
        Err(_) => Err(Trouble::Cut(format!(
            "no answer within {} s",
            limit.as_secs()
        ))),
    }
}

fn up_to_whole(durable_bytes: u64, header: &UpdateHeader) -> Result<u64, Trouble> {
    if durable_bytes > header.payload_bytes {
        let words = format!(
            "{durable_bytes} of {} bytes are there",
            header.payload_bytes
        );
        return Err(Trouble::Nonsense(words));
    }
    Ok(durable_bytes)
}

/// A payload on its way up.
struct Reading {
    file: File,
    begun: u64,
    offset: u64,
    chunk_bytes: usize,
}

impl Reading {
    /// Opens the payload where the server stands.
    fn open(path: &Path, begun: &v1::BeginUploadResponse, whole_bytes: u64) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let found = file.metadata()?.len();
        if found != whole_bytes {
            let words = format!("has {found} bytes, expected {whole_bytes}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, words));
        }
        file.seek(SeekFrom::Start(begun.durable_bytes))?;
        let wanted = usize::try_from(begun.chunk_bytes).unwrap_or(CHUNK_BYTES);
        let chunk_bytes = if wanted == 0 {
            CHUNK_BYTES
        } else {
            wanted.min(MAX_CHUNK_BYTES)
        };
        Ok(Self {
            file,
            begun: begun.durable_bytes,
            offset: begun.durable_bytes,
            chunk_bytes,
        })
    }

    /// Reads on; no chunks mean the end.
    fn next(mut self) -> io::Result<(Self, Vec<v1::Chunk>)> {
        let mut chunks = Vec::with_capacity(CHUNKS_AT_ONCE);
        while chunks.len() < CHUNKS_AT_ONCE {
            let most_bytes = stream_bytes(self.begun, self.offset, self.chunk_bytes);
            let piece = read_piece(&self.file, most_bytes)?;
            if piece.is_empty() {
                break;
            }
            let begin = self.offset;
            self.offset += piece.len() as u64;
            chunks.push(chunk(begin, piece));
        }
        Ok((self, chunks))
    }
}

/// Streams the rest of the file, until the server has acknowledged all of it.
async fn send(
    client: &mut TransferClient<Channel>,
    upload_id: &str,
    reading: Reading,
    header: &UpdateHeader,
    durable_bytes: &mut u64,
) -> Result<(), Interruption> {
    let (messages, outgoing) = mpsc::channel(MESSAGES_AHEAD);
    let read = read_chunks(reading, upload_id, messages);
    let acknowledged = async {
        let stream = client.upload_chunks(ReceiverStream::new(outgoing));
        let mut answers = within(PROGRESS_LIMIT, stream).await?.into_inner();
        while *durable_bytes < header.payload_bytes {
            let Some(answer) = within(PROGRESS_LIMIT, answers.message()).await? else {
                return Err(Trouble::Cut("the stream ended early".to_owned()).into());
            };
            *durable_bytes = up_to_whole(answer.durable_bytes, header)?;
            failpoint::pass(Point::ClientAcknowledged);
        }
        Ok(())
    };
    let ((), ()) = tokio::try_join!(read, acknowledged)?;
    Ok(())
}

/// Reads ahead of the wire, away from the runtime's threads.
async fn read_chunks(
    reading: Reading,
    upload_id: &str,
    messages: mpsc::Sender<v1::UploadChunksRequest>,
) -> Result<(), Interruption> {
    let read_on = |reading: Reading| spawn_blocking(move || reading.next());
    let mut job = read_on(reading);
    loop {
        let read = job.await.map_err(io::Error::other);
        let (reading, chunks) = read.flatten().map_err(Interruption::Disk)?;
        if chunks.is_empty() {
            return Ok(());
        }
        job = read_on(reading);
        for chunk in chunks {
            let message = v1::UploadChunksRequest {
                upload_id: upload_id.to_owned(),
                chunk: Some(chunk),
            };
            if messages.send(message).await.is_err() {
                // The stream is gone; whoever reads its answers knows why.
                return Ok(());
            }
        }
    }
}

/// An upload that the server knows no more, or stands elsewhere in, is announced again.
fn begin_again(trouble: Trouble) -> Trouble {
    if let Trouble::Refused(refusal) = &trouble
        && matches!(
            refusal.reason,
            RefusalReason::UploadUnknown | RefusalReason::WrongOffset
        )
    {
        return Trouble::Cut(refusal.detail.clone());
    }
    trouble
}

enum Interruption {
    Link(Trouble),
    Disk(io::Error),
}

impl From<Trouble> for Interruption {
    fn from(trouble: Trouble) -> Self {
        Self::Link(trouble)
    }
}
