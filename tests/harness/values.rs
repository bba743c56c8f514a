//! Tiny models: two tensors whose merge is known by hand.

use std::collections::BTreeMap;
use std::path::Path;

use fedmerge_common::checkpoint::{Checkpoint, CheckpointWriter};
use fedmerge_common::dtype::Dtype;
use fedmerge_common::schema::{Schema, TensorSpec};

/// The values of the two tensors `w` and `b`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Values {
    pub(crate) w: Vec<f32>,
    pub(crate) b: Vec<f32>,
}

impl Values {
    /// The base that most stories start from.
    pub(crate) fn base() -> Self {
        Self {
            w: vec![1.0, -2.0, 3.0, 0.0],
            b: vec![0.5, -0.5],
        }
    }

    /// The same model with `step` added everywhere: a task vector with one value.
    pub(crate) fn plus(&self, step: f32) -> Self {
        let add = |values: &[f32]| values.iter().map(|value| value + step).collect();
        Self {
            w: add(&self.w),
            b: add(&self.b),
        }
    }

    /// Writes the model as a checkpoint.
    pub(crate) fn write(&self, path: &Path) {
        let spec =
            |name, values: &[f32]| TensorSpec::new(name, Dtype::F32, vec![values.len()]).unwrap();
        let schema = Schema::new(vec![spec("b", &self.b), spec("w", &self.w)]).unwrap();
        let writer = CheckpointWriter::create(path, &schema, &BTreeMap::new()).unwrap();
        for (tensor, values) in [&self.b, &self.w].into_iter().enumerate() {
            writer.write_f32(tensor, 0, values).unwrap();
        }
        writer.finish().unwrap();
    }

    /// Reads a model of the two tensors.
    pub(crate) fn read(path: &Path) -> Self {
        let checkpoint = Checkpoint::open(path).unwrap();
        let read = |name: &str| {
            let mut tensors = checkpoint.schema().iter().enumerate();
            let (tensor, spec) = tensors.find(|(_, spec)| spec.name() == name).unwrap();
            let mut values = vec![0.0; spec.elements()];
            checkpoint.read_f32(tensor, 0, &mut values).unwrap();
            values
        };
        Self {
            w: read("w"),
            b: read("b"),
        }
    }
}

#[test]
fn a_tiny_model_is_read_as_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    Values::base().plus(0.25).write(&path);
    assert_eq!(
        Values::read(&path),
        Values {
            w: vec![1.25, -1.75, 3.25, 0.25],
            b: vec![0.75, -0.25]
        }
    );
}
