//! Subtracts a base from a fine-tuned checkpoint and writes the difference as floats, block by block.
//!
//! Memory is two blocks, whatever the model's size. Arithmetic is f32: exact inputs, one rounding by
//! the subtraction and one by the element type.

use std::collections::BTreeMap;
use std::path::Path;

use crate::checkpoint::{
    Checkpoint, CheckpointWriter, ReadCheckpointError, WriteCheckpointError, WrittenCheckpoint,
};
use crate::dtype::Dtype;
use crate::schema::{DtypeRule, Schema, SchemaDifference, TensorSpec};
use crate::task_vector::coded::ReadTaskVectorError;
use crate::task_vector::header::{FORMAT, FORMAT_KEY};

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
    /// The residual of earlier rounds cannot be read.
    #[error("cannot read the residual")]
    Residual(#[source] ReadCheckpointError),
    /// A value is NaN or infinite, where the encoding has no way to say so.
    #[error("tensor `{tensor}` differs from the base by {value} at index {index}")]
    NonFinite {
        /// The tensor.
        tensor: String,
        /// Where in it.
        index: usize,
        /// What it is.
        value: f32,
    },
    /// The task vector cannot be written.
    #[error("cannot write the task vector")]
    Write(#[source] WriteCheckpointError),
    /// What was written cannot be read back.
    #[error("cannot read the task vector back")]
    ReadBack(#[source] ReadTaskVectorError),
}

/// Writes `fine_tuned` − `base` to `out`: mergeable tensors only, elements of type `dtype`, which is mergeable. Tensors that did not change are
/// left out, and so are those that `is_withheld`: what is not there is 0.
///
/// The values are not judged. Tensors that are not mergeable must be there, but are not compared.
///
/// # Errors
/// When the checkpoints differ in a tensor's name, shape or kind (the first difference is named), or a
/// file cannot be read or written.
///
/// # Panics
/// Never: names and sizes are those of the base.
pub fn write_task_vector(
    base: &Checkpoint,
    fine_tuned: &Checkpoint,
    dtype: Dtype,
    is_withheld: &dyn Fn(&str) -> bool,
    out: &Path,
) -> Result<WrittenCheckpoint, WriteTaskVectorError> {
    check_schema(base, fine_tuned)?;
    // Equal names in equal order: a position in one schema is the same position in the other.
    let mut changed = Vec::new();
    for (position, tensor) in base.schema().iter().enumerate() {
        let may_be_there = tensor.is_mergeable() && !is_withheld(tensor.name());
        if may_be_there && has_changed(base, fine_tuned, position, tensor)? {
            changed.push((position, tensor));
        }
    }
    let writer = begin(out, dtype, changed.iter().map(|(_, tensor)| *tensor))?;
    for (target, (source, tensor)) in changed.into_iter().enumerate() {
        subtract(base, fine_tuned, source, tensor, |offset, values| {
            let written = writer.write_f32(target, offset, values);
            written.map_err(WriteTaskVectorError::Write)?;
            Ok(true)
        })?;
    }
    writer.finish().map_err(WriteTaskVectorError::Write)
}

/// Refuses a checkpoint with other tensors than the base.
pub(super) fn check_schema(
    base: &Checkpoint,
    fine_tuned: &Checkpoint,
) -> Result<(), WriteTaskVectorError> {
    let rule = DtypeRule::AnyFloat;
    match base.schema().first_difference(fine_tuned.schema(), rule) {
        Some(difference) => Err(WriteTaskVectorError::SchemaMismatch(difference)),
        None => Ok(()),
    }
}

/// The file of a task vector in which these tensors of the base are floats of one type.
pub(super) fn begin<'a>(
    out: &Path,
    dtype: Dtype,
    tensors: impl Iterator<Item = &'a TensorSpec>,
) -> Result<CheckpointWriter, WriteTaskVectorError> {
    let tensors = tensors.map(|tensor| tensor.with_dtype(dtype));
    let schema = Schema::new(tensors.collect()).expect("names and sizes are those of a schema");
    let metadata = BTreeMap::from([(FORMAT_KEY.to_owned(), FORMAT.to_owned())]);
    CheckpointWriter::create(out, &schema, &metadata).map_err(WriteTaskVectorError::Write)
}

/// Whether a tensor differs from the base's anywhere; one that was trained shows it in the first block.
fn has_changed(
    base: &Checkpoint,
    fine_tuned: &Checkpoint,
    index: usize,
    tensor: &TensorSpec,
) -> Result<bool, WriteTaskVectorError> {
    let mut has_changed = false;
    subtract(base, fine_tuned, index, tensor, |_, values| {
        // A NaN is no zero either.
        has_changed = values.iter().any(|value| value.to_bits() << 1 != 0);
        Ok(!has_changed)
    })?;
    Ok(has_changed)
}

/// Makes a task vector of fine-tuned values: one rounding each, in f32.
pub fn subtract_base(fine_tuned: &mut [f32], base: &[f32]) {
    for (value, before) in fine_tuned.iter_mut().zip(base) {
        *value -= *before;
    }
}

/// Shows the differences of a tensor block by block, as long as `see` wants more.
pub(super) fn subtract(
    base: &Checkpoint,
    fine_tuned: &Checkpoint,
    index: usize,
    tensor: &TensorSpec,
    mut see: impl FnMut(usize, &[f32]) -> Result<bool, WriteTaskVectorError>,
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
        subtract_base(after, before);
        if !see(offset, after)? {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::*;
    use crate::task_vector::header::expected_schema;

    type Tensor<'a> = (&'a str, Dtype, &'a [usize], &'a [f32]);

    /// A checkpoint with these tensors; the values of types that are not mergeable stay zero.
    fn checkpoint(directory: &TempDir, file: &str, tensors: &[Tensor<'_>]) -> Checkpoint {
        let specs = tensors
            .iter()
            .map(|(name, dtype, shape, _)| TensorSpec::new(*name, *dtype, shape.to_vec()).unwrap());
        let schema = Schema::new(specs.collect()).unwrap();
        let path = directory.path().join(file);
        let writer = CheckpointWriter::create(&path, &schema, &BTreeMap::new()).unwrap();
        for (name, dtype, _, values) in tensors {
            if dtype.is_mergeable() {
                writer
                    .write_f32(schema.index_of(name).unwrap(), 0, values)
                    .unwrap();
            }
        }
        writer.finish().unwrap();
        Checkpoint::open(&path).unwrap()
    }

    fn out(directory: &TempDir) -> PathBuf {
        directory.path().join("task-vector.safetensors")
    }

    fn values(checkpoint: &Checkpoint, name: &str) -> Vec<f32> {
        let index = checkpoint.schema().index_of(name).unwrap();
        let mut values = vec![0.0; checkpoint.schema().tensors()[index].elements()];
        checkpoint.read_f32(index, 0, &mut values).unwrap();
        values
    }

    #[test]
    fn a_task_vector_is_the_difference_of_the_mergeable_tensors() {
        let directory = TempDir::new().unwrap();
        let base = checkpoint(
            &directory,
            "base",
            &[
                ("b", Dtype::Bf16, &[2], &[1.0, 2.0]),
                ("a", Dtype::I64, &[1], &[]),
                ("w", Dtype::F32, &[], &[0.5]),
            ],
        );
        let tuned = checkpoint(
            &directory,
            "tuned",
            &[
                ("b", Dtype::F32, &[2], &[1.5, 1.0]),
                ("a", Dtype::I64, &[1], &[]),
                ("w", Dtype::F16, &[], &[2.0]),
            ],
        );
        for dtype in [Dtype::F32, Dtype::Bf16] {
            let written =
                write_task_vector(&base, &tuned, dtype, &|_| false, &out(&directory)).unwrap();
            assert_eq!(
                written,
                write_task_vector(&base, &tuned, dtype, &|_| false, &out(&directory)).unwrap()
            );
            let vector = Checkpoint::open(&out(&directory)).unwrap();
            assert_eq!(vector.schema(), &expected_schema(base.schema(), dtype));
            assert_eq!(vector.metadata()[FORMAT_KEY], FORMAT);
            assert_eq!(values(&vector, "b"), [0.5, -1.0]);
            assert_eq!(values(&vector, "w"), [1.5]);
        }
    }

    #[test]
    fn a_tensor_that_did_not_change_is_left_out() {
        let directory = TempDir::new().unwrap();
        let elements = BLOCK_ELEMENTS + 3;
        let frozen = vec![-0.5; elements];
        let mut late = frozen.clone();
        late[elements - 1] = 0.5;
        let base = [
            ("frozen", Dtype::F32, &[elements][..], &frozen[..]),
            ("late", Dtype::F32, &[elements], &frozen),
            ("void", Dtype::F32, &[0], &[]),
        ];
        let tuned = [base[0], ("late", Dtype::F32, &[elements], &late), base[2]];
        let base = checkpoint(&directory, "base", &base);
        let tuned = checkpoint(&directory, "tuned", &tuned);
        write_task_vector(&base, &tuned, Dtype::Bf16, &|_| false, &out(&directory)).unwrap();
        let vector = Checkpoint::open(&out(&directory)).unwrap();
        let names: Vec<_> = vector.schema().iter().map(TensorSpec::name).collect();
        assert_eq!(names, ["late"]);
        assert_eq!(values(&vector, "late").last(), Some(&1.0));
        write_task_vector(&base, &base, Dtype::F32, &|_| false, &out(&directory)).unwrap();
        assert!(
            Checkpoint::open(&out(&directory))
                .unwrap()
                .schema()
                .is_empty()
        );
    }

    #[test]
    fn a_value_that_became_nan_is_no_tensor_that_did_not_change() {
        let directory = TempDir::new().unwrap();
        let base = checkpoint(&directory, "base", &[("w", Dtype::F32, &[2], &[1.0, 2.0])]);
        let nan = [1.0, f32::NAN];
        let tuned = checkpoint(&directory, "tuned", &[("w", Dtype::F32, &[2], &nan)]);
        write_task_vector(&base, &tuned, Dtype::F32, &|_| false, &out(&directory)).unwrap();
        let vector = Checkpoint::open(&out(&directory)).unwrap();
        assert!(values(&vector, "w")[1].is_nan());
    }

    #[test]
    fn a_tensor_larger_than_a_block_is_subtracted_to_its_end() {
        let directory = TempDir::new().unwrap();
        let elements = 2 * BLOCK_ELEMENTS + 3;
        let before = vec![1.0; elements];
        let after: Vec<f32> = (0..1000_u16)
            .cycle()
            .map(f32::from)
            .take(elements)
            .collect();
        let base = checkpoint(
            &directory,
            "base",
            &[("w", Dtype::F32, &[elements], &before)],
        );
        let tuned = checkpoint(
            &directory,
            "tuned",
            &[("w", Dtype::F32, &[elements], &after)],
        );
        write_task_vector(&base, &tuned, Dtype::F32, &|_| false, &out(&directory)).unwrap();
        let expected: Vec<f32> = after.iter().map(|value| value - 1.0).collect();
        assert_eq!(
            values(&Checkpoint::open(&out(&directory)).unwrap(), "w"),
            expected
        );
    }

    #[test]
    fn values_are_not_judged() {
        let directory = TempDir::new().unwrap();
        let base = checkpoint(&directory, "base", &[("w", Dtype::F32, &[2], &[0.0, 0.0])]);
        let tuned = checkpoint(
            &directory,
            "tuned",
            &[("w", Dtype::F32, &[2], &[f32::NAN, f32::INFINITY])],
        );
        write_task_vector(&base, &tuned, Dtype::Bf16, &|_| false, &out(&directory)).unwrap();
        let vector = values(&Checkpoint::open(&out(&directory)).unwrap(), "w");
        assert!(vector[0].is_nan() && vector[1].is_infinite());
    }

    #[test]
    fn the_first_tensor_that_does_not_fit_is_named_and_nothing_is_written() {
        let directory = TempDir::new().unwrap();
        let base: &[Tensor<'_>] = &[
            ("a", Dtype::F32, &[2], &[0.0; 2]),
            ("n", Dtype::I64, &[1], &[]),
        ];
        let base = checkpoint(&directory, "base", base);
        let cases: [(&[Tensor<'_>], &str); 5] = [
            (
                &[("a", Dtype::F32, &[2], &[0.0; 2])],
                "tensor `n` is missing",
            ),
            (&[("n", Dtype::I64, &[1], &[])], "tensor `a` is missing"),
            (
                &[
                    ("a", Dtype::F32, &[2], &[0.0; 2]),
                    ("b", Dtype::F32, &[], &[0.0]),
                    ("n", Dtype::I64, &[1], &[]),
                ],
                "tensor `b` is unexpected",
            ),
            (
                &[
                    ("a", Dtype::F32, &[1, 2], &[0.0; 2]),
                    ("n", Dtype::I64, &[1], &[]),
                ],
                "tensor `a` has shape [1, 2], expected [2]",
            ),
            (
                &[
                    ("a", Dtype::F32, &[2], &[0.0; 2]),
                    ("n", Dtype::F32, &[1], &[0.0]),
                ],
                "tensor `n` is F32, expected I64",
            ),
        ];
        for (tensors, difference) in cases {
            let tuned = checkpoint(&directory, "tuned", tensors);
            let error = write_task_vector(&base, &tuned, Dtype::F32, &|_| false, &out(&directory))
                .unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("the fine-tuned checkpoint does not fit the base: {difference}")
            );
            assert!(!out(&directory).exists());
        }
    }
}
