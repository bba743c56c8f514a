//! Appending to one upload: bytes go where the file ends, and count as durable when they were synced.
//!
//! File operations run on tokio's blocking threads.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use fedmerge_common::failpoint::{self, Point};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::store::staging::book::Claim;
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
    work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> Result<T, StageError> {
    let place = path.clone();
    let result = spawn_blocking(move || work(&place).map_err(failed(&place))).await;
    // Only a runtime that is about to stop does not run it.
    result.unwrap_or_else(|error| Err(failed(&path)(io::Error::other(error))))
}

/// An open file with the right to write it. A write that was begun holds it, even when nobody waits for the write any
/// more: the next writer comes after it.
#[derive(Debug)]
struct Lease {
    file: File,
    path: PathBuf,
    claim: Claim,
}

/// Appends to one upload.
#[derive(Debug)]
pub struct StagingWriter {
    lease: Arc<Lease>,
    whole_bytes: u64,
    written_bytes: u64,
    durable_bytes: u64,
}

impl StagingWriter {
    /// Opens or makes the file at `path` on behalf of `claim`.
    pub(super) async fn open(
        path: PathBuf,
        claim: Claim,
        whole_bytes: u64,
    ) -> Result<Self, StageError> {
        blocking(path, move |path| {
            let (file, written_bytes) = open(path)?;
            Ok(Self {
                lease: Arc::new(Lease {
                    file,
                    path: path.to_owned(),
                    claim,
                }),
                whole_bytes,
                written_bytes,
                durable_bytes: written_bytes,
            })
        })
        .await
    }

    /// Where the next bytes begin.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Raised when the upload is given up, and its bytes are garbage and take space, or when its client comes with another call: whoever
    /// writes it should end.
    #[must_use]
    pub fn given_up(&self) -> CancellationToken {
        self.lease.claim.given_up.clone()
    }

    /// Bytes that a crash of the machine may still take.
    #[must_use]
    pub fn unsynced_bytes(&self) -> u64 {
        self.written_bytes - self.durable_bytes
    }

    /// Writes `data` at the end, which must be `offset`.
    ///
    /// # Errors
    /// When it does not belong there, exceeds the announced size, or the disk fails.
    pub async fn append(&mut self, offset: u64, data: Bytes) -> Result<(), StageError> {
        if offset != self.written_bytes {
            return Err(StageError::WrongOffset {
                expected: self.written_bytes,
                found: offset,
            });
        }
        let end = offset.saturating_add(data.len() as u64);
        if end > self.whole_bytes {
            return Err(StageError::TooLarge {
                bytes: end,
                limit_bytes: self.whole_bytes,
            });
        }
        let lease = Arc::clone(&self.lease);
        blocking(self.lease.path.clone(), move |_| {
            lease.file.write_all_at(&data, offset)
        })
        .await?;
        self.written_bytes = end;
        Ok(())
    }

    /// Makes what was written durable. Answers how much that is, bytes.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn sync(&mut self) -> Result<u64, StageError> {
        if self.unsynced_bytes() > 0 {
            let lease = Arc::clone(&self.lease);
            blocking(self.lease.path.clone(), move |_| lease.file.sync_data()).await?;
            self.durable_bytes = self.written_bytes;
            failpoint::pass(Point::ServerStaged);
        }
        Ok(self.durable_bytes)
    }
}
