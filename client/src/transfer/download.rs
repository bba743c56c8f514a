//! Gets a base: chunks into a file beside the cache, into the cache when the whole has its digest.
//!
//! A chunk that is out of place, corrupt or beyond the declared size is never written: the stream is dropped and asked
//! for again from the last good byte.

use std::io;
use std::path::{Path, PathBuf};

use fedmerge_common::update::ModelRef;
use fedmerge_proto::convert::transfer::verified_chunk;
use fedmerge_proto::limits::MAX_MESSAGE_BYTES;
use fedmerge_proto::v1;
use fedmerge_proto::v1::transfer_client::TransferClient;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt, BufReader, SeekFrom};
use tokio::time::timeout;

use super::near::{Near, Next};
use super::{PROGRESS_LIMIT, TransferError};
use crate::cache::{Cache, StoreBaseError};
use crate::link::trouble::Trouble;
use crate::link::{Connection, Link};

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
        download(link, &cache.part(&model.digest), model, &near).await?;
        // If the whole is wrong, what is here may be to blame.
        near = Near::default();
        let (here, digest) = (cache.clone(), model.digest);
        match blocking(move || here.store(&digest)).await {
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

/// Bytes that are copied at a time from a base that is here.
const COPIED_BYTES: usize = 1024 * 1024;

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

async fn download(
    link: &Link,
    part: &Path,
    model: &ModelRef,
    near: &Near,
) -> Result<(), TransferError> {
    let mut growing = Growing::open(part, model.size_bytes)
        .await
        .map_err(|source| disk(part, source))?;
    let mut retry = link.retry();
    while growing.written_bytes < model.size_bytes {
        let before = growing.written_bytes;
        let result = match near.next(before, model.size_bytes) {
            Next::Here(end) => growing.copy(near.path(), end).await,
            Next::There(end) => stream(link, model, &mut growing, end).await,
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
    growing
        .file
        .flush()
        .await
        .map_err(|source| disk(part, source))
}

/// A file that grows from its end.
struct Growing {
    file: File,
    written_bytes: u64,
    whole_bytes: u64,
}

impl Growing {
    /// Goes on with what is there, unless that is longer than the whole.
    async fn open(path: &Path, whole_bytes: u64) -> io::Result<Self> {
        let mut file = File::options()
            .create(true)
            .write(true)
            .truncate(false)
            .open(path)
            .await?;
        let mut written_bytes = file.seek(SeekFrom::End(0)).await?;
        if written_bytes > whole_bytes {
            file.set_len(0).await?;
            written_bytes = file.seek(SeekFrom::Start(0)).await?;
        }
        Ok(Self {
            file,
            written_bytes,
            whole_bytes,
        })
    }

    /// Appends what is in another file at the same place.
    async fn copy(&mut self, from: &Path, end: u64) -> Result<(), Interruption> {
        let copied = async {
            let mut from = File::open(from).await?;
            from.seek(SeekFrom::Start(self.written_bytes)).await?;
            let bytes = from.take(end - self.written_bytes);
            let mut bytes = BufReader::with_capacity(COPIED_BYTES, bytes);
            tokio::io::copy_buf(&mut bytes, &mut self.file).await
        };
        match copied.await {
            Ok(0) => Err(Interruption::Disk(io::ErrorKind::UnexpectedEof.into())),
            Ok(bytes) => {
                self.written_bytes += bytes;
                Ok(())
            }
            Err(error) => Err(Interruption::Disk(error)),
        }
    }

    async fn append(&mut self, chunk: Option<v1::Chunk>) -> Result<(), Interruption> {
        let chunk = verified_chunk(chunk).map_err(|error| Trouble::Cut(error.to_string()))?;
        if chunk.offset != self.written_bytes || chunk.end() > self.whole_bytes {
            let words = format!(
                "a chunk at bytes {} to {} came where {} of {} was due",
                chunk.offset,
                chunk.end(),
                self.written_bytes,
                self.whole_bytes
            );
            return Err(Trouble::Cut(words).into());
        }
        self.file
            .write_all(&chunk.data)
            .await
            .map_err(Interruption::Disk)?;
        self.written_bytes = chunk.end();
        Ok(())
    }
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

/// Appends what the server has, up to a byte.
async fn stream(
    link: &Link,
    model: &ModelRef,
    growing: &mut Growing,
    end: u64,
) -> Result<(), Interruption> {
    let connection = link.connection().await?;
    let result = stream_on(&connection, model, growing, end).await;
    if let Err(Interruption::Link(trouble)) = &result {
        link.note_trouble(&connection, trouble).await;
    }
    result
}

async fn stream_on(
    connection: &Connection,
    model: &ModelRef,
    growing: &mut Growing,
    end: u64,
) -> Result<(), Interruption> {
    let mut client = TransferClient::new(connection.channel.clone())
        .max_decoding_message_size(MAX_MESSAGE_BYTES);
    let request = v1::DownloadModelRequest {
        digest: Some(model.digest.into()),
        offset: growing.written_bytes,
        length: end - growing.written_bytes,
    };
    let late = |_| Trouble::Cut(format!("no bytes within {} s", PROGRESS_LIMIT.as_secs()));
    let answer = timeout(PROGRESS_LIMIT, client.download_model(request))
        .await
        .map_err(late)?;
    let mut chunks = answer
        .map_err(|status| Trouble::from_status(&status))?
        .into_inner();
    while growing.written_bytes < end {
        let next = timeout(PROGRESS_LIMIT, chunks.message())
            .await
            .map_err(late)?;
        match next.map_err(|status| Trouble::from_status(&status))? {
            Some(message) => growing.append(message.chunk).await?,
            None => return Err(Trouble::Cut("the stream ended early".to_owned()).into()),
        }
    }
    Ok(())
}

fn disk(path: &Path, source: io::Error) -> TransferError {
    TransferError::Disk {
        path: path.to_owned(),
        source,
    }
}
