//! What the engine reads from and writes to: tensors, taken a block at a time.
//!
//! A block is a run of consecutive values of one tensor. The engine asks for blocks and never for a whole tensor, so a source may be
//! a file, an array or a decoder, and memory does not grow with the model. A source lends its own memory where it has the
//! values, or fills the buffer that the engine brings. Sinks get `f64` and round once, to what they store.
//! Sources and sinks are called from many threads at once, in no promised order, each block of a sink exactly once.

use std::error::Error;
use std::ops::Range;

use half::{bf16, f16};

use crate::kernel::Element;

/// One tensor of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorExtent {
    /// The name, used in errors and reports only.
    pub name: String,
    /// How many values it has, whatever its shape; 0 is allowed and costs nothing.
    pub elements: usize,
    /// How many values a row has: the last dimension, at least 1 unless there are no values.
    pub row_elements: usize,
}

impl TensorExtent {
    /// A tensor of a single row.
    pub fn new(name: impl Into<String>, elements: usize) -> Self {
        Self {
            name: name.into(),
            elements,
            row_elements: elements,
        }
    }

    /// The same tensor in rows of so many values.
    #[must_use]
    pub fn in_rows_of(self, row_elements: usize) -> Self {
        Self {
            row_elements,
            ..self
        }
    }
}

/// The values of a block, as their source has them.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    /// Single precision; [`crate::ABSENT`] marks what was not sent, where the source is sparse.
    F32(&'a [f32]),
    /// IEEE half precision.
    F16(&'a [f16]),
    /// The upper half of single precision.
    Bf16(&'a [bf16]),
    /// Double precision, rounded to single where the merge works in that.
    F64(&'a [f64]),
}

impl Values<'_> {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F16(values) => values.len(),
            Self::Bf16(values) => values.len(),
            Self::F64(values) => values.len(),
        }
    }

    /// Those of a range; of none, where there are none.
    pub(crate) fn part(self, range: Range<usize>) -> Self {
        if self.len() == 0 {
            return self;
        }
        match self {
            Self::F32(values) => Self::F32(&values[range]),
            Self::F16(values) => Self::F16(&values[range]),
            Self::Bf16(values) => Self::Bf16(&values[range]),
            Self::F64(values) => Self::F64(&values[range]),
        }
    }

    /// Widens or rounds to the type that the merge works in.
    pub(crate) fn convert<T: Element>(&self, out: &mut [T]) {
        match self {
            Self::F32(values) => T::from_f32s(values, out),
            Self::F16(values) => T::from_f16s(values, out),
            Self::Bf16(values) => T::from_bf16s(values, out),
            Self::F64(values) => T::from_f64s(values, out),
        }
    }
}

/// A model or task vector that can be read block by block.
pub trait BlockSource: Sync {
    /// The `len` values of tensor number `tensor` from `offset` (in values) on: lent by the source, or put into `buffer`, which has
    /// room for `len` values of up to 32 bits and may be cast.
    ///
    /// Reading the same block again must give the same values: the engine may read its inputs more than once.
    ///
    /// # Errors
    /// When the values cannot be had; the merge then fails and names client, tensor and offset.
    fn read<'a>(
        &'a self,
        tensor: usize,
        offset: usize,
        len: usize,
        buffer: &'a mut [f32],
    ) -> Result<Values<'a>, BlockError>;

    /// Whether coordinates may be absent. Where they are not, nothing looks for them.
    fn is_sparse(&self) -> bool {
        false
    }
}

/// A model that can be written block by block.
pub trait BlockSink: Sync {
    /// Stores `values` as the values of tensor number `tensor` from `offset` (in values) on, rounded once.
    ///
    /// # Errors
    /// When the values cannot be stored; the merge then fails and names tensor and offset.
    fn write(&self, tensor: usize, offset: usize, values: &[f64]) -> Result<(), BlockError>;
}

/// Why a source or a sink could not serve one block.
#[derive(Debug, thiserror::Error)]
#[error("the block could not be transferred")]
pub struct BlockError(#[source] Box<dyn Error + Send + Sync>);

impl BlockError {
    /// Wraps what went wrong underneath; a plain sentence will do.
    pub fn new(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(source.into())
    }
}
