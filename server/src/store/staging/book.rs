//! The shared book of staged uploads: which has a writer, and what each takes of the limit.
//!
//! The lock is held for a look at a map and never across an await.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fedmerge_common::ids::UploadId;
use fedmerge_common::units::ByteSize;
use tokio_util::sync::CancellationToken;

use crate::store::staging::EXTENSION;
use crate::store::staging::error::StageError;

/// What an upload takes of the limit.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) bytes: u64,
    /// While it is written: raised when the upload is given up, or its client comes with another call.
    pub(super) writer: Option<CancellationToken>,
}

#[derive(Debug)]
pub(super) struct Book {
    pub(super) directory: PathBuf,
    pub(super) limit: ByteSize,
    pub(super) places: Mutex<BTreeMap<UploadId, Place>>,
}

impl Book {
    pub(super) fn path(&self, id: &UploadId) -> PathBuf {
        self.directory.join(format!("{id}.{EXTENSION}"))
    }

    pub(super) fn places(&self) -> MutexGuard<'_, BTreeMap<UploadId, Place>> {
        // Each change of the map is one assignment: a panic leaves it whole.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the upload for one writer and reserves its whole size. A writer that has it is told to end: its client would not come
    /// again if it still used that call, whose connection may be broken without anybody on this side having noticed.
    pub(super) fn reserve(
        &self,
        id: &UploadId,
        whole_bytes: u64,
    ) -> Result<CancellationToken, StageError> {
        let limit_bytes = self.limit.get();
        if whole_bytes > limit_bytes {
            return Err(StageError::TooLarge {
                bytes: whole_bytes,
                limit_bytes,
            });
        }
        let mut places = self.places();
        if let Some(earlier) = places.get(id).and_then(|place| place.writer.as_ref()) {
            earlier.cancel();
            return Err(StageError::InUse);
        }
        let others = places.iter().filter(|(other, _)| *other != id);
        let others = others.fold(0_u64, |sum, (_, place)| sum.saturating_add(place.bytes));
        if others.saturating_add(whole_bytes) > limit_bytes {
            return Err(StageError::Full);
        }
        let given_up = CancellationToken::new();
        let place = Place {
            bytes: whole_bytes,
            writer: Some(given_up.clone()),
        };
        places.insert(id.clone(), place);
        Ok(given_up)
    }

    /// Sets the upload's share of the limit to what it has on disk.
    pub(super) fn release(&self, id: &UploadId) {
        let mut places = self.places();
        match length(&self.path(id)) {
            Ok(bytes) if bytes > 0 => {
                let place = Place {
                    bytes,
                    writer: None,
                };
                places.insert(id.clone(), place);
            }
            Ok(_) | Err(_) => {
                places.remove(id);
            }
        }
    }
}

/// Length of a file, bytes; 0 where there is none.
pub(super) fn length(path: &Path) -> io::Result<u64> {
    match fs::metadata(path) {
        Ok(found) => Ok(found.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

/// The right to write an upload.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) book: Arc<Book>,
    pub(super) id: UploadId,
    pub(super) given_up: CancellationToken,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.book.release(&self.id);
    }
}
