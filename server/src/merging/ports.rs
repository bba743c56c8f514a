//! Checkpoints as the merge engine sees them: tensors by number, blocks of f32.
//!
//! The engine numbers the tensors that are merged; each checkpoint has its own positions for them. Memory is one block.

use fedmerge_common::checkpoint::{
    Checkpoint, CheckpointWriter, ReadCheckpointError, WriteCheckpointError,
};
use fedmerge_merge::{BlockError, BlockSink, BlockSource};

/// Bytes of a tensor that is carried over, copied at once.
const COPY_BYTES: u64 = 1024 * 1024;

/// A checkpoint to read from, and where in it each merged tensor is.
#[derive(Debug)]
pub(super) struct Source<'a> {
    checkpoint: &'a Checkpoint,
    /// Position in the checkpoint's schema, by the engine's number.
    positions: Vec<usize>,
}

impl<'a> Source<'a> {
    /// The tensors at these positions of a checkpoint, in that order.
    pub(super) fn at(checkpoint: &'a Checkpoint, positions: &[usize]) -> Self {
        Self {
            checkpoint,
            positions: positions.to_vec(),
        }
    }

    /// The tensors called `names` of a checkpoint, in that order.
    ///
    /// # Errors
    /// The first name that the checkpoint lacks.
    pub(super) fn new(checkpoint: &'a Checkpoint, names: &[String]) -> Result<Self, String> {
        let positions = names
            .iter()
            .map(|name| {
                let position = checkpoint.schema().index_of(name);
                position.ok_or_else(|| name.clone())
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            checkpoint,
            positions,
        })
    }
}

impl BlockSource for Source<'_> {
    fn read(&self, tensor: usize, offset: usize, out: &mut [f32]) -> Result<(), BlockError> {
        self.checkpoint
            .read_f32(self.positions[tensor], offset, out)
            .map_err(BlockError::new)
    }
}

/// The checkpoint that a merge writes.
#[derive(Debug)]
pub(super) struct Sink<'a> {
    pub(super) writer: &'a CheckpointWriter,
    /// Position in the schema, by the engine's number.
    pub(super) positions: &'a [usize],
}

impl BlockSink for Sink<'_> {
    fn write(&self, tensor: usize, offset: usize, values: &[f32]) -> Result<(), BlockError> {
        self.writer
            .write_f32(self.positions[tensor], offset, values)
            .map_err(BlockError::new)
    }
}

/// A tensor that could not be carried over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadCheckpointError),
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] WriteCheckpointError),
}

/// Copies one tensor, byte by byte the same, between checkpoints of one schema.
pub(crate) fn copy_tensor(
    from: &Checkpoint,
    to: &CheckpointWriter,
    position: usize,
) -> Result<(), CopyError> {
    let whole = from.schema().tensors()[position].byte_len();
    let mut buffer = Vec::new();
    let mut offset = 0;
    while offset < whole {
        let length = COPY_BYTES.min(whole - offset);
        buffer.resize(
            usize::try_from(length).expect("a mebibyte can be addressed"),
            0,
        );
        from.read_bytes(position, offset, &mut buffer)?;
        to.write_bytes(position, offset, &buffer)?;
        offset += length;
    }
    Ok(())
}
