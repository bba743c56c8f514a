//! A model on its way down: read and digested ahead of the wire, away from the runtime's threads.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;

use fedmerge_common::pieces::{read_piece, stream_bytes};
use fedmerge_proto::limits::CHUNK_BYTES;
use fedmerge_proto::v1;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tonic::Status;

use super::IDLE_LIMIT;
use super::outline::Outline;

/// Chunks that are read by one job. While they are sent, the next job runs.
const CHUNKS_AT_ONCE: usize = 4;

/// A model's file.
pub(super) struct Content {
    pub(super) file: File,
    /// What is known of its hashes.
    pub(super) outline: Arc<Outline>,
}

/// A file that is being read.
struct Reading {
    content: Content,
    begun: u64,
    offset: u64,
    /// Where to stop, unless the file ends before.
    end: u64,
}

impl Reading {
    /// Reads on; no chunks mean the end.
    fn next(mut self) -> io::Result<(Self, Vec<v1::Chunk>)> {
        let mut chunks = Vec::with_capacity(CHUNKS_AT_ONCE);
        while chunks.len() < CHUNKS_AT_ONCE {
            let left = usize::try_from(self.end - self.offset).unwrap_or(usize::MAX);
            let most_bytes = stream_bytes(self.begun, self.offset, CHUNK_BYTES);
            let piece = read_piece(&self.content.file, left.min(most_bytes))?;
            if piece.is_empty() {
                break;
            }
            let begin = self.offset;
            self.offset += piece.len() as u64;
            chunks.push(self.content.outline.chunk(begin, piece));
        }
        Ok((self, chunks))
    }
}

type Job = JoinHandle<io::Result<(Reading, Vec<v1::Chunk>)>>;

/// Sends these bytes of a file, or as many of them as it has, until nobody listens, and says how many they were.
pub(super) async fn send(
    mut content: Content,
    bytes: Range<u64>,
    answers: &mpsc::Sender<Result<v1::DownloadModelResponse, Status>>,
    count: impl Fn(u64),
) -> io::Result<()> {
    let mut job: Job = spawn_blocking(move || {
        let Range { start, end } = bytes;
        let offset = content.file.seek(SeekFrom::Start(start))?;
        let reading = Reading {
            content,
            begun: start,
            offset,
            end,
        };
        reading.next()
    });
    loop {
        let (reading, chunks) = job.await.map_err(io::Error::other)??;
        if chunks.is_empty() {
            return Ok(());
        }
        job = spawn_blocking(move || reading.next());
        for chunk in chunks {
            let bytes = chunk.data.len() as u64;
            let answer = v1::DownloadModelResponse { chunk: Some(chunk) };
            // A client that takes nothing for so long begins again where it ended.
            if answers.send_timeout(Ok(answer), IDLE_LIMIT).await.is_err() {
                return Ok(());
            }
            count(bytes);
        }
    }
}
