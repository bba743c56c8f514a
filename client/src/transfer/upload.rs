//! The straight line, third step: chunks with offset and digest, then the server's decision.
//!
//! Where to go on is always the server's answer to `BeginUpload`, never this side's memory: after any break the upload
//! is announced again, and the same payload gets the same upload. Bytes count when they are acknowledged.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use fedmerge_common::digest::tree::hash_at;
use fedmerge_common::failpoint::{self, Point};
use fedmerge_common::packing::{Outgoing, Pace, Packer};
use fedmerge_common::reason::Rejection;
use fedmerge_common::update::UpdateHeader;
use fedmerge_proto::limits::{CHUNK_BYTES, MAX_CHUNK_BYTES};
use fedmerge_proto::status::RefusalReason;
use fedmerge_proto::v1;
use fedmerge_proto::v1::commit_upload_response::Outcome;
use fedmerge_proto::v1::transfer_client::TransferClient;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::download::blocking;
use super::{PROGRESS_LIMIT, TransferError};
use crate::agent::Answer;
use crate::link::trouble::Trouble;
use crate::link::{Connection, Link};

/// Messages that wait for the wire.
const MESSAGES_AHEAD: usize = 1;
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
        let opened = blocking(move || open(&path, &answer, whole_bytes)).await;
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

/// Opens the payload where the server stands.
fn open(path: &Path, begun: &v1::BeginUploadResponse, whole_bytes: u64) -> io::Result<Outgoing> {
    let file = File::open(path)?;
    let found = file.metadata()?.len();
    if found != whole_bytes {
        let words = format!("has {found} bytes, expected {whole_bytes}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, words));
    }
    let wanted = usize::try_from(begun.chunk_bytes).unwrap_or(CHUNK_BYTES);
    let chunk_bytes = if wanted == 0 {
        CHUNK_BYTES
    } else {
        wanted.min(MAX_CHUNK_BYTES)
    };
    let outgoing = Outgoing::begin(file, begun.durable_bytes..whole_bytes, chunk_bytes)?;
    Ok(if begun.packed {
        outgoing.with_packer(Packer::beside(None)?)
    } else {
        outgoing
    })
}

/// Streams the rest of the file, until the server has acknowledged all of it.
async fn send(
    client: &mut TransferClient<Channel>,
    upload_id: &str,
    reading: Outgoing,
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
    reading: Outgoing,
    upload_id: &str,
    messages: mpsc::Sender<v1::UploadChunksRequest>,
) -> Result<(), Interruption> {
    let read_on = |mut reading: Outgoing, should_pack| {
        spawn_blocking(move || {
            let batch = reading.read(should_pack, hash_at)?;
            Ok::<_, io::Error>((reading, batch))
        })
    };
    let mut pace = Pace::default();
    let mut job = read_on(reading, true);
    loop {
        let read = job.await.map_err(io::Error::other);
        let (reading, batch) = read.flatten().map_err(Interruption::Disk)?;
        if batch.runs.is_empty() {
            return Ok(());
        }
        pace.note_packed(batch.tried_bytes, batch.packing);
        job = read_on(reading, pace.should_pack());
        for run in batch.runs {
            let bytes = run.data.len() as u64;
            let message = v1::UploadChunksRequest {
                upload_id: upload_id.to_owned(),
                chunk: Some(run.into()),
            };
            let begun = Instant::now();
            if messages.send(message).await.is_err() {
                // The stream is gone; whoever reads its answers knows why.
                return Ok(());
            }
            pace.note_sent(bytes, begun.elapsed());
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
