//! What the engine reads from and writes to: tensors, taken a block at a time.
//!
//! A block is a run of consecutive values of one tensor, as `f32`. The engine asks for blocks and never for a whole
//! tensor, so a source may be a file, an array or a decoder, and memory does not grow with the model.
//! Sources and sinks are called from many threads at once, in no promised order, each block of a sink exactly once.
//! Nothing here knows of files or data types on disk: whoever implements these traits converts to and from `f32`.

use std::error::Error;

/// One tensor of the model: its name and how many values it has, whatever its shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorExtent {
    /// The name, used in errors only.
    pub name: String,
    /// How many values the tensor has; 0 is allowed and costs nothing.
    pub elements: usize,
}

impl TensorExtent {
    /// A tensor of `elements` values.
    pub fn new(name: impl Into<String>, elements: usize) -> Self {
        Self {
            name: name.into(),
            elements,
        }
    }
}

/// A model or task vector that can be read block by block.
pub trait BlockSource: Sync {
    /// Fills `out` with the values of tensor number `tensor` from `offset` (in values) on.
    ///
    /// Reading the same block again must give the same values: the engine reads its inputs more than once.
    ///
    /// # Errors
    /// When the values cannot be had; the merge then fails and names client, tensor and offset.
    fn read(&self, tensor: usize, offset: usize, out: &mut [f32]) -> Result<(), BlockError>;
}

/// A model that can be written block by block.
pub trait BlockSink: Sync {
    /// Stores `values` as the values of tensor number `tensor` from `offset` (in values) on.
    ///
    /// # Errors
    /// When the values cannot be stored; the merge then fails and names tensor and offset.
    fn write(&self, tensor: usize, offset: usize, values: &[f32]) -> Result<(), BlockError>;
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
