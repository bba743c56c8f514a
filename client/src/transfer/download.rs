//! Gets a base: chunks into a file beside the cache, into the cache when the whole has its digest.
//!
//! A chunk that is out of place, corrupt or beyond the declared size is never written: the stream is dropped and asked
//! for again from the last good byte.

mod part;

use std::io;
use std::path::{Path, PathBuf};

use fedmerge_common::digest::Digest;
use fedmerge_common::update::ModelRef;
use fedmerge_proto::convert::transfer::chunk_bytes;
use fedmerge_proto::limits::MAX_MESSAGE_BYTES;
use fedmerge_proto::v1;
use fedmerge_proto::v1::transfer_client::TransferClient;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::near::{Near, Next};
use super::{PROGRESS_LIMIT, TransferError};
use crate::cache::{Cache, StoreBaseError};
use crate::link::trouble::Trouble;
use crate::link::{Connection, Link};
use part::Part;

/// Chunks that wait to be written, and that are written by one job.
const CHUNKS_AT_ONCE: usize = 4;
/// Whole downloads before a base that never has its digest is given up.
const MAX_WHOLE_DOWNLOADS: u32 = 3;

/// Puts a base into the cache, unless it is there, and answers its path.
///
/// # Errors
/// When the server refuses, the disk does, or the bytes are wrong again and again.
pub async fn fetch(link: &Link, cache: &Cache, model: &ModelRef) -> Result<PathBuf, TransferError> {
    let (here, base) = (cache.clone(), *model);
    let found = blocking(move || here.find(&base)).await;
    if let Some(path) = found.map_err(|source| disk(&cache.path(&model.digest), source))? {
        return Ok(path);
    }
    let mut near = Near::find(link, cache, model).await;
    for _ in 0..MAX_WHOLE_DOWNLOADS {
        let part = cache.part(&model.digest);
        let found = Box::pin(download(link, &part, model, near)).await?;
        // If the whole is wrong, what is here may be to blame.
        near = Near::default();
        let (here, digest) = (cache.clone(), model.digest);
        match blocking(move || here.store(&digest, found)).await {
            Ok(path) => return Ok(path),
            Err(StoreBaseError::Digest { expected, found }) => {
                tracing::warn!(expected = %expected, found = %found, "downloaded base has another digest");
            }
            Err(StoreBaseError::Io { path, source }) => return Err(disk(&path, source)),
        }
    }
    Err(TransferError::WrongBytes {
        attempts: MAX_WHOLE_DOWNLOADS,
    })
}

/// Runs what touches the disk for long away from the runtime's threads.
pub(crate) async fn blocking<T: Send + 'static>(deed: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(deed).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => unreachable!("a blocking task is not cancelled: {error}"),
        },
    }
}

/// Gets all bytes into `part`, and answers their digest.
async fn download(
    link: &Link,
    part: &Path,
    model: &ModelRef,
    near: Near,
) -> Result<Digest, TransferError> {
    let (path, whole_bytes) = (part.to_owned(), model.size_bytes);
    let older = near.path().map(Path::to_owned);
    let opened = blocking(move || Part::open(&path, whole_bytes, older.as_deref())).await;
    let mut growing = opened.map_err(|source| disk(part, source))?;
    let mut retry = link.retry();
    while growing.written_bytes < whole_bytes {
        let before = growing.written_bytes;
        let result;
        (growing, result) = match near.next(before, whole_bytes) {
            Next::Here(end) => copy(growing, end).await,
            Next::There(end) => stream(link, model, near.digest(), growing, end).await,
        };
        if growing.written_bytes > before {
            retry.progressed();
        }
        match result {
            Ok(()) => {}
            Err(Interruption::Link(trouble)) => {
                retry.wait(trouble).await.map_err(TransferError::Link)?;
            }
            Err(Interruption::Disk(source)) => return Err(disk(part, source)),
        }
    }
    Ok(growing.digest.finish())
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

/// Appends what is in the base that is here, up to a byte.
async fn copy(mut part: Part, end: u64) -> (Part, Result<(), Interruption>) {
    blocking(move || {
        let copied = part.copy(end);
        (part, copied.map_err(Interruption::Disk))
    })
    .await
}

/// Appends what the server has, up to a byte.
async fn stream(
    link: &Link,
    model: &ModelRef,
    older: Option<Digest>,
    part: Part,
    end: u64,
) -> (Part, Result<(), Interruption>) {
    let connection = match link.connection().await {
        Ok(connection) => connection,
        Err(trouble) => return (part, Err(trouble.into())),
    };
    let missing_bytes = end - part.written_bytes;
    let request = v1::DownloadModelRequest {
        digest: Some(model.digest.into()),
        offset: part.written_bytes,
        length: missing_bytes,
        packed: true,
        older: older.filter(|_| part.has_older()).map(v1::Digest::from),
    };
    let (chunks, received) = mpsc::channel(CHUNKS_AT_ONCE);
    // Not `try_join`: what came before the trouble is written, and need not come again.
    let (taken, (part, written)) = tokio::join!(
        take(&connection, request, missing_bytes, chunks),
        write(part, received),
    );
    let result = written.and(taken.map_err(Interruption::from));
    if let Err(Interruption::Link(trouble)) = &result {
        link.note_trouble(&connection, trouble).await;
    }
    (part, result)
}

/// Takes chunks from the wire, until so many bytes have come or nobody writes them.
async fn take(
    connection: &Connection,
    request: v1::DownloadModelRequest,
    mut missing_bytes: u64,
    chunks: mpsc::Sender<Option<v1::Chunk>>,
) -> Result<(), Trouble> {
    let mut client = TransferClient::new(connection.channel.clone())
        .max_decoding_message_size(MAX_MESSAGE_BYTES);
    let late = |_| Trouble::Cut(format!("no bytes within {} s", PROGRESS_LIMIT.as_secs()));
    let answer = timeout(PROGRESS_LIMIT, client.download_model(request));
    let answer = answer.await.map_err(late)?;
    let mut messages = answer
        .map_err(|status| Trouble::from_status(&status))?
        .into_inner();
    while missing_bytes > 0 {
        let next = timeout(PROGRESS_LIMIT, messages.message()).await;
        let next = next.map_err(late)?;
        let message = next.map_err(|status| Trouble::from_status(&status))?;
        let message = message.ok_or_else(|| Trouble::Cut("the stream ended early".to_owned()))?;
        let bytes = message.chunk.as_ref().map_or(0, chunk_bytes);
        missing_bytes = missing_bytes.saturating_sub(bytes as u64);
        if chunks.send(message.chunk).await.is_err() {
            // Whoever writes them says why it does no more.
            return Ok(());
        }
    }
    Ok(())
}

/// Writes chunks as long as they come, away from the runtime's threads.
async fn write(
    mut part: Part,
    mut chunks: mpsc::Receiver<Option<v1::Chunk>>,
) -> (Part, Result<(), Interruption>) {
    loop {
        let mut batch = Vec::with_capacity(CHUNKS_AT_ONCE);
        if chunks.recv_many(&mut batch, CHUNKS_AT_ONCE).await == 0 {
            return (part, Ok(()));
        }
        let written;
        (part, written) = blocking(move || {
            let written = batch.into_iter().try_for_each(|chunk| part.append(chunk));
            (part, written)
        })
        .await;
        if written.is_err() {
            return (part, written);
        }
    }
}

fn disk(path: &Path, source: io::Error) -> TransferError {
    TransferError::Disk {
        path: path.to_owned(),
        source,
    }
}
