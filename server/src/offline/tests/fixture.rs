//! Small checkpoints, recipes of them, and merges that are run at once.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use fedmerge_common::checkpoint::{Checkpoint, CheckpointWriter};
use fedmerge_common::dtype::Dtype;
use fedmerge_common::schema::{Schema, TensorSpec};
use fedmerge_merge::{Control, Detail};

use super::super::{Existing, FinishedMerge, MergeCheckpointsError, Order, PreparedMerge};
use crate::plan::recipe::MergeRecipe;

/// A tensor and its values, which those of no mergeable type have as bytes.
#[derive(Clone)]
pub(super) struct Tensor {
    name: &'static str,
    dtype: Dtype,
    shape: Vec<usize>,
    pub(super) values: Vec<f32>,
}

impl Tensor {
    /// Values 0, 1, 2 …, up to 100 and again.
    pub(super) fn of(name: &'static str, dtype: Dtype, shape: &[usize]) -> Self {
        let elements = shape.iter().product();
        let values = (0_u8..100).cycle().map(f32::from).take(elements);
        Self {
            name,
            dtype,
            shape: shape.to_vec(),
            values: values.collect(),
        }
    }
}

/// The same with a step added everywhere, in another type where it is merged.
pub(super) fn plus(tensors: &[Tensor], step: f32, dtype: Dtype) -> Vec<Tensor> {
    let tensors = tensors.iter().cloned();
    tensors
        .map(|mut tensor| {
            if tensor.dtype.is_mergeable() {
                tensor.dtype = dtype;
                tensor.values.iter_mut().for_each(|value| *value += step);
            }
            tensor
        })
        .collect()
}

/// The same step everywhere, as a task vector in bf16.
pub(super) fn task_vector(tensors: &[Tensor], step: f32) -> Vec<Tensor> {
    let merged = tensors.iter().filter(|tensor| tensor.dtype.is_mergeable());
    merged
        .cloned()
        .map(|mut tensor| {
            tensor.dtype = Dtype::Bf16;
            tensor.values.fill(step);
            tensor
        })
        .collect()
}

/// A directory with checkpoints and a recipe.
pub(super) struct Place(tempfile::TempDir);

impl Place {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The directory's own path, as errors tell it.
    pub(super) fn root(&self) -> String {
        self.0.path().canonicalize().unwrap().display().to_string()
    }

    /// Writes a checkpoint: a file, or a directory with a configuration.
    pub(super) fn write(&self, name: &str, tensors: &[Tensor]) {
        let path = self.path(name);
        let file = if name.ends_with(".safetensors") {
            path
        } else {
            fs::create_dir(&path).unwrap();
            fs::write(path.join("config.json"), "{}").unwrap();
            path.join("model.safetensors")
        };
        let spec = |tensor: &Tensor| {
            TensorSpec::new(tensor.name, tensor.dtype, tensor.shape.clone()).unwrap()
        };
        let schema = Schema::new(tensors.iter().map(spec).collect()).unwrap();
        let writer = CheckpointWriter::create(&file, &schema, &BTreeMap::new()).unwrap();
        for tensor in tensors {
            let position = schema.index_of(tensor.name).unwrap();
            if tensor.dtype.is_mergeable() {
                writer.write_f32(position, 0, &tensor.values).unwrap();
            } else {
                writer.write_bytes(position, 0, &[7]).unwrap();
            }
        }
        writer.finish().unwrap();
    }

    pub(super) fn open(&self, name: &str) -> Checkpoint {
        Checkpoint::open(&self.path(name)).unwrap()
    }

    pub(super) fn values(&self, name: &str, tensor: &str) -> Vec<f32> {
        let checkpoint = self.open(name);
        let position = checkpoint.schema().index_of(tensor).unwrap();
        let mut values = vec![0.0; checkpoint.schema().tensors()[position].elements()];
        checkpoint.read_f32(position, 0, &mut values).unwrap();
        values
    }

    pub(super) fn bytes(&self, name: &str, tensor: &str) -> Vec<u8> {
        let checkpoint = self.open(name);
        let position = checkpoint.schema().index_of(tensor).unwrap();
        let bytes = checkpoint.schema().tensors()[position].byte_len();
        let mut bytes = vec![0; usize::try_from(bytes).unwrap()];
        checkpoint.read_bytes(position, 0, &mut bytes).unwrap();
        bytes
    }

    /// Everything in the directory, hidden names too.
    pub(super) fn names(&self) -> Vec<String> {
        self.names_in(".")
    }

    pub(super) fn names_in(&self, name: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(name)).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// A merge of models, each given by the lines under its `[[model]]`.
    pub(super) fn merge(&self, merge: &str, models: &[&str]) -> Merge<'_> {
        let models: Vec<_> = models
            .iter()
            .map(|lines| format!("[[model]]\n{lines}\n"))
            .collect();
        Merge {
            place: self,
            base: "base = \"base\"".to_owned(),
            top: String::new(),
            rest: format!("[merge]\n{merge}\n{}", models.concat()),
            order: Order {
                out: PathBuf::new(),
                existing: Existing::Keep,
                max_shard_bytes: 1 << 30,
                threads: 2,
                memory_bytes: 64 << 20,
                detail: Detail::Brief,
            },
            is_cancelled: false,
        }
    }
}

/// A merge to run.
#[derive(Clone)]
pub(super) struct Merge<'a> {
    place: &'a Place,
    base: String,
    top: String,
    rest: String,
    order: Order,
    is_cancelled: bool,
}

impl Merge<'_> {
    pub(super) fn with(&self, change: impl FnOnce(&mut Order)) -> Self {
        let mut merge = self.clone();
        change(&mut merge.order);
        merge
    }

    pub(super) fn with_top(mut self, line: &str) -> Self {
        line.clone_into(&mut self.top);
        self
    }

    pub(super) fn with_base(mut self, line: &str) -> Self {
        line.clone_into(&mut self.base);
        self
    }

    /// The same, interrupted before it begins.
    pub(super) fn cancelled(mut self) -> Self {
        self.is_cancelled = true;
        self
    }

    pub(super) fn prepare(&self, out: &str) -> Result<PreparedMerge, MergeCheckpointsError> {
        let path = self.place.path("recipe.toml");
        let text = format!("{}\n{}\n{}", self.base, self.top, self.rest);
        fs::write(&path, text).unwrap();
        let recipe = MergeRecipe::read(&path).unwrap();
        let order = Order {
            out: self.place.path(out),
            ..self.order.clone()
        };
        PreparedMerge::new(recipe, order)
    }

    pub(super) fn go(
        &self,
        prepared: &PreparedMerge,
    ) -> Result<FinishedMerge, MergeCheckpointsError> {
        prepared.run(&Control {
            cancelled: &AtomicBool::new(self.is_cancelled),
            progress: &|_| {},
        })
    }

    pub(super) fn run(&self, out: &str) -> Result<FinishedMerge, MergeCheckpointsError> {
        self.go(&self.prepare(out)?)
    }
}
