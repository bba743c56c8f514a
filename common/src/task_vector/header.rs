//! What an encoded task vector must look like: the schema it has, and how it is marked.

use crate::dtype::Dtype;
use crate::schema::Schema;

/// Key of the safetensors metadata that marks a file of ours.
pub const FORMAT_KEY: &str = "fedmerge.format";
/// Value of [`FORMAT_KEY`] in an encoded task vector: the kind and its version.
pub const FORMAT: &str = "task-vector/1";

/// Value of [`FORMAT_KEY`] in a task vector whose tensors are encoded bytes.
pub const CODED_FORMAT: &str = "encoded-task-vector/1";
/// Key of the safetensors metadata that names the encoding of such a file.
pub const ENCODING_KEY: &str = "fedmerge.encoding";
/// Key of the safetensors metadata that says which share of the values of such a file is kept, millionths; of the encoding that needs it.
pub const DENSITY_KEY: &str = "fedmerge.density-ppm";
/// Key of the safetensors metadata that says what decided which; likewise.
pub const MASK_SEED_KEY: &str = "fedmerge.mask-seed";

/// The schema of a task vector against `base`: its mergeable tensors, elements of type `dtype`.
///
/// # Panics
/// Never: names and sizes are those of a schema already.
#[must_use]
pub fn expected_schema(base: &Schema, dtype: Dtype) -> Schema {
    let mergeable = base.iter().filter(|tensor| tensor.is_mergeable());
    Schema::new(mergeable.map(|tensor| tensor.with_dtype(dtype)).collect())
        .expect("names and sizes are those of a schema")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use super::*;
    use crate::schema::TensorSpec;

    #[test]
    fn only_mergeable_tensors_are_in_a_task_vector() {
        let spec = |name, dtype| TensorSpec::new(name, dtype, vec![2, 3]).unwrap();
        let base = Schema::new(vec![
            spec("w", Dtype::F16),
            spec("steps", Dtype::I64),
            spec("b", Dtype::F32),
        ])
        .unwrap();
        let expected = Schema::new(vec![spec("b", Dtype::Bf16), spec("w", Dtype::Bf16)]).unwrap();
        assert_eq!(expected_schema(&base, Dtype::Bf16), expected);
    }
}
