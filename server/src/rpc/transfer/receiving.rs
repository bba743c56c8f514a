//! An update on its way up: messages are taken from the wire, written, and made durable, each while the others go on.
//!
//! Invariant: what is acknowledged is durable. What was received is written also when the connection breaks: it need not be sent again.

use std::time::Duration;

use fedmerge_common::ids::{ClientId, RoundNumber};
use fedmerge_proto::convert::transfer::upload_id;
use fedmerge_proto::status::{Refusal, RefusalReason};
use fedmerge_proto::v1;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::time::Instant;
use tonic::{Status, Streaming};

use super::IDLE_LIMIT;
use crate::rpc::Desk;
use crate::store::staging::{StagingWriter, Syncer};

/// Chunks that wait to be written, and that are written by one job.
const CHUNKS_AT_ONCE: usize = 4;
/// Bytes of an upload that wait for the disk, at most, before they are made durable.
const UNSYNCED_BYTES: u64 = 8 * 1024 * 1024;
/// How long bytes of a slow upload wait for the disk.
const SYNC_PAUSE: Duration = Duration::from_millis(500);
/// How often a running upload counts as progress.
const PROGRESS_PAUSE: Duration = Duration::from_secs(1);

type Acknowledgements = mpsc::Sender<Result<v1::UploadChunksResponse, Status>>;
type Chunks = mpsc::Sender<Option<v1::Chunk>>;

/// Receives one stream of chunks to its end.
pub(super) async fn receive(
    desk: &Desk,
    client: &ClientId,
    mut messages: Streaming<v1::UploadChunksRequest>,
    acknowledgements: &Acknowledgements,
) -> Result<(), Status> {
    let Some(first) = next(&mut messages).await? else {
        return Ok(());
    };
    let id = upload_id(&first.upload_id)?;
    let (writer, header) = desk.uploads.writer(client, &id).await?;
    // A client that announces another update, ends this one, or comes with another stream has no more use for this one: it must not
    // keep its space, or the upload.
    let given_up = writer.given_up();
    let acknowledging = Acknowledging {
        desk,
        client,
        round: header.round,
        told: Instant::now(),
        acknowledgements,
    };
    let syncer = writer.syncer();
    let (chunks, written) = mpsc::channel(CHUNKS_AT_ONCE);
    let count = |chunk: &Option<v1::Chunk>| {
        let bytes = chunk.as_ref().map_or(0, |chunk| chunk.data.len());
        desk.traffic.add_up(client, bytes as u64);
    };
    let receiving = async {
        let taking = async {
            tokio::select! {
                taken = take(first, messages, chunks, count) => taken,
                () = acknowledgements.closed() => Ok(()),
            }
        };
        // Not `try_join`: what came before the trouble is written, unless the writing is the trouble.
        let (taken, written, told) =
            tokio::join!(taking, write(writer, written), acknowledging.run(syncer));
        written.and(told).and(taken)
    };
    tokio::select! {
        result = receiving => result,
        () = given_up.cancelled() => Ok(()),
    }
}

async fn next(
    messages: &mut Streaming<v1::UploadChunksRequest>,
) -> Result<Option<v1::UploadChunksRequest>, Status> {
    let message = tokio::time::timeout(IDLE_LIMIT, messages.message()).await;
    message.map_err(|_| silent())?
}

fn silent() -> Status {
    let words = format!("no bytes within {} s", IDLE_LIMIT.as_secs());
    Refusal::new(RefusalReason::Busy, words).into()
}

/// Takes messages from the wire, until their end or until nobody writes what they carry.
async fn take(
    first: v1::UploadChunksRequest,
    mut messages: Streaming<v1::UploadChunksRequest>,
    chunks: Chunks,
    count: impl Fn(&Option<v1::Chunk>),
) -> Result<(), Status> {
    let upload = first.upload_id;
    count(&first.chunk);
    if chunks.send(first.chunk).await.is_err() {
        return Ok(());
    }
    while let Some(message) = next(&mut messages).await? {
        if message.upload_id != upload {
            let words = "one stream of chunks is one upload";
            return Err(Refusal::new(RefusalReason::InvalidRequest, words).into());
        }
        count(&message.chunk);
        // Whoever writes them says why it does no more.
        if chunks.send(message.chunk).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

async fn write(
    mut writer: StagingWriter,
    mut chunks: mpsc::Receiver<Option<v1::Chunk>>,
) -> Result<(), Status> {
    loop {
        let mut batch = Vec::with_capacity(CHUNKS_AT_ONCE);
        if chunks.recv_many(&mut batch, CHUNKS_AT_ONCE).await == 0 {
            return Ok(());
        }
        writer.append(batch).await.map_err(Refusal::from)?;
    }
}

/// Whoever makes an upload durable and says so.
struct Acknowledging<'a> {
    desk: &'a Desk,
    client: &'a ClientId,
    round: RoundNumber,
    told: Instant,
    acknowledgements: &'a Acknowledgements,
}

impl Acknowledging<'_> {
    /// Acknowledges until the writer is gone and everything that it wrote is durable.
    async fn run(mut self, mut syncer: Syncer) -> Result<(), Status> {
        while syncer.due(UNSYNCED_BYTES, SYNC_PAUSE).await {
            let durable_bytes = syncer.sync().await.map_err(Refusal::from)?;
            self.tell(durable_bytes).await?;
        }
        Ok(())
    }

    /// A client that has gone away asks again.
    async fn tell(&mut self, durable_bytes: u64) -> Result<(), Status> {
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
