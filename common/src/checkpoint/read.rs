//! Reading checkpoints, by position and from any number of threads.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytemuck::cast_slice_mut;
use half::{bf16, f16};

use crate::checkpoint::header::{HeaderLimits, InvalidCheckpoint};
use crate::checkpoint::index::{self, Index};
use crate::checkpoint::open::open_shard;
use crate::checkpoint::stamp::Stamp;
use crate::digest::{Digest, DigestWriter};
use crate::dtype::{ConvertError, Dtype, decode_f32};
use crate::schema::{Schema, TensorSpec};

/// Elements of a half type that are widened at a time: their bytes are on the stack.
const STRIP: usize = 8192;

/// A checkpoint that cannot be read. Cut by what helps: another path, another disk, another file.
#[derive(Debug, thiserror::Error)]
pub enum ReadCheckpointError {
    /// The directory holds no checkpoint.
    #[error("`{}` has neither model.safetensors nor model.safetensors.index.json", path.display())]
    NoCheckpoint {
        /// The directory.
        path: PathBuf,
    },
    /// A file cannot be opened or read.
    #[error("cannot read `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file's content is wrong.
    #[error("`{}` is not a valid checkpoint", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: InvalidCheckpoint,
    },
    /// A caller asked for elements that the tensor does not have.
    #[error("tensor `{tensor}` of `{}` has {available} bytes: cannot read {bytes} from byte {offset} on", path.display())]
    OutOfRange {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Where reading should begin, bytes.
        offset: u64,
        /// How much should be read, bytes.
        bytes: u64,
        /// The tensor's size, bytes.
        available: u64,
    },
    /// A caller asked for numbers where there are none to merge.
    #[error("tensor `{tensor}` of `{}` cannot be read as f32", path.display())]
    Convert {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Why.
        source: ConvertError,
    },
}

impl ReadCheckpointError {
    /// What is wrong with the content, where that is the fault: a message without paths, fit for the
    /// one who made the file.
    #[must_use]
    pub fn invalid_content(&self) -> Option<&InvalidCheckpoint> {
        if let Self::Invalid { source, .. } = self {
            Some(source)
        } else {
            None
        }
    }
}

/// Bytes of a tensor that are read at once where it is read from end to end.
const PIECE_BYTES: usize = 1024 * 1024;

/// Values of a mergeable tensor in its own type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Floats<'a> {
    /// IEEE 754 single precision.
    F32(&'a [f32]),
    /// IEEE 754 half precision.
    F16(&'a [f16]),
    /// The upper half of an F32.
    Bf16(&'a [bf16]),
}

#[derive(Debug)]
struct Shard {
    path: PathBuf,
    file: File,
    stamp: Stamp,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    shard: usize,
    /// Position in the file, bytes.
    begin: u64,
}

/// An open checkpoint. Tensors are addressed by their position in [`Checkpoint::schema`].
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    shards: Vec<Shard>,
    schema: Schema,
    /// By position in the schema.
    places: Vec<Place>,
    metadata: BTreeMap<String, String>,
    /// By all threads, so far.
    bytes_read: AtomicU64,
}

impl Checkpoint {
    /// Opens a `.safetensors` file, or a directory that holds `model.safetensors` or shards with
    /// `model.safetensors.index.json`. Only headers are read.
    ///
    /// # Errors
    /// When a file cannot be read or breaks the format; the error names the file and the tensor.
    pub fn open(path: &Path) -> Result<Self, ReadCheckpointError> {
        Self::open_within(path, &HeaderLimits::default())
    }

    /// The same, for a reader that accepts less: what strangers send.
    ///
    /// # Errors
    /// Also when a header is over a limit.
    pub fn open_within(path: &Path, limits: &HeaderLimits) -> Result<Self, ReadCheckpointError> {
        let files = index::find(path)?;
        let (mut shards, mut placed, mut metadata) = (Vec::new(), Vec::new(), BTreeMap::new());
        for (shard, path) in files.paths.into_iter().enumerate() {
            let (file, header, data_begin) = open_shard(&path, limits)?;
            let stamp = Stamp::of_open(&file).map_err(|source| ReadCheckpointError::Io {
                path: path.clone(),
                source,
            })?;
            metadata.extend(header.metadata);
            for tensor in header.tensors {
                placed.push((
                    tensor.spec,
                    Place {
                        shard,
                        begin: data_begin + tensor.begin,
                    },
                ));
            }
            shards.push(Shard { path, file, stamp });
        }
        if let Some(index) = &files.index {
            check_index(index, &placed, &shards)?;
        }
        placed.sort_by(|(left, _), (right, _)| left.name().cmp(right.name()));
        let (specs, places) = placed.into_iter().unzip();
        let schema = Schema::new(specs).map_err(|source| ReadCheckpointError::Invalid {
            path: path.to_owned(),
            source: InvalidCheckpoint::Schema(source),
        })?;
        Ok(Self {
            path: path.to_owned(),
            shards,
            schema,
            places,
            metadata,
            bytes_read: AtomicU64::new(0),
        })
    }

    /// The path it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its tensors.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Its files, in the order of their names.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.shards.iter().map(|shard| shard.path.as_path())
    }

    /// Bytes of tensors that were read so far, each as often as it was.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    /// The first of its files that is not what it was when it was opened, however that came about: then what was read may be of
    /// two kinds.
    #[must_use]
    pub fn changed_file(&self) -> Option<&Path> {
        let changed = self
            .shards
            .iter()
            .find(|shard| !shard.stamp.still_fits(&shard.file, &shard.path));
        changed.map(|shard| shard.path.as_path())
    }

    /// The free text of its headers by key.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Fills `bytes` with a tensor's bytes from `byte_offset` on.
    ///
    /// # Errors
    /// When the tensor has fewer, or the file cannot be read.
    ///
    /// # Panics
    /// When `tensor` is not a position in the schema.
    pub fn read_bytes(
        &self,
        tensor: usize,
        byte_offset: u64,
        bytes: &mut [u8],
    ) -> Result<(), ReadCheckpointError> {
        self.check_range(tensor, byte_offset, bytes.len() as u64)?;
        self.bytes_read
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let place = self.places[tensor];
        let shard = &self.shards[place.shard];
        let read = shard.file.read_exact_at(bytes, place.begin + byte_offset);
        read.map_err(|source| ReadCheckpointError::Io {
            path: shard.path.clone(),
            source,
        })
    }

    /// Where a tensor's bytes are in its file.
    ///
    /// # Panics
    /// When `tensor` is not a position in the schema.
    #[must_use]
    pub fn extent(&self, tensor: usize) -> Range<u64> {
        let begin = self.places[tensor].begin;
        begin..begin + self.schema.tensors()[tensor].byte_len()
    }

    /// Digest of a tensor's bytes.
    ///
    /// # Errors
    /// When the file cannot be read.
    ///
    /// # Panics
    /// When `tensor` is not a position in the schema.
    pub fn digest_of(&self, tensor: usize) -> Result<Digest, ReadCheckpointError> {
        let whole = self.schema.tensors()[tensor].byte_len();
        let mut digest = DigestWriter::new();
        let mut piece = vec![
            0;
            usize::try_from(whole)
                .unwrap_or(usize::MAX)
                .min(PIECE_BYTES)
        ];
        let mut offset = 0;
        while offset < whole {
            let left = usize::try_from(whole - offset).unwrap_or(usize::MAX);
            let length = left.min(PIECE_BYTES);
            self.read_bytes(tensor, offset, &mut piece[..length])?;
            digest.update(&piece[..length]);
            offset += length as u64;
        }
        Ok(digest.finish())
    }

    /// Fills `values` with a mergeable tensor's elements from `element_offset` on, widened exactly. Allocates nothing.
    ///
    /// # Errors
    /// When the tensor has fewer or is not mergeable, or the file cannot be read.
    ///
    /// # Panics
    /// When `tensor` is not a position in the schema.
    pub fn read_f32(
        &self,
        tensor: usize,
        element_offset: usize,
        values: &mut [f32],
    ) -> Result<(), ReadCheckpointError> {
        let dtype = self.schema.tensors()[tensor].dtype();
        let element_bytes = dtype.bytes();
        let mut offset = (element_offset as u64).saturating_mul(element_bytes as u64);
        if dtype == Dtype::F32 {
            return self.read_bytes(tensor, offset, cast_slice_mut(values));
        }
        let failed = |source| self.cannot_convert(tensor, source);
        if !dtype.is_mergeable() {
            return Err(failed(ConvertError::NotMergeable { dtype }));
        }
        self.check_range(tensor, offset, (values.len() * element_bytes) as u64)?;
        let mut strip = [0_u16; STRIP];
        for values in values.chunks_mut(STRIP) {
            let bytes: &mut [u8] = cast_slice_mut(&mut strip[..values.len()]);
            self.read_bytes(tensor, offset, bytes)?;
            decode_f32(dtype, bytes, values).map_err(failed)?;
            offset += bytes.len() as u64;
        }
        Ok(())
    }

    /// Reads `elements` of a mergeable tensor from `element_offset` on in their own type, into the front of `buffer`.
    ///
    /// # Errors
    /// When the tensor has fewer or is not mergeable, or the file cannot be read.
    ///
    /// # Panics
    /// When `tensor` is not a position in the schema, or `buffer` is shorter than `elements`.
    pub fn read_floats<'a>(
        &self,
        tensor: usize,
        element_offset: usize,
        elements: usize,
        buffer: &'a mut [f32],
    ) -> Result<Floats<'a>, ReadCheckpointError> {
        let dtype = self.schema.tensors()[tensor].dtype();
        let offset = (element_offset as u64).saturating_mul(dtype.bytes() as u64);
        if !dtype.is_mergeable() {
            let source = ConvertError::NotMergeable { dtype };
            return Err(self.cannot_convert(tensor, source));
        }
        let buffer = &mut buffer[..elements];
        if dtype == Dtype::F32 {
            self.read_bytes(tensor, offset, cast_slice_mut(buffer))?;
            return Ok(Floats::F32(buffer));
        }
        if dtype == Dtype::F16 {
            let halves = &mut cast_slice_mut(buffer)[..elements];
            self.read_bytes(tensor, offset, cast_slice_mut(halves))?;
            return Ok(Floats::F16(halves));
        }
        let halves = &mut cast_slice_mut(buffer)[..elements];
        self.read_bytes(tensor, offset, cast_slice_mut(halves))?;
        Ok(Floats::Bf16(halves))
    }

    fn check_range(
        &self,
        tensor: usize,
        offset: u64,
        bytes: u64,
    ) -> Result<(), ReadCheckpointError> {
        let spec = &self.schema.tensors()[tensor];
        let available = spec.byte_len();
        if offset
            .checked_add(bytes)
            .is_some_and(|end| end <= available)
        {
            return Ok(());
        }
        Err(ReadCheckpointError::OutOfRange {
            path: self.path.clone(),
            tensor: spec.name().to_owned(),
            offset,
            bytes,
            available,
        })
    }

    fn cannot_convert(&self, tensor: usize, source: ConvertError) -> ReadCheckpointError {
        ReadCheckpointError::Convert {
            path: self.path.clone(),
            tensor: self.schema.tensors()[tensor].name().to_owned(),
            source,
        }
    }
}

/// Checks that the index and the shards tell the same.
fn check_index(
    index: &Index,
    placed: &[(TensorSpec, Place)],
    shards: &[Shard],
) -> Result<(), ReadCheckpointError> {
    let invalid = |problem| ReadCheckpointError::Invalid {
        path: index.path.clone(),
        source: InvalidCheckpoint::Index { problem },
    };
    let name = |shard: usize| shards[shard].path.file_name().unwrap_or_default().display();
    let mut missing = index.shard_of.clone();
    for (spec, place) in placed {
        if index.shard_of.get(spec.name()) != Some(&place.shard) {
            return Err(invalid(format!(
                "does not say that tensor `{}` is in `{}`",
                spec.name(),
                name(place.shard)
            )));
        }
        missing.remove(spec.name());
    }
    if let Some((tensor, &shard)) = missing.first_key_value() {
        return Err(invalid(format!(
            "says that tensor `{}` is in `{}`, which lacks it",
            tensor.escape_debug(),
            name(shard)
        )));
    }
    Ok(())
}
