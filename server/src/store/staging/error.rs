//! Why bytes cannot be staged, and what a client is told about it.

use std::io;
use std::path::{Path, PathBuf};

use fedmerge_common::units::Millis;
use fedmerge_proto::convert::transfer::ChunkError;
use fedmerge_proto::status::{Refusal, RefusalReason};

/// When to come back where too many send: about what an upload of some gigabytes takes.
const CROWD_PAUSE: Millis = Millis::from_secs(2);
/// When to come back where there is no space: some uploads have ended by then.
const FULL_PAUSE: Millis = Millis::from_secs(10);

/// Why bytes cannot be staged.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// An earlier call writes the same upload, and has been told to end.
    #[error("an earlier call has not let go of the upload yet")]
    InUse,
    /// The bytes are not a chunk, or not the one that was sent.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// The bytes do not continue where the file ends.
    #[error("the chunk begins at byte {found}, the server stands at byte {expected}")]
    WrongOffset {
        /// Where the file ends, bytes.
        expected: u64,
        /// Where the chunk begins, bytes.
        found: u64,
    },
    /// More bytes than announced, or than are ever staged.
    #[error("{bytes} bytes are over the limit of {limit_bytes} bytes")]
    TooLarge {
        /// Size reached, bytes.
        bytes: u64,
        /// The announced size or the limit of staging, bytes.
        limit_bytes: u64,
    },
    /// Other uploads take up the limit of all staged bytes.
    #[error("other uploads take up the server's space for uploads")]
    Full,
    /// As many uploads are sent as may be.
    #[error("{uploads} uploads are sent at the moment, and no more are taken")]
    Crowded {
        /// Uploads that are being sent.
        uploads: usize,
    },
    /// The disk is full.
    #[error("the server's disk is full")]
    StorageFull,
    /// The disk failed.
    #[error("the server cannot stage the upload in {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl From<StageError> for Refusal {
    /// What a client is told: no paths.
    fn from(error: StageError) -> Self {
        let reason = match &error {
            StageError::Chunk(chunk) => return chunk.clone().into(),
            StageError::InUse => RefusalReason::Busy,
            StageError::Crowded { .. } => {
                return Self::new(RefusalReason::Busy, &error).with_retry_after(CROWD_PAUSE);
            }
            StageError::Full => {
                return Self::new(RefusalReason::StorageFull, &error).with_retry_after(FULL_PAUSE);
            }
            StageError::WrongOffset { .. } => RefusalReason::WrongOffset,
            StageError::TooLarge { .. } => RefusalReason::TooLarge,
            StageError::StorageFull => RefusalReason::StorageFull,
            StageError::Io { .. } => {
                return Self::new(
                    RefusalReason::Internal,
                    "the server cannot store the upload: its log says why",
                );
            }
        };
        Self::new(reason, error)
    }
}

pub(super) fn failed(path: &Path) -> impl Fn(io::Error) -> StageError {
    move |source| {
        let kind = source.kind();
        if matches!(
            kind,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        ) {
            return StageError::StorageFull;
        }
        StageError::Io {
            path: path.to_owned(),
            source,
        }
    }
}
