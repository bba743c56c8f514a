//! Uploads that are not complete, one file each. What a writer acknowledged is on disk; the payload's digest decides at
//! intake whether it is what was announced.
//!
//! All of them together have a limit, in which an upload in progress counts with its whole announced size: what was let
//! begin can also end. What nobody goes on with gives way to what is sent. An upload has one writer at a time. Dropping a writer truncates nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use fedmerge_common::digest::{Digest, DigestWriter};
use fedmerge_common::ids::{ClientId, UploadId};
use fedmerge_common::units::ByteSize;
use fedmerge_common::update::UpdateHeader;

use crate::store::staging::book::{Book, Place, length};

mod book;
mod error;
mod writer;

pub use error::StageError;
pub use writer::{StagingWriter, Syncer};

const EXTENSION: &str = "part";

/// The name of an upload: the same announcement by the same client is the same upload.
///
/// # Panics
/// Never: a digest is a valid name.
#[must_use]
pub fn upload_id(client: &ClientId, header: &UpdateHeader) -> UploadId {
    let mut digest = DigestWriter::new();
    let mut number = |number: u64| digest.update(&number.to_le_bytes());
    number(header.round.get());
    number(header.payload_bytes);
    number(header.num_examples);
    number(header.metrics.len() as u64);
    digest.update(header.base.as_bytes());
    digest.update(header.payload.as_bytes());
    // Lengths before texts, so that no two announcements hash the same bytes.
    let mut text = |text: &str| {
        digest.update(&(text.len() as u64).to_le_bytes());
        digest.update(text.as_bytes());
    };
    text(client.as_str());
    text(header.encoding.as_str());
    header.metrics.keys().for_each(|name| text(name));
    for value in header.metrics.values() {
        digest.update(&value.to_bits().to_le_bytes());
    }
    let name = digest.finish().hex();
    name.parse().expect("64 hexadecimal digits are a name")
}

/// What all uploads together may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StagingLimits {
    /// Bytes on disk.
    pub bytes: ByteSize,
    /// Uploads that are written at the same time: each takes memory.
    pub uploads: usize,
}

/// The directory of incomplete uploads. Clones share it.
#[derive(Debug, Clone)]
pub struct Staging {
    book: Arc<Book>,
}

impl Staging {
    /// Opens the directory, making it where it is missing. What is in it counts towards the limit of bytes.
    ///
    /// # Errors
    /// When the directory cannot be made or read.
    pub fn open(directory: PathBuf, limits: StagingLimits) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        let mut places = BTreeMap::new();
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if let Some(id) = id_of(&entry.path()) {
                places.insert(id, Place::idle(entry.metadata()?.len()));
            }
        }
        Ok(Self {
            book: Arc::new(Book {
                directory,
                limits,
                places: Mutex::new(places),
            }),
        })
    }

    /// Every upload of which something is staged or being written.
    #[must_use]
    pub fn uploads(&self) -> Vec<UploadId> {
        self.book.places().keys().cloned().collect()
    }

    /// Where an upload's bytes are, or will be.
    #[must_use]
    pub fn path(&self, id: &UploadId) -> PathBuf {
        self.book.path(id)
    }

    /// How much of an upload is there when nobody writes it, bytes; 0 when nothing is. Opening a writer makes it durable.
    ///
    /// # Errors
    /// When the file system refuses to tell.
    pub fn durable_bytes(&self, id: &UploadId) -> io::Result<u64> {
        length(&self.path(id))
    }

    /// The digest of a complete upload, where this process wrote all of it.
    #[must_use]
    pub fn digest(&self, id: &UploadId) -> Option<Digest> {
        self.book.places().get(id).and_then(|place| place.digest)
    }

    /// Removes what there is of an upload, also after its file was moved away, and tells its writer to end.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn remove(&self, id: &UploadId) -> io::Result<()> {
        match fs::remove_file(self.path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut places = self.book.places();
        match places.get(id).map(|place| &place.writer) {
            // A writer that is at it keeps its reservation until it is dropped: its bytes still take space.
            Some(Some(given_up)) => given_up.cancel(),
            Some(None) => {
                places.remove(id);
            }
            None => {}
        }
        Ok(())
    }

    /// Opens an upload of `whole_bytes` for writing, where it ended.
    ///
    /// # Errors
    /// When it has a writer, as many as may be have one, it is too large, finds no space, or the disk fails.
    pub async fn writer(
        &self,
        id: &UploadId,
        whole_bytes: u64,
    ) -> Result<StagingWriter, StageError> {
        StagingWriter::open(Arc::clone(&self.book), id.clone(), whole_bytes).await
    }
}

fn id_of(path: &Path) -> Option<UploadId> {
    let is_part = path.extension().is_some_and(|found| found == EXTENSION);
    is_part.then(|| path.file_stem()?.to_str()?.parse().ok())?
}

#[cfg(test)]
mod tests;
