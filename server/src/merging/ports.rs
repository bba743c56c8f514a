//! Checkpoints as the merge engine sees them: tensors by number, blocks of values.
//!
//! The engine numbers the tensors that are merged; each checkpoint has its own positions for them. What is read goes into the buffer
//! that the engine brings, as it is on disk; what is written is rounded here, once. Memory is a block for each thread.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};

use fedmerge_common::checkpoint::{
    Checkpoint, CheckpointWriter, Floats, ReadCheckpointError, WriteCheckpointError,
};
use fedmerge_common::schema::Schema;
use fedmerge_common::task_vector::coded::{CodedTaskVector, TaskVector};
use fedmerge_common::task_vector::delta::subtract_base;
use fedmerge_merge::{BlockError, BlockSink, BlockSource, Values};

/// Bytes of a tensor that is carried over, copied at once.
const COPY_BYTES: u64 = 1024 * 1024;

/// What blocks are read from.
#[derive(Debug, Clone, Copy)]
enum Tensors<'a> {
    Floats(&'a Checkpoint),
    Coded(&'a CodedTaskVector),
}

impl<'a> Tensors<'a> {
    fn schema(self) -> &'a Schema {
        match self {
            Self::Floats(checkpoint) => checkpoint.schema(),
            Self::Coded(coded) => coded.schema(),
        }
    }
}

/// A checkpoint or a task vector to read from, and where in it each merged tensor is.
#[derive(Debug)]
pub(super) struct Source<'a> {
    tensors: Tensors<'a>,
    /// Position in its schema, by the engine's number; none for a tensor that is left out, whose values are 0.
    positions: Vec<Option<usize>>,
    /// By what values are multiplied; 1 leaves them as they are.
    factor: f64,
}

impl<'a> Source<'a> {
    /// The tensors at these positions of a checkpoint, in that order.
    pub(super) fn at(checkpoint: &'a Checkpoint, positions: &[usize]) -> Self {
        Self {
            tensors: Tensors::Floats(checkpoint),
            positions: positions.iter().copied().map(Some).collect(),
            factor: 1.0,
        }
    }

    /// The tensors called `names` of a checkpoint, in that order.
    ///
    /// # Errors
    /// The first name that the checkpoint lacks.
    pub(super) fn new(checkpoint: &'a Checkpoint, names: &[String]) -> Result<Self, String> {
        let source = Self::named(Tensors::Floats(checkpoint), names);
        match source.positions.iter().position(Option::is_none) {
            Some(number) => Err(names[number].clone()),
            None => Ok(source),
        }
    }

    /// The tensors called `names` of a task vector, in that order. Those that it lacks are 0.
    pub(super) fn of(vector: &'a TaskVector, names: &[String]) -> Self {
        let tensors = match vector {
            TaskVector::Floats(checkpoint) => Tensors::Floats(checkpoint),
            TaskVector::Coded(coded) => Tensors::Coded(coded),
        };
        Self::named(tensors, names)
    }

    fn named(tensors: Tensors<'a>, names: &[String]) -> Self {
        let schema = tensors.schema();
        Self {
            tensors,
            positions: names.iter().map(|name| schema.index_of(name)).collect(),
            factor: 1.0,
        }
    }

    /// The same, multiplied: each product is rounded once to `f32`.
    pub(super) fn times(self, factor: f64) -> Self {
        Self { factor, ..self }
    }

    /// What is kept in memory to read it, bytes.
    pub(super) fn index_bytes(&self) -> u64 {
        match self.tensors {
            Tensors::Floats(_) => 0,
            Tensors::Coded(coded) => coded.index_bytes(),
        }
    }

    fn elements(&self, number: usize) -> usize {
        let position = self.positions[number];
        position.map_or(0, |position| {
            self.tensors.schema().tensors()[position].elements()
        })
    }

    fn read_f32(&self, number: usize, offset: usize, out: &mut [f32]) -> Result<(), BlockError> {
        let Some(position) = self.positions[number] else {
            out.fill(0.0);
            return Ok(());
        };
        match self.tensors {
            Tensors::Floats(checkpoint) => checkpoint
                .read_f32(position, offset, out)
                .map_err(BlockError::new),
            Tensors::Coded(coded) => coded
                .read_f32(position, offset, out)
                .map_err(BlockError::new),
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the cast rounds to nearest, ties to even"
)]
fn rounded(value: f64) -> f32 {
    value as f32
}

impl BlockSource for Source<'_> {
    fn read<'a>(
        &'a self,
        tensor: usize,
        offset: usize,
        len: usize,
        buffer: &'a mut [f32],
    ) -> Result<Values<'a>, BlockError> {
        let buffer = &mut buffer[..len];
        #[expect(
            clippy::float_cmp,
            reason = "exactly 1 says that nothing is multiplied"
        )]
        let is_as_sent = self.factor == 1.0;
        if let (true, Tensors::Floats(checkpoint), Some(position)) =
            (is_as_sent, self.tensors, self.positions[tensor])
        {
            return read_values(checkpoint, position, offset, buffer);
        }
        self.read_f32(tensor, offset, buffer)?;
        if is_as_sent {
            return Ok(Values::F32(buffer));
        }
        for value in &mut *buffer {
            *value = rounded(f64::from(*value) * self.factor);
        }
        Ok(Values::F32(buffer))
    }
}

/// Fills a buffer with the values of a mergeable tensor in their own type.
///
/// # Errors
/// When they cannot be read.
pub(crate) fn read_values<'a>(
    checkpoint: &Checkpoint,
    position: usize,
    offset: usize,
    buffer: &'a mut [f32],
) -> Result<Values<'a>, BlockError> {
    let floats = checkpoint.read_floats(position, offset, buffer.len(), buffer);
    Ok(match floats.map_err(BlockError::new)? {
        Floats::F32(values) => Values::F32(values),
        Floats::F16(values) => Values::F16(values),
        Floats::Bf16(values) => Values::Bf16(values),
    })
}

/// What one checkpoint is more than another: the step between two models, of the tensors that are merged.
#[derive(Debug)]
pub(super) struct Difference<'a> {
    after: Source<'a>,
    before: Source<'a>,
}

impl<'a> Difference<'a> {
    /// The tensors called `names` of `after`, less those of `before`.
    ///
    /// # Errors
    /// The first name that one of them lacks, or that is of another size in the other.
    pub(super) fn new(
        after: &'a Checkpoint,
        before: &'a Checkpoint,
        names: &[String],
    ) -> Result<Self, String> {
        let (after, before) = (Source::new(after, names)?, Source::new(before, names)?);
        let differs = |&number: &usize| after.elements(number) != before.elements(number);
        match (0..names.len()).find(differs) {
            Some(number) => Err(names[number].clone()),
            None => Ok(Self { after, before }),
        }
    }
}

impl BlockSource for Difference<'_> {
    fn read<'a>(
        &'a self,
        tensor: usize,
        offset: usize,
        len: usize,
        buffer: &'a mut [f32],
    ) -> Result<Values<'a>, BlockError> {
        let values = &mut buffer[..len];
        self.after.read_f32(tensor, offset, values)?;
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.resize(len, 0.0);
            self.before.read_f32(tensor, offset, scratch)?;
            subtract_base(values, scratch);
            Ok::<_, BlockError>(())
        })?;
        Ok(Values::F32(values))
    }
}

thread_local! {
    /// A block of the model before, kept for the next.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// The checkpoint that a merge writes.
#[derive(Debug)]
pub(super) struct Sink<'a> {
    writer: &'a CheckpointWriter,
    /// Position in the schema, by the engine's number.
    positions: &'a [usize],
    infinite: AtomicU64,
}

impl<'a> Sink<'a> {
    /// Writes to the tensors at these positions.
    pub(super) fn new(writer: &'a CheckpointWriter, positions: &'a [usize]) -> Self {
        Self {
            writer,
            positions,
            infinite: AtomicU64::new(0),
        }
    }

    /// Finite values that were too large for the type of their tensor and became infinite.
    pub(super) fn infinite(&self) -> u64 {
        self.infinite.load(Ordering::Relaxed)
    }
}

impl BlockSink for Sink<'_> {
    fn write(&self, tensor: usize, offset: usize, values: &[f64]) -> Result<(), BlockError> {
        let infinite = self
            .writer
            .write_f64(self.positions[tensor], offset, values)
            .map_err(BlockError::new)?;
        self.infinite.fetch_add(infinite as u64, Ordering::Relaxed);
        Ok(())
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
