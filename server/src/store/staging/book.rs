//! The shared book of staged uploads: which has a writer, and what each takes of the limit.
//!
//! The lock is held for a look at a map, or while a file is removed, and never across an await.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fedmerge_common::digest::Digest;
use fedmerge_common::ids::UploadId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::store::staging::error::{StageError, failed};
use crate::store::staging::{EXTENSION, StagingLimits};

/// An upload that nobody goes on with keeps its space for so long, and longer where nobody needs the space.
pub(super) const IDLE_UPLOAD_LIFE: Duration = Duration::from_secs(10 * 60);

/// What an upload takes of the limit.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) bytes: u64,
    /// Of all its bytes, where this process wrote them and nothing is missing.
    pub(super) digest: Option<Digest>,
    /// While it is written: raised when the upload is given up, or its client comes with another call.
    pub(super) writer: Option<CancellationToken>,
    /// Since when nobody writes it, where nobody does.
    pub(super) idle_since: Instant,
}

impl Place {
    /// An upload that nobody writes from now on.
    pub(super) fn idle(bytes: u64) -> Self {
        Self {
            bytes,
            digest: None,
            writer: None,
            idle_since: Instant::now(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Book {
    pub(super) directory: PathBuf,
    pub(super) limits: StagingLimits,
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
        let limit_bytes = self.limits.bytes.get();
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
        let uploads = places.values().filter(|place| place.writer.is_some());
        let uploads = uploads.count();
        if uploads >= self.limits.uploads {
            return Err(StageError::Crowded { uploads });
        }
        self.make_room(&mut places, id, whole_bytes)?;
        let given_up = CancellationToken::new();
        let place = Place {
            bytes: whole_bytes,
            digest: None,
            writer: Some(given_up.clone()),
            idle_since: Instant::now(),
        };
        places.insert(id.clone(), place);
        Ok(given_up)
    }

    /// Lets go of uploads that nobody goes on with, those first that were left first, until one of so many bytes finds space. Their
    /// clients begin again if they come back.
    fn make_room(
        &self,
        places: &mut BTreeMap<UploadId, Place>,
        id: &UploadId,
        whole_bytes: u64,
    ) -> Result<(), StageError> {
        let others = places.iter().filter(|(other, _)| *other != id);
        let taken = others.fold(0_u64, |sum, (_, place)| sum.saturating_add(place.bytes));
        let mut missing = taken
            .saturating_add(whole_bytes)
            .saturating_sub(self.limits.bytes.get());
        if missing == 0 {
            return Ok(());
        }
        let is_left = |place: &Place| {
            place.writer.is_none() && place.idle_since.elapsed() >= IDLE_UPLOAD_LIFE
        };
        let left = places
            .iter()
            .filter(|(other, place)| *other != id && is_left(place));
        let mut left: Vec<_> = left
            .map(|(other, place)| (place.idle_since, other.clone(), place.bytes))
            .collect();
        left.sort();
        for (_, other, bytes) in left {
            if missing == 0 {
                break;
            }
            let path = self.path(&other);
            fs::remove_file(&path)
                .or_else(absent)
                .map_err(failed(&path))?;
            tracing::info!(upload = %other, bytes, "upload that nobody went on with gave its space up");
            places.remove(&other);
            missing = missing.saturating_sub(bytes);
        }
        if missing > 0 {
            return Err(StageError::Full);
        }
        Ok(())
    }

    /// Keeps the digest of an upload that its writer has written to the end.
    pub(super) fn complete(&self, id: &UploadId, digest: Digest) {
        if let Some(place) = self.places().get_mut(id) {
            place.digest = Some(digest);
        }
    }

    /// Sets the upload's share of the limit to what it has on disk.
    pub(super) fn release(&self, id: &UploadId) {
        let mut places = self.places();
        match length(&self.path(id)) {
            Ok(bytes) if bytes > 0 => {
                let digest = places.get(id).and_then(|place| place.digest);
                let place = Place {
                    digest,
                    ..Place::idle(bytes)
                };
                places.insert(id.clone(), place);
            }
            Ok(_) | Err(_) => {
                places.remove(id);
            }
        }
    }
}

/// What is not there need not be removed.
fn absent(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound {
        return Ok(());
    }
    Err(error)
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
