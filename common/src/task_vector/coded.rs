//! Reading a task vector whose tensors are encoded, as if it were plain floats, and telling which of the two a file is.
//!
//! Invariant: an open [`CodedTaskVector`] has the shapes of its base, whatever its file says; each tensor's bytes fit its shape,
//! and those of sparse tensors were read through once. [`CodedTaskVector::verify`] checks the rest. Nothing is unpacked on disk
//! or in memory: a block is decoded when it is read.

use std::path::Path;

use crate::checkpoint::{Checkpoint, HeaderLimits, ReadCheckpointError};
use crate::dtype::Dtype;
use crate::schema::Schema;
use crate::task_vector::encoding::{
    ByteSource, Codec, DecodeError, Density, InvalidEncoding, Reader, Sparsity, row_elements,
};
use crate::task_vector::header::{
    CODED_FORMAT, DENSITY_KEY, ENCODING_KEY, FORMAT, FORMAT_KEY, MASK_SEED_KEY, expected_schema,
};
use crate::task_vector::{Content, Encoding};

/// A file that is no task vector against the base.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvalidTaskVector {
    /// It is marked as something else.
    #[error("the payload is marked as `{found}`, expected `{expected}`")]
    Format {
        /// Its mark.
        found: String,
        /// The mark of what was announced.
        expected: &'static str,
    },
    /// It names no encoding whose tensors are bytes, or another than was announced.
    #[error("the payload is in the encoding `{found}`")]
    Encoding {
        /// What it names.
        found: String,
    },
    /// It does not say which values it keeps, though its encoding needs that, or says that it keeps others than it should.
    #[error("the payload keeps the values of mask `{seed}` at a density of {ppm} ppm")]
    Mask {
        /// What decides which, as it says.
        seed: String,
        /// How many, as it says, millionths.
        ppm: String,
    },
    /// A tensor is none that is merged.
    #[error("tensor `{tensor}` is unexpected")]
    Unexpected {
        /// Its name.
        tensor: String,
    },
    /// A tensor is no row of bytes.
    #[error("tensor `{tensor}` is {found} {shape:?}, expected a row of U8")]
    NoBytes {
        /// Its name.
        tensor: String,
        /// Its type.
        found: Dtype,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A tensor's bytes are no canonical form.
    #[error("tensor `{tensor}` is not in the form of its encoding")]
    Tensor {
        /// Its name.
        tensor: String,
        /// What is wrong.
        source: InvalidEncoding,
    },
}

/// A task vector that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadTaskVectorError {
    /// Its file cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] ReadCheckpointError),
    /// Its file says something else than a task vector.
    #[error(transparent)]
    Invalid(#[from] InvalidTaskVector),
}

impl ReadTaskVectorError {
    fn of(tensor: &str, error: DecodeError) -> Self {
        match error {
            DecodeError::Read(error) => error.into(),
            DecodeError::Invalid(source) => InvalidTaskVector::Tensor {
                tensor: tensor.to_owned(),
                source,
            }
            .into(),
        }
    }
}

/// The bytes of one tensor of a file.
struct TensorBytes<'a> {
    checkpoint: &'a Checkpoint,
    position: usize,
}

impl ByteSource for TensorBytes<'_> {
    fn len(&self) -> u64 {
        self.checkpoint.schema().tensors()[self.position].byte_len()
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<(), ReadCheckpointError> {
        self.checkpoint.read_bytes(self.position, offset, bytes)
    }
}

/// A task vector whose tensors are encoded. They are addressed by their position in [`CodedTaskVector::schema`].
#[derive(Debug)]
pub struct CodedTaskVector {
    checkpoint: Checkpoint,
    encoding: Encoding,
    /// What its file says of the values that it keeps; none where its encoding needs no word of that.
    sparsity: Option<Sparsity>,
    /// What it stands for: the base's mergeable tensors as F32.
    schema: Schema,
    /// By position in `schema`: the position in the file, and its reader; nothing for a tensor that is all zero.
    tensors: Vec<Option<(usize, Reader)>>,
}

impl CodedTaskVector {
    /// Takes a file that is marked as such for a task vector against `base`.
    ///
    /// # Errors
    /// When the mark is another, a tensor is none of the base's, or its bytes do not fit it.
    pub fn of(checkpoint: Checkpoint, base: &Schema) -> Result<Self, ReadTaskVectorError> {
        let metadata = |key| checkpoint.metadata().get(key).cloned().unwrap_or_default();
        let found = metadata(FORMAT_KEY);
        if found != CODED_FORMAT {
            let expected = CODED_FORMAT;
            return Err(InvalidTaskVector::Format { found, expected }.into());
        }
        let found = metadata(ENCODING_KEY);
        let encoding = found.parse::<Encoding>().ok();
        let Some((encoding, Content::Coded(codec))) =
            encoding.map(|encoding| (encoding, encoding.content()))
        else {
            return Err(InvalidTaskVector::Encoding { found }.into());
        };
        let sparsity = match codec {
            Codec::Masked => Some(sparsity(metadata(MASK_SEED_KEY), metadata(DENSITY_KEY))?),
            Codec::Int8 | Codec::TopK | Codec::Ternary | Codec::Sign => None,
        };
        let schema = expected_schema(base, Dtype::F32);
        let mut tensors: Vec<_> = schema.iter().map(|_| None).collect();
        for (position, spec) in checkpoint.schema().iter().enumerate() {
            let tensor = || spec.name().to_owned();
            let Some(place) = schema.index_of(spec.name()) else {
                let tensor = tensor();
                return Err(InvalidTaskVector::Unexpected { tensor }.into());
            };
            if (spec.dtype(), spec.shape().len()) != (Dtype::U8, 1) {
                return Err(InvalidTaskVector::NoBytes {
                    tensor: tensor(),
                    found: spec.dtype(),
                    shape: spec.shape().to_vec(),
                }
                .into());
            }
            let bytes = TensorBytes {
                checkpoint: &checkpoint,
                position,
            };
            let of = &schema.tensors()[place];
            let sparsity = sparsity.map(|sparsity| sparsity.of(of.name()));
            let row = row_elements(of.shape());
            let reader = Reader::open(codec, sparsity, &bytes, of.elements(), row);
            let reader = reader.map_err(|error| ReadTaskVectorError::of(spec.name(), error))?;
            tensors[place] = Some((position, reader));
        }
        Ok(Self {
            checkpoint,
            encoding,
            sparsity,
            schema,
            tensors,
        })
    }

    /// How it is encoded.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Refuses values that were kept by another mask, where a mask decides.
    ///
    /// # Errors
    /// What the file says instead.
    pub fn check_mask(&self, expected: &Sparsity) -> Result<(), InvalidTaskVector> {
        match self.sparsity {
            Some(found) if found != *expected => Err(InvalidTaskVector::Mask {
                seed: found.seed.to_string(),
                ppm: found.density.ppm().to_string(),
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// What it stands for: the base's mergeable tensors as F32.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Its file.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// How much memory knowing where its values are takes, bytes.
    #[must_use]
    pub fn index_bytes(&self) -> u64 {
        let readers = self.tensors.iter().flatten();
        readers.map(|(_, reader)| reader.index_bytes()).sum()
    }

    /// Checks that the file is the canonical form of its values, as far as opening it did not. `go_on` is asked now and then;
    /// once it says no, whatever comes is not checked.
    ///
    /// # Errors
    /// The first tensor that is not, or a file that cannot be read.
    pub fn verify(&self, go_on: &dyn Fn() -> bool) -> Result<(), ReadTaskVectorError> {
        for (spec, (position, reader)) in self.schema.iter().zip(&self.tensors).filter_map(present)
        {
            let verified = reader.verify(&self.bytes(*position), go_on);
            verified.map_err(|error| ReadTaskVectorError::of(spec.name(), error))?;
        }
        Ok(())
    }

    /// Fills `values` with a tensor's elements from `offset` on; those of a tensor that was left out are 0.
    ///
    /// # Errors
    /// When the tensor has fewer, or the file cannot be read.
    ///
    /// # Panics
    /// When `tensor` is not a position in the schema.
    pub fn read_f32(
        &self,
        tensor: usize,
        offset: usize,
        values: &mut [f32],
    ) -> Result<(), ReadTaskVectorError> {
        let spec = &self.schema.tensors()[tensor];
        let end = offset.checked_add(values.len());
        if end.is_none_or(|end| end > spec.elements()) {
            let bytes_of = |elements: usize| (elements as u64).saturating_mul(4);
            return Err(ReadCheckpointError::OutOfRange {
                path: self.checkpoint.path().to_owned(),
                tensor: spec.name().to_owned(),
                offset: bytes_of(offset),
                bytes: bytes_of(values.len()),
                available: spec.byte_len(),
            }
            .into());
        }
        let Some((position, reader)) = &self.tensors[tensor] else {
            values.fill(0.0);
            return Ok(());
        };
        let read = reader.read(&self.bytes(*position), offset, values);
        read.map_err(|error| ReadTaskVectorError::of(spec.name(), error))
    }

    fn bytes(&self, position: usize) -> TensorBytes<'_> {
        TensorBytes {
            checkpoint: &self.checkpoint,
            position,
        }
    }
}

/// What the words of a file say of the values that it keeps.
fn sparsity(seed: String, ppm: String) -> Result<Sparsity, InvalidTaskVector> {
    let density = ppm.parse().ok().and_then(|ppm| Density::from_ppm(ppm).ok());
    // One value, one spelling.
    let density = density.filter(|density| density.ppm().to_string() == ppm);
    match (seed.parse(), density) {
        (Ok(seed), Some(density)) => Ok(Sparsity { density, seed }),
        (Ok(_) | Err(_), _) => Err(InvalidTaskVector::Mask { seed, ppm }),
    }
}

/// A tensor that was not left out.
fn present<S, T>((spec, tensor): (S, &Option<T>)) -> Option<(S, &T)> {
    tensor.as_ref().map(|tensor| (spec, tensor))
}

/// A task vector on disk, in whichever encoding.
#[derive(Debug)]
pub enum TaskVector {
    /// Its tensors are floats.
    Floats(Checkpoint),
    /// Its tensors are encoded.
    Coded(Box<CodedTaskVector>),
}

impl TaskVector {
    /// Opens a file as what it is marked as. A file without a mark, or with one of another program, holds floats.
    ///
    /// # Errors
    /// When the file cannot be read or its encoded tensors do not fit the base's. Floats are not compared with the base.
    pub fn open(path: &Path, base: &Schema) -> Result<Self, ReadTaskVectorError> {
        Self::open_within(path, base, &HeaderLimits::default())
    }

    /// The same, for a reader that accepts less: what strangers send.
    ///
    /// # Errors
    /// Also when the header is over a limit.
    pub fn open_within(
        path: &Path,
        base: &Schema,
        limits: &HeaderLimits,
    ) -> Result<Self, ReadTaskVectorError> {
        let checkpoint = Checkpoint::open_within(path, limits)?;
        let mark = checkpoint.metadata().get(FORMAT_KEY);
        if mark.is_some_and(|mark| mark == CODED_FORMAT) {
            return Ok(Self::Coded(Box::new(CodedTaskVector::of(
                checkpoint, base,
            )?)));
        }
        Ok(Self::Floats(checkpoint))
    }

    /// Refuses another encoding than `announced`.
    ///
    /// # Errors
    /// What the file is marked as instead. Files of other programs lack the mark of floats.
    pub fn check_encoding(&self, announced: Encoding) -> Result<(), InvalidTaskVector> {
        match (self, announced.content()) {
            (Self::Floats(checkpoint), content) => {
                let expected = match content {
                    Content::Floats(_) => FORMAT,
                    Content::Coded(_) => CODED_FORMAT,
                };
                let mark = checkpoint.metadata().get(FORMAT_KEY);
                let found = mark.map_or("", String::as_str);
                let is_plain = found == FORMAT || mark.is_none();
                if expected == FORMAT && is_plain {
                    return Ok(());
                }
                let found = found.to_owned();
                Err(InvalidTaskVector::Format { found, expected })
            }
            (Self::Coded(coded), Content::Coded(_)) if coded.encoding() == announced => Ok(()),
            (Self::Coded(coded), Content::Coded(_)) => {
                let found = coded.encoding().to_string();
                Err(InvalidTaskVector::Encoding { found })
            }
            (Self::Coded(_), Content::Floats(_)) => {
                let (found, expected) = (CODED_FORMAT.to_owned(), FORMAT);
                Err(InvalidTaskVector::Format { found, expected })
            }
        }
    }

    /// Its tensors: the base's mergeable ones.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        match self {
            Self::Floats(checkpoint) => checkpoint.schema(),
            Self::Coded(coded) => coded.schema(),
        }
    }

    /// Fills `values` with a tensor's elements from `offset` on.
    ///
    /// # Errors
    /// When the tensor has fewer, or the file cannot be read.
    ///
    /// # Panics
    /// When `tensor` is not a position in the schema.
    pub fn read_f32(
        &self,
        tensor: usize,
        offset: usize,
        values: &mut [f32],
    ) -> Result<(), ReadTaskVectorError> {
        match self {
            Self::Floats(checkpoint) => Ok(checkpoint.read_f32(tensor, offset, values)?),
            Self::Coded(coded) => coded.read_f32(tensor, offset, values),
        }
    }
}
