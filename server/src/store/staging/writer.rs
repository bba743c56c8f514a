//! Appending to one upload: chunks that have their digest go where the file ends, and count as durable when they were synced.
//!
//! Digests are taken and files are written on tokio's blocking threads.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use fedmerge_common::digest::tree::TreeDigest;
use fedmerge_common::failpoint::{self, Point};
use fedmerge_common::ids::UploadId;
use fedmerge_common::packing::Unpacker;
use fedmerge_proto::convert::transfer::verified_chunk;
use fedmerge_proto::v1;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::store::staging::book::{Book, Claim};
use crate::store::staging::error::{StageError, failed};

/// Updates are the clients': nobody else on the machine reads them.
const FILE_MODE: u32 = 0o600;

/// Opens or makes the file and tells its length, which is durable then.
fn open(path: &Path) -> io::Result<(File, u64)> {
    let mut options = File::options();
    options.write(true).mode(FILE_MODE);
    match options.clone().create_new(true).open(path) {
        Ok(file) => {
            if let Some(directory) = path.parent() {
                File::open(directory)?.sync_all()?;
            }
            Ok((file, 0))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let file = options.open(path)?;
            // The writer before may have been dropped before it made its last bytes durable.
            file.sync_data()?;
            let bytes = file.metadata()?.len();
            Ok((file, bytes))
        }
        Err(error) => Err(error),
    }
}

async fn blocking<T: Send + 'static>(
    path: PathBuf,
    work: impl FnOnce(&Path) -> T + Send + 'static,
) -> Result<T, StageError> {
    let place = path.clone();
    let result = spawn_blocking(move || work(&place)).await;
    // Only a runtime that is about to stop does not run it.
    result.map_err(|error| failed(&path)(io::Error::other(error)))
}

/// An open file with the right to write it. A write that was begun holds it, even when nobody waits for the write any
/// more: the next writer comes after it.
#[derive(Debug)]
struct Lease {
    file: File,
    path: PathBuf,
    claim: Claim,
}

/// What one job of an upload leaves to the next.
#[derive(Debug, Default)]
struct Progress {
    unpacker: Unpacker,
    /// Of what is written; none where another writer began, whose bytes intake hashes.
    digest: Option<TreeDigest>,
}

impl Lease {
    /// Writes a chunk at `end`, where the file ends, and adds it to the digest of what is there; answers where it ends then, bytes.
    fn append(
        &self,
        chunk: Option<v1::Chunk>,
        end: u64,
        whole_bytes: u64,
        progress: &mut Progress,
    ) -> Result<u64, StageError> {
        let chunk = verified_chunk(chunk, &mut progress.unpacker)?;
        if chunk.offset != end {
            return Err(StageError::WrongOffset {
                expected: end,
                found: chunk.offset,
            });
        }
        if chunk.end() > whole_bytes {
            return Err(StageError::TooLarge {
                bytes: chunk.end(),
                limit_bytes: whole_bytes,
            });
        }
        let written = self.file.write_all_at(&chunk.data, chunk.offset);
        written.map_err(failed(&self.path))?;
        if let Some(digest) = &mut progress.digest {
            digest.update_hashed(&chunk.data, chunk.hash);
            if chunk.end() == whole_bytes {
                self.claim.book.complete(&self.claim.id, digest.finish());
            }
        }
        Ok(chunk.end())
    }
}

/// Appends to one upload.
#[derive(Debug)]
pub struct StagingWriter {
    lease: Arc<Lease>,
    whole_bytes: u64,
    written_bytes: watch::Sender<u64>,
    /// Boxed, because it is large and goes from job to job; none while a job has it, and after one that was given up.
    progress: Option<Box<Progress>>,
}

impl StagingWriter {
    /// Claims the upload, and opens or makes its file.
    pub(super) async fn open(
        book: Arc<Book>,
        id: UploadId,
        whole_bytes: u64,
    ) -> Result<Self, StageError> {
        blocking(book.path(&id), move |path| {
            let given_up = book.reserve(&id, whole_bytes)?;
            let claim = Claim { book, id, given_up };
            let (file, written_bytes) = open(path).map_err(failed(path))?;
            Ok(Self {
                lease: Arc::new(Lease {
                    file,
                    path: path.to_owned(),
                    claim,
                }),
                whole_bytes,
                written_bytes: watch::Sender::new(written_bytes),
                progress: Some(Box::new(Progress {
                    unpacker: Unpacker::default(),
                    digest: (written_bytes == 0).then(TreeDigest::new),
                })),
            })
        })
        .await?
    }

    /// Where the next bytes begin.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        *self.written_bytes.borrow()
    }

    /// Raised when the upload is given up, and its bytes are garbage and take space, or when its client comes with another call: whoever
    /// writes it should end.
    #[must_use]
    pub fn given_up(&self) -> CancellationToken {
        self.lease.claim.given_up.clone()
    }

    /// What makes durable, beside this writer, what it writes from now on. What is there is durable.
    #[must_use]
    pub fn syncer(&self) -> Syncer {
        Syncer {
            lease: Arc::clone(&self.lease),
            whole_bytes: self.whole_bytes,
            durable_bytes: self.written_bytes(),
            written_bytes: self.written_bytes.subscribe(),
        }
    }

    /// Verifies chunks and writes them at the end, where the first must begin, one after the other: those before a wrong one are written.
    ///
    /// # Errors
    /// When one does not have its digest, does not belong there, or exceeds the announced size, or the disk fails.
    pub async fn append(&mut self, chunks: Vec<Option<v1::Chunk>>) -> Result<(), StageError> {
        let (lease, whole_bytes) = (Arc::clone(&self.lease), self.whole_bytes);
        let mut end = self.written_bytes();
        let mut progress = self.progress.take().unwrap_or_default();
        let (end, progress, appended) = blocking(self.lease.path.clone(), move |_| {
            let appended = chunks.into_iter().try_for_each(|chunk| {
                end = lease.append(chunk, end, whole_bytes, &mut progress)?;
                Ok(())
            });
            (end, progress, appended)
        })
        .await?;
        self.progress = Some(progress);
        self.written_bytes.send_replace(end);
        appended
    }
}

/// Makes one upload durable while it is written.
#[derive(Debug)]
pub struct Syncer {
    lease: Arc<Lease>,
    whole_bytes: u64,
    durable_bytes: u64,
    written_bytes: watch::Receiver<u64>,
}

impl Syncer {
    /// Bytes that a crash of the machine may still take.
    #[must_use]
    pub fn unsynced_bytes(&self) -> u64 {
        *self.written_bytes.borrow() - self.durable_bytes
    }

    /// Waits until there is something to make durable: `enough_bytes`, what waits for so long, the end of the upload, or what its writer
    /// left. Answers whether there is: no means that the writer is gone and everything is durable.
    pub async fn due(&mut self, enough_bytes: u64, patience: Duration) -> bool {
        let mut patience = pin!(sleep(patience));
        loop {
            let written_bytes = *self.written_bytes.borrow_and_update();
            let unsynced_bytes = written_bytes - self.durable_bytes;
            let is_whole = written_bytes == self.whole_bytes && unsynced_bytes > 0;
            if unsynced_bytes >= enough_bytes || is_whole {
                return true;
            }
            tokio::select! {
                changed = self.written_bytes.changed() => if changed.is_err() {
                    return unsynced_bytes > 0;
                },
                () = &mut patience, if unsynced_bytes > 0 => return true,
            }
        }
    }

    /// Makes what was written durable. Answers how much that is, bytes.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn sync(&mut self) -> Result<u64, StageError> {
        let written_bytes = *self.written_bytes.borrow_and_update();
        if written_bytes > self.durable_bytes {
            let lease = Arc::clone(&self.lease);
            let synced = blocking(self.lease.path.clone(), move |path| {
                lease.file.sync_data().map_err(failed(path))
            });
            synced.await??;
            self.durable_bytes = written_bytes;
            failpoint::pass(Point::ServerStaged);
        }
        Ok(self.durable_bytes)
    }
}
