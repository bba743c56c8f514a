//! Reading checkpoints, by position and from any number of threads.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytemuck::cast_slice_mut;

use crate::checkpoint::header::{self, Header, InvalidCheckpoint, LENGTH_BYTES, MAX_HEADER_BYTES};
use crate::checkpoint::index::{self, Index};
use crate::dtype::{ConvertError, Dtype, decode_f32};
use crate::schema::{Schema, TensorSpec};

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

#[derive(Debug)]
struct Shard {
    path: PathBuf,
    file: File,
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
}

impl Checkpoint {
    /// Opens a `.safetensors` file, or a directory that holds `model.safetensors` or shards with
    /// `model.safetensors.index.json`. Only headers are read.
    ///
    /// # Errors
    /// When a file cannot be read or breaks the format; the error names the file and the tensor.
    pub fn open(path: &Path) -> Result<Self, ReadCheckpointError> {
        let files = index::find(path)?;
        let (mut shards, mut placed, mut metadata) = (Vec::new(), Vec::new(), BTreeMap::new());
        for (shard, path) in files.paths.into_iter().enumerate() {
            let (file, header, data_begin) = open_shard(&path)?;
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
            shards.push(Shard { path, file });
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
        let (spec, place) = (&self.schema.tensors()[tensor], self.places[tensor]);
        let end = byte_offset.checked_add(bytes.len() as u64);
        if end.is_none_or(|end| end > spec.byte_len()) {
            return Err(ReadCheckpointError::OutOfRange {
                path: self.path.clone(),
                tensor: spec.name().to_owned(),
                offset: byte_offset,
                bytes: bytes.len() as u64,
                available: spec.byte_len(),
            });
        }
        let shard = &self.shards[place.shard];
        let read = shard.file.read_exact_at(bytes, place.begin + byte_offset);
        read.map_err(|source| ReadCheckpointError::Io {
            path: shard.path.clone(),
            source,
        })
    }

    /// Fills `values` with a mergeable tensor's elements from `element_offset` on, widened exactly.
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
        let spec = &self.schema.tensors()[tensor];
        let element_bytes = spec.dtype().bytes();
        let byte_offset = (element_offset as u64).saturating_mul(element_bytes as u64);
        if spec.dtype() == Dtype::F32 {
            return self.read_bytes(tensor, byte_offset, cast_slice_mut(values));
        }
        let mut bytes = vec![0; values.len() * element_bytes];
        self.read_bytes(tensor, byte_offset, &mut bytes)?;
        decode_f32(spec.dtype(), &bytes, values).map_err(|source| ReadCheckpointError::Convert {
            path: self.path.clone(),
            tensor: spec.name().to_owned(),
            source,
        })
    }
}

/// Opens a regular file and tells its size. Anything else could block or never end.
pub(super) fn open_file(path: &Path) -> Result<(File, u64), ReadCheckpointError> {
    let failed = |source| ReadCheckpointError::Io {
        path: path.to_owned(),
        source,
    };
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(failed(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        )));
    }
    let file = File::open(path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    Ok((file, bytes))
}

/// Opens a file, reads its header and checks that the file is as long as that says. Answers also where the
/// tensors begin.
fn open_shard(path: &Path) -> Result<(File, Header, u64), ReadCheckpointError> {
    let failed = |source| ReadCheckpointError::Io {
        path: path.to_owned(),
        source,
    };
    let invalid = |source| ReadCheckpointError::Invalid {
        path: path.to_owned(),
        source,
    };
    let (file, found) = open_file(path)?;
    if found < LENGTH_BYTES {
        return Err(invalid(InvalidCheckpoint::Truncated {
            expected: LENGTH_BYTES,
            found,
        }));
    }
    let mut length = [0; size_of::<u64>()];
    file.read_exact_at(&mut length, 0).map_err(failed)?;
    let header_bytes = u64::from_le_bytes(length);
    if header_bytes > MAX_HEADER_BYTES {
        return Err(invalid(InvalidCheckpoint::HeaderTooLarge {
            bytes: header_bytes,
        }));
    }
    let data_begin = LENGTH_BYTES + header_bytes;
    if found < data_begin {
        return Err(invalid(InvalidCheckpoint::Truncated {
            expected: data_begin,
            found,
        }));
    }
    let mut json = vec![0; usize::try_from(header_bytes).expect("the limit fits")];
    file.read_exact_at(&mut json, LENGTH_BYTES)
        .map_err(failed)?;
    let header = header::parse(&json).map_err(invalid)?;
    let expected = data_begin.saturating_add(header.data_bytes);
    if found < expected {
        return Err(invalid(InvalidCheckpoint::Truncated { expected, found }));
    }
    if found > expected {
        return Err(invalid(InvalidCheckpoint::TrailingBytes {
            expected,
            found,
        }));
    }
    Ok((file, header, data_begin))
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
