//! Writing checkpoints: into a temporary file beside the target, which takes the target's place when it is
//! complete and durable, or disappears.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytemuck::{cast_slice, cast_slice_mut};
use rustix::fs::{FallocateFlags, fallocate};

use crate::checkpoint::header;
use crate::checkpoint::index::MAX_SHARDS;
use crate::digest::Digest;
use crate::dtype::{ConvertError, Dtype, encode_f32, encode_f64};
use crate::schema::Schema;

/// Elements that are rounded and written at a time: their bytes are on the stack.
const STRIP: usize = 8192;

/// A checkpoint that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteCheckpointError {
    /// The file system refused.
    #[error("cannot write `{}`", path.display())]
    Io {
        /// The target.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A caller wrote past the end of a tensor.
    #[error("tensor `{tensor}` of `{}` has {available} bytes: cannot write {bytes} from byte {offset} on", path.display())]
    OutOfRange {
        /// The target.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Where writing should begin, bytes.
        offset: u64,
        /// How much should be written, bytes.
        bytes: u64,
        /// The tensor's size, bytes.
        available: u64,
    },
    /// A caller wrote numbers where none are merged.
    #[error("tensor `{tensor}` of `{}` cannot be written as f32", path.display())]
    Convert {
        /// The target.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Why.
        source: ConvertError,
    },
    /// The files would be more than any reader opens.
    #[error("`{}` would have {shards} shards, the limit is {MAX_SHARDS}", path.display())]
    TooManyShards {
        /// The directory.
        path: PathBuf,
        /// How many there would be.
        shards: usize,
    },
}

impl WriteCheckpointError {
    /// Whether the disk or the quota is full: the one failure that freeing space mends.
    #[must_use]
    pub fn is_storage_full(&self) -> bool {
        let Self::Io { source, .. } = self else {
            return false;
        };
        matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrittenCheckpoint {
    /// Digest of the whole file.
    pub digest: Digest,
    /// Size of the file, bytes.
    pub bytes: u64,
}

/// A checkpoint in the making. Tensors are addressed by their position in the schema; what is never
/// written is zero. Equal schema, metadata and content make equal files.
#[derive(Debug)]
pub struct CheckpointWriter {
    target: PathBuf,
    temporary: PathBuf,
    file: File,
    schema: Schema,
    /// Positions in the file, bytes, by position in the schema.
    begins: Vec<u64>,
    bytes: u64,
    is_finished: bool,
}

impl CheckpointWriter {
    /// Begins a checkpoint that will be at `target`. Its directory must exist. The whole size is claimed at once, where the file
    /// system can do that: a full disk is known now and not in the end.
    ///
    /// # Errors
    /// When the temporary file cannot be made, or there is no room for it.
    pub fn create(
        target: &Path,
        schema: &Schema,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self, WriteCheckpointError> {
        let failed = |source| WriteCheckpointError::Io {
            path: target.to_owned(),
            source,
        };
        let (places, header) = header::layout(schema, metadata);
        let data_begin = header.len() as u64;
        let temporary = temporary_beside(target).map_err(failed)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&temporary)
            .map_err(failed)?;
        let writer = Self {
            target: target.to_owned(),
            temporary,
            file,
            schema: schema.clone(),
            begins: places.into_iter().map(|place| data_begin + place).collect(),
            bytes: data_begin + schema.byte_len(),
            is_finished: false,
        };
        claim(&writer.file, writer.bytes).map_err(failed)?;
        writer.file.write_all_at(&header, 0).map_err(failed)?;
        Ok(writer)
    }

    /// Its tensors.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Writes a tensor's bytes from `byte_offset` on.
    ///
    /// # Errors
    /// When the tensor has fewer, or the file system refuses.
    ///
    /// # Panics
    /// When `tensor` is not a position in the schema.
    pub fn write_bytes(
        &self,
        tensor: usize,
        byte_offset: u64,
        bytes: &[u8],
    ) -> Result<(), WriteCheckpointError> {
        let spec = &self.schema.tensors()[tensor];
        let end = byte_offset.checked_add(bytes.len() as u64);
        if end.is_none_or(|end| end > spec.byte_len()) {
            return Err(WriteCheckpointError::OutOfRange {
                path: self.target.clone(),
                tensor: spec.name().to_owned(),
                offset: byte_offset,
                bytes: bytes.len() as u64,
                available: spec.byte_len(),
            });
        }
        let written = self
            .file
            .write_all_at(bytes, self.begins[tensor] + byte_offset);
        written.map_err(|source| self.failed(source))
    }

    /// Writes a mergeable tensor's elements from `element_offset` on, rounded to nearest, ties to even.
    ///
    /// # Errors
    /// When the tensor has fewer or is not mergeable, or the file system refuses.
    ///
    /// # Panics
    /// When `tensor` is not a position in the schema.
    pub fn write_f32(
        &self,
        tensor: usize,
        element_offset: usize,
        values: &[f32],
    ) -> Result<(), WriteCheckpointError> {
        let spec = &self.schema.tensors()[tensor];
        let byte_offset = (element_offset as u64).saturating_mul(spec.dtype().bytes() as u64);
        if spec.dtype() == Dtype::F32 {
            return self.write_bytes(tensor, byte_offset, cast_slice(values));
        }
        let mut bytes = Vec::new();
        encode_f32(spec.dtype(), values, &mut bytes).map_err(|source| {
            WriteCheckpointError::Convert {
                path: self.target.clone(),
                tensor: spec.name().to_owned(),
                source,
            }
        })?;
        self.write_bytes(tensor, byte_offset, &bytes)
    }

    /// Writes a mergeable tensor's elements from `element_offset` on, rounded once to its type: to nearest, ties to even.
    /// Allocates nothing. Answers how many finite values were too large for the type and became infinite.
    ///
    /// # Errors
    /// When the tensor has fewer or is not mergeable, or the file system refuses.
    ///
    /// # Panics
    /// When `tensor` is not a position in the schema.
    pub fn write_f64(
        &self,
        tensor: usize,
        element_offset: usize,
        values: &[f64],
    ) -> Result<usize, WriteCheckpointError> {
        let spec = &self.schema.tensors()[tensor];
        let element_bytes = spec.dtype().bytes();
        let mut offset = (element_offset as u64).saturating_mul(element_bytes as u64);
        let mut strip = [0_u64; STRIP / 2];
        let strip: &mut [u8] = cast_slice_mut(&mut strip);
        let mut infinite = 0;
        for values in values.chunks(STRIP) {
            let bytes = values.len() * element_bytes.min(size_of::<f32>());
            let bytes = &mut strip[..bytes];
            infinite += encode_f64(spec.dtype(), values, bytes).map_err(|source| {
                WriteCheckpointError::Convert {
                    path: self.target.clone(),
                    tensor: spec.name().to_owned(),
                    source,
                }
            })?;
            self.write_bytes(tensor, offset, bytes)?;
            offset += bytes.len() as u64;
        }
        Ok(infinite)
    }

    /// Makes the checkpoint durable and puts it in the target's place, replacing what was there.
    ///
    /// # Errors
    /// When the file system refuses; then nothing is left.
    pub fn finish(mut self) -> Result<WrittenCheckpoint, WriteCheckpointError> {
        let digest = self.persist().map_err(|source| self.failed(source))?;
        self.is_finished = true;
        Ok(WrittenCheckpoint {
            digest,
            bytes: self.bytes,
        })
    }

    fn persist(&self) -> io::Result<Digest> {
        self.file.sync_all()?;
        let digest = Digest::of_file(&self.temporary)?;
        fs::rename(&self.temporary, &self.target)?;
        File::open(directory_of(&self.target))?.sync_all()?;
        Ok(digest)
    }

    fn failed(&self, source: io::Error) -> WriteCheckpointError {
        WriteCheckpointError::Io {
            path: self.target.clone(),
            source,
        }
    }
}

impl Drop for CheckpointWriter {
    fn drop(&mut self) {
        if !self.is_finished {
            // A file that cannot be removed now is left to the next clean-up of its directory.
            let _left_behind = fs::remove_file(&self.temporary);
        }
    }
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Makes a file so long, and takes the room for it from the disk where the file system can.
fn claim(file: &File, bytes: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => file.set_len(bytes),
        Err(error) => Err(error.into()),
    }
}

/// A name in the target's directory that no other writer uses.
fn temporary_beside(target: &Path) -> io::Result<PathBuf> {
    static WRITERS: AtomicU64 = AtomicU64::new(0);
    let name = target.file_name().ok_or(io::Error::new(
        io::ErrorKind::InvalidInput,
        "not a file name",
    ))?;
    let number = WRITERS.fetch_add(1, Ordering::Relaxed);
    let name = format!(".{}.{}-{number}.tmp", name.display(), std::process::id());
    Ok(directory_of(target).join(name))
}
