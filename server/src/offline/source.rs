//! Checkpoints on disk as the engine sees them: task vectors to read, and the merged model to write.
//!
//! A fine-tuned checkpoint becomes a task vector when it is read: the base is subtracted in f32, as a client does. Nothing is
//! allocated for a block. Each thread keeps the base's block that it read last, because the engine asks every model
//! for the same block in turn; that memory is [`BaseBlocks::bytes`] for all threads together.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fedmerge_common::checkpoint::{Checkpoint, ReadCheckpointError, ShardedWriter};
use fedmerge_common::dtype::Dtype;
use fedmerge_common::schema::TensorSpec;
use fedmerge_common::task_vector::delta::subtract_base;
use fedmerge_merge::{BlockError, BlockSink, BlockSource, Values};

use crate::merging::read_values;

/// Positions of tensors in a checkpoint, by the engine's number.
pub(super) type Positions = Arc<[usize]>;

/// The base's block that a thread read last.
#[derive(Default)]
struct LastBlock {
    /// Which base, tensor, offset and length; none before the first and after a failed read.
    what: Option<(u64, usize, usize, usize)>,
    values: Vec<f32>,
}

thread_local! {
    static LAST: RefCell<LastBlock> = RefCell::default();
}

/// The blocks of a base, for those who subtract them.
#[derive(Debug, Clone, Copy)]
pub(super) struct BaseBlocks<'a> {
    /// Differs from that of every other base of this process.
    number: u64,
    base: &'a Checkpoint,
    positions: &'a [usize],
}

impl<'a> BaseBlocks<'a> {
    pub(super) fn new(base: &'a Checkpoint, positions: &'a [usize]) -> Self {
        static BASES: AtomicU64 = AtomicU64::new(0);
        Self {
            number: BASES.fetch_add(1, Ordering::Relaxed),
            base,
            positions,
        }
    }

    /// What so many threads keep of the base in blocks of so many values, bytes.
    pub(super) fn bytes(threads: usize, block_len: usize) -> u64 {
        (threads as u64)
            .saturating_mul(block_len as u64)
            .saturating_mul(size_of::<f32>() as u64)
    }

    /// Subtracts a block of the base from `values`.
    fn subtract(
        &self,
        tensor: usize,
        offset: usize,
        values: &mut [f32],
    ) -> Result<(), ReadCheckpointError> {
        let what = Some((self.number, tensor, offset, values.len()));
        LAST.with_borrow_mut(|last| {
            if last.what != what {
                last.what = None;
                last.values.resize(values.len(), 0.0);
                self.base
                    .read_f32(self.positions[tensor], offset, &mut last.values)?;
                last.what = what;
            }
            subtract_base(values, &last.values);
            Ok(())
        })
    }
}

/// Where a task vector comes from.
enum Origin<'a> {
    /// The checkpoint is one.
    TaskVector(&'a [usize]),
    /// It is what is left of the checkpoint without its base.
    Difference(BaseBlocks<'a>),
}

/// A model as the task vector that it is, or that its training made.
pub(super) struct ModelSource<'a> {
    checkpoint: &'a Checkpoint,
    origin: Origin<'a>,
}

impl<'a> ModelSource<'a> {
    /// A checkpoint that is a task vector, with its merged tensors at these positions.
    pub(super) fn task_vector(checkpoint: &'a Checkpoint, positions: &'a [usize]) -> Self {
        Self {
            checkpoint,
            origin: Origin::TaskVector(positions),
        }
    }

    /// A fine-tuned checkpoint whose tensors are the base's.
    pub(super) fn difference(checkpoint: &'a Checkpoint, base: BaseBlocks<'a>) -> Self {
        Self {
            checkpoint,
            origin: Origin::Difference(base),
        }
    }
}

impl fmt::Debug for ModelSource<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ModelSource")
            .field("path", &self.checkpoint.path())
            .finish_non_exhaustive()
    }
}

impl BlockSource for ModelSource<'_> {
    fn read<'a>(
        &'a self,
        tensor: usize,
        offset: usize,
        len: usize,
        buffer: &'a mut [f32],
    ) -> Result<Values<'a>, BlockError> {
        match self.origin {
            Origin::TaskVector(positions) => read_values(
                self.checkpoint,
                positions[tensor],
                offset,
                &mut buffer[..len],
            ),
            Origin::Difference(base) => {
                let values = &mut buffer[..len];
                self.checkpoint
                    .read_f32(base.positions[tensor], offset, values)
                    .and_then(|()| base.subtract(tensor, offset, values))
                    .map_err(BlockError::new)?;
                Ok(Values::F32(values))
            }
        }
    }
}

/// The base, as the engine adds to it.
#[derive(Debug)]
pub(super) struct BaseSource<'a> {
    pub(super) base: &'a Checkpoint,
    pub(super) positions: &'a [usize],
}

impl BlockSource for BaseSource<'_> {
    fn read<'a>(
        &'a self,
        tensor: usize,
        offset: usize,
        len: usize,
        buffer: &'a mut [f32],
    ) -> Result<Values<'a>, BlockError> {
        read_values(
            self.base,
            self.positions[tensor],
            offset,
            &mut buffer[..len],
        )
    }
}

/// A merged tensor that its type cannot hold.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{count} values of tensor `{tensor}` are beyond the largest of {dtype}")]
pub struct BeyondRange {
    /// How many values, in one block of the tensor.
    pub count: usize,
    /// The tensor.
    pub tensor: String,
    /// The type it is written in.
    pub dtype: Dtype,
}

impl BeyondRange {
    /// Refuses a block of a tensor of which so many values became infinite.
    ///
    /// # Errors
    /// When it is not none.
    pub(super) fn check(count: usize, spec: &TensorSpec) -> Result<(), Self> {
        if count == 0 {
            return Ok(());
        }
        Err(Self {
            count,
            tensor: spec.name().to_owned(),
            dtype: spec.dtype(),
        })
    }
}

/// The merged model. Each value is rounded once, to the type of its tensor.
#[derive(Debug)]
pub(super) struct ModelSink<'a> {
    pub(super) writer: &'a ShardedWriter,
    pub(super) positions: &'a [usize],
}

impl BlockSink for ModelSink<'_> {
    fn write(&self, tensor: usize, offset: usize, values: &[f64]) -> Result<(), BlockError> {
        let position = self.positions[tensor];
        let count = self.writer.write_f64(position, offset, values);
        let spec = &self.writer.schema().tensors()[position];
        BeyondRange::check(count.map_err(BlockError::new)?, spec).map_err(BlockError::new)
    }
}
