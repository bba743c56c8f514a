//! A model on its way down: read, digested and packed ahead of the wire, away from the runtime's threads.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use fedmerge_common::packing::{Batch, Outgoing, Pace, Packer};
use fedmerge_proto::limits::CHUNK_BYTES;
use fedmerge_proto::v1;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tonic::Status;

use super::IDLE_LIMIT;
use super::outline::Outline;

/// A model's file.
pub(super) struct Content {
    pub(super) file: File,
    /// What is known of its hashes.
    pub(super) outline: Arc<Outline>,
    pub(super) packing: Packing,
}

/// What the client does with chunks that are packed.
pub(super) enum Packing {
    /// It takes none.
    None,
    /// It unpacks them.
    Alone,
    /// It unpacks them, with this file before its eyes.
    Beside(File),
}

impl Packing {
    fn packer(self) -> io::Result<Option<Packer>> {
        match self {
            Self::None => Ok(None),
            Self::Alone => Packer::beside(None).map(Some),
            Self::Beside(older) => Packer::beside(Some(older)).map(Some),
        }
    }
}

/// A file that is being read.
struct Reading {
    outgoing: Outgoing,
    outline: Arc<Outline>,
}

impl Reading {
    fn begin(content: Content, bytes: Range<u64>) -> io::Result<Self> {
        let mut outgoing = Outgoing::begin(content.file, bytes, CHUNK_BYTES)?;
        if let Some(packer) = content.packing.packer()? {
            outgoing = outgoing.with_packer(packer);
        }
        Ok(Self {
            outgoing,
            outline: content.outline,
        })
    }

    fn next(mut self, should_pack: bool) -> io::Result<(Self, Batch)> {
        let outline = &self.outline;
        let hash = |offset, bytes: &[u8]| outline.hash(offset, bytes);
        let batch = self.outgoing.read(should_pack, hash)?;
        Ok((self, batch))
    }
}

/// Sends these bytes of a file, or as many of them as it has, until nobody listens, and says how many they were on the wire.
pub(super) async fn send(
    content: Content,
    bytes: Range<u64>,
    answers: &mpsc::Sender<Result<v1::DownloadModelResponse, Status>>,
    count: impl Fn(u64),
) -> io::Result<()> {
    let mut pace = Pace::default();
    let mut job = spawn_blocking(move || Reading::begin(content, bytes)?.next(true));
    loop {
        let (reading, batch) = job.await.map_err(io::Error::other)??;
        if batch.runs.is_empty() {
            return Ok(());
        }
        pace.note_packed(batch.tried_bytes, batch.packing);
        let should_pack = pace.should_pack();
        job = spawn_blocking(move || reading.next(should_pack));
        for run in batch.runs {
            let bytes = run.data.len() as u64;
            let chunk = Some(run.into());
            let answer = v1::DownloadModelResponse { chunk };
            let begun = Instant::now();
            // A client that takes nothing for so long begins again where it ended.
            if answers.send_timeout(Ok(answer), IDLE_LIMIT).await.is_err() {
                return Ok(());
            }
            pace.note_sent(bytes, begun.elapsed());
            count(bytes);
        }
    }
}
