//! Subtracts a base from a fine-tuned checkpoint and encodes the difference, block by block.
//!
//! Memory is two blocks, whatever the model's size. Arithmetic is f32: exact inputs, one rounding by
//! the subtraction and one by the encoding.

use std::collections::BTreeMap;
use std::path::Path;

use crate::checkpoint::{
    Checkpoint, CheckpointWriter, ReadCheckpointError, WriteCheckpointError, WrittenCheckpoint,
};
use crate::schema::{DtypeRule, SchemaDifference, TensorSpec};
use crate::task_vector::Encoding;
use crate::task_vector::header::{FORMAT, FORMAT_KEY, expected_schema};

/// Elements that are read and subtracted at once.
const BLOCK_ELEMENTS: usize = 64 * 1024;

/// A task vector that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum WriteTaskVectorError {
    /// The fine-tuned checkpoint has other tensors than the base.
    #[error("the fine-tuned checkpoint does not fit the base: {0}")]
    SchemaMismatch(SchemaDifference),
    /// The base cannot be read.
    #[error("cannot read the base")]
    Base(#[source] ReadCheckpointError),
    /// The fine-tuned checkpoint cannot be read.
    #[error("cannot read the fine-tuned checkpoint")]
    FineTuned(#[source] ReadCheckpointError),
    /// The task vector cannot be written.
    #[error("cannot write the task vector")]
    Write(#[source] WriteCheckpointError),
}

/// Writes `fine_tuned` − `base` to `out`: mergeable tensors only, in the element type of `encoding`.
///
/// The values are not judged. Tensors that are not mergeable must be there, but are not compared.
///
/// # Errors
/// When the checkpoints differ in a tensor's name, shape or kind (the first difference is named), or a
/// file cannot be read or written.
pub fn write_task_vector(
    base: &Checkpoint,
    fine_tuned: &Checkpoint,
    encoding: Encoding,
    out: &Path,
) -> Result<WrittenCheckpoint, WriteTaskVectorError> {
    if let Some(difference) = base
        .schema()
        .first_difference(fine_tuned.schema(), DtypeRule::AnyFloat)
    {
        return Err(WriteTaskVectorError::SchemaMismatch(difference));
    }
    let schema = expected_schema(base.schema(), encoding);
    let metadata = BTreeMap::from([(FORMAT_KEY.to_owned(), FORMAT.to_owned())]);
    let writer =
        CheckpointWriter::create(out, &schema, &metadata).map_err(WriteTaskVectorError::Write)?;
    // Equal names in equal order: a position in one schema is the same position in the other.
    let mergeable = base
        .schema()
        .iter()
        .enumerate()
        .filter(|(_, tensor)| tensor.is_mergeable());
    for (target, (source, tensor)) in mergeable.enumerate() {
        subtract(base, fine_tuned, source, tensor, |offset, values| {
            writer.write_f32(target, offset, values)
        })?;
    }
    writer.finish().map_err(WriteTaskVectorError::Write)
}

fn subtract(
    base: &Checkpoint,
    fine_tuned: &Checkpoint,
    index: usize,
    tensor: &TensorSpec,
    write: impl Fn(usize, &[f32]) -> Result<(), WriteCheckpointError>,
) -> Result<(), WriteTaskVectorError> {
    let block = BLOCK_ELEMENTS.min(tensor.elements());
    let (mut before, mut after) = (vec![0.0; block], vec![0.0; block]);
    for offset in (0..tensor.elements()).step_by(BLOCK_ELEMENTS) {
        let elements = BLOCK_ELEMENTS.min(tensor.elements() - offset);
        let (before, after) = (&mut before[..elements], &mut after[..elements]);
        base.read_f32(index, offset, before)
            .map_err(WriteTaskVectorError::Base)?;
        fine_tuned
            .read_f32(index, offset, after)
            .map_err(WriteTaskVectorError::FineTuned)?;
        for (after, before) in after.iter_mut().zip(before) {
            *after -= *before;
        }
        write(offset, after).map_err(WriteTaskVectorError::Write)?;
    }
    Ok(())
}
