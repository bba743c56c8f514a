//! The classifier of the built-in trainer: one hidden layer with ReLU, in the tensor names and layout of PyTorch.
//!
//! `hidden.weight [h, d]`, `hidden.bias [h]`, `output.weight [c, h]`, `output.bias [c]`; the sizes are those of the
//! checkpoint. [`Parameters`] are plain numbers on disk and in memory; `Network` is their differentiable form.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Gradients, Tensor, TensorData, activation};
use fedmerge_common::checkpoint::{
    Checkpoint, CheckpointWriter, ReadCheckpointError, WriteCheckpointError, WrittenCheckpoint,
};
use fedmerge_common::dtype::Dtype;
use fedmerge_common::schema::{Schema, TensorSpec};
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};

/// Tensor names, in the order in which [`Parameters`] keeps them.
pub const TENSORS: [&str; 4] = [
    "hidden.weight",
    "hidden.bias",
    "output.weight",
    "output.bias",
];

/// Hidden units of a fresh network.
pub const HIDDEN_UNITS: usize = 64;

/// The most numbers the built-in trainer takes on; larger models have trainers of their own.
const MOST_ELEMENTS: usize = 16 * 1024 * 1024;

/// A checkpoint that is not this network, or cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The file could not be read.
    #[error("read the network in {path}")]
    Read {
        /// The checkpoint.
        path: PathBuf,
        /// What was wrong with it.
        #[source]
        source: ReadCheckpointError,
    },
    /// The file could not be written.
    #[error("write the network to {path}")]
    Write {
        /// The checkpoint.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: WriteCheckpointError,
    },
    /// The checkpoint is another network.
    #[error("{path} is no two-layer classifier: {problem}")]
    Foreign {
        /// The checkpoint.
        path: PathBuf,
        /// The first tensor that does not fit.
        problem: String,
    },
}

/// Layer sizes: features in, hidden units, classes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Features of an example.
    pub inputs: usize,
    /// Units of the hidden layer.
    pub hidden: usize,
    /// Classes.
    pub classes: usize,
}

impl Sizes {
    /// Shapes of the four tensors, in the order of [`TENSORS`].
    pub fn shapes(self) -> [Vec<usize>; 4] {
        let Self {
            inputs,
            hidden,
            classes,
        } = self;
        [
            vec![hidden, inputs],
            vec![hidden],
            vec![classes, hidden],
            vec![classes],
        ]
    }
}

/// The numbers of a network, tensor by tensor in the order of [`TENSORS`].
#[derive(Clone, Debug, PartialEq)]
pub struct Parameters {
    /// Layer sizes, which the lengths below follow.
    pub sizes: Sizes,
    /// Row-major values of each tensor.
    pub values: [Vec<f32>; 4],
}

impl Parameters {
    /// Fresh weights, uniform within ±√(6 / fan-in) for the hidden and ±√(1 / fan-in) for the output layer; biases 0.
    pub fn fresh(sizes: Sizes, seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut uniform = |elements: usize, bound: f32| -> Vec<f32> {
            (0..elements)
                .map(|_| random.random_range(-bound..=bound))
                .collect()
        };
        let Sizes {
            inputs,
            hidden,
            classes,
        } = sizes;
        let values = [
            uniform(hidden * inputs, (6.0 / fan_in(inputs)).sqrt()),
            vec![0.0; hidden],
            uniform(classes * hidden, (1.0 / fan_in(hidden)).sqrt()),
            vec![0.0; classes],
        ];
        Self { sizes, values }
    }

    /// Reads a network; its sizes are those of the tensors.
    ///
    /// # Errors
    /// When the checkpoint cannot be read, or lacks a tensor, has another one, or one of another shape.
    ///
    /// # Panics
    /// Never: every tensor is known to be there before it is read.
    pub fn read(path: &Path) -> Result<Self, NetworkError> {
        let unreadable = |source| NetworkError::Read {
            path: path.to_path_buf(),
            source,
        };
        let file = Checkpoint::open(path).map_err(unreadable)?;
        let sizes = infer_sizes(file.schema()).map_err(|problem| NetworkError::Foreign {
            path: path.to_path_buf(),
            problem,
        })?;
        let shapes = sizes.shapes();
        let mut values: [Vec<f32>; 4] =
            std::array::from_fn(|at| vec![0.0; shapes[at].iter().product()]);
        for (name, values) in TENSORS.iter().zip(&mut values) {
            let index = file
                .schema()
                .index_of(name)
                .expect("the schema was checked above");
            file.read_f32(index, 0, values).map_err(unreadable)?;
        }
        Ok(Self { sizes, values })
    }

    /// Writes the network as F32 safetensors.
    ///
    /// # Errors
    /// When the file cannot be written.
    ///
    /// # Panics
    /// When the lengths of the values are not those of the sizes.
    pub fn write(&self, path: &Path) -> Result<WrittenCheckpoint, NetworkError> {
        let failed = |source| NetworkError::Write {
            path: path.to_path_buf(),
            source,
        };
        let spec = |(name, shape)| {
            TensorSpec::new(name, Dtype::F32, shape).expect("its values are in memory")
        };
        let schema = Schema::new(
            TENSORS
                .into_iter()
                .zip(self.sizes.shapes())
                .map(spec)
                .collect(),
        )
        .expect("four names, each once");
        let file = CheckpointWriter::create(path, &schema, &BTreeMap::new()).map_err(failed)?;
        for (name, values) in TENSORS.iter().zip(&self.values) {
            let index = schema
                .index_of(name)
                .expect("the schema was made of these names");
            file.write_f32(index, 0, values).map_err(failed)?;
        }
        file.finish().map_err(failed)
    }
}

#[expect(clippy::cast_precision_loss, reason = "layer sizes are far below 2^24")]
fn fan_in(units: usize) -> f32 {
    units as f32
}

fn infer_sizes(schema: &Schema) -> Result<Sizes, String> {
    if let Some(other) = schema.iter().find(|spec| !TENSORS.contains(&spec.name())) {
        return Err(format!("unexpected tensor {}", other.name()));
    }
    let shape = |name: &str| -> Result<Vec<usize>, String> {
        let spec = schema
            .get(name)
            .ok_or_else(|| format!("tensor {name} is missing"))?;
        if !spec.is_mergeable() {
            return Err(format!(
                "tensor {name} is {}, expected floats",
                spec.dtype().name()
            ));
        }
        if spec.elements() == 0 || spec.elements() > MOST_ELEMENTS {
            return Err(format!(
                "tensor {name} of shape {:?} is not for the built-in trainer",
                spec.shape()
            ));
        }
        Ok(spec.shape().to_vec())
    };
    let &[hidden, inputs] = shape("hidden.weight")?.as_slice() else {
        return Err("tensor hidden.weight is no matrix".to_owned());
    };
    let &[classes] = shape("output.bias")?.as_slice() else {
        return Err("tensor output.bias is no vector".to_owned());
    };
    let sizes = Sizes {
        inputs,
        hidden,
        classes,
    };
    for (name, expected) in TENSORS.iter().zip(sizes.shapes()) {
        let found = shape(name)?;
        if found != expected {
            return Err(format!(
                "tensor {name} has shape {found:?}, expected {expected:?}"
            ));
        }
    }
    Ok(sizes)
}

/// The network on a device. Weights are [in, out] here, so that a forward pass multiplies without transposing.
#[derive(Clone, Debug)]
pub(super) struct Network {
    sizes: Sizes,
    weights: [Tensor<2>; 2],
    biases: [Tensor<2>; 2],
}

impl Network {
    /// Copies the parameters to a device; on a device with autodiff they are the leaves of the graph.
    pub(super) fn new(parameters: &Parameters, device: &Device) -> Self {
        let Sizes {
            inputs,
            hidden,
            classes,
        } = parameters.sizes;
        let [hidden_weight, hidden_bias, output_weight, output_bias] = &parameters.values;
        let load = |values: &[f32], shape: [usize; 2]| {
            Tensor::<2>::from_data(TensorData::new(values.to_vec(), shape), device)
        };
        Self {
            sizes: parameters.sizes,
            weights: [
                load(&transposed(hidden_weight, inputs), [inputs, hidden]),
                load(&transposed(output_weight, hidden), [hidden, classes]),
            ],
            biases: [
                load(hidden_bias, [1, hidden]),
                load(output_bias, [1, classes]),
            ],
        }
    }

    /// Copies the values back.
    pub(super) fn into_parameters(self) -> Parameters {
        let sizes = self.sizes;
        let values = |tensor: Tensor<2>| -> Vec<f32> {
            tensor
                .into_data()
                .try_into_vec()
                .expect("tensors are made of f32")
        };
        let [hidden_weight, output_weight] = self.weights.map(values);
        let [hidden_bias, output_bias] = self.biases.map(values);
        let hidden_weight = transposed(&hidden_weight, sizes.hidden);
        let output_weight = transposed(&output_weight, sizes.classes);
        Parameters {
            sizes,
            values: [hidden_weight, hidden_bias, output_weight, output_bias],
        }
    }

    /// Logits [n, classes] of examples [n, inputs].
    pub(super) fn forward(&self, examples: Tensor<2>) -> Tensor<2> {
        let hidden = examples.matmul(self.weights[0].clone()) + self.biases[0].clone();
        activation::relu(hidden).matmul(self.weights[1].clone()) + self.biases[1].clone()
    }

    /// The same network as the leaf of a new graph.
    pub(super) fn require_grad(self) -> Self {
        Self {
            sizes: self.sizes,
            weights: self.weights.map(Tensor::require_grad),
            biases: self.biases.map(Tensor::require_grad),
        }
    }

    /// Replaces each tensor by what `update` makes of it, its gradient and its place in [0, 4).
    pub(super) fn updated(
        self,
        gradients: &Gradients,
        mut update: impl FnMut(usize, Tensor<2>, Tensor<2>) -> Tensor<2>,
    ) -> Self {
        let mut at = 0;
        let mut step = |tensor: Tensor<2>| {
            let gradient = tensor
                .grad(gradients)
                .expect("every parameter takes part in the loss");
            let updated = update(at, tensor.inner(), gradient);
            at += 1;
            Tensor::from_inner(updated)
        };
        Self {
            sizes: self.sizes,
            weights: self.weights.map(&mut step),
            biases: self.biases.map(&mut step),
        }
    }
}

/// Rows of `columns` values become columns.
fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    (0..columns)
        .flat_map(|column| values.iter().skip(column).step_by(columns).copied())
        .collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes {
        inputs: 3,
        hidden: 2,
        classes: 4,
    };

    fn write(tensors: &[(&str, Vec<usize>)]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("base.safetensors");
        let specs = tensors
            .iter()
            .map(|(name, shape)| TensorSpec::new(*name, Dtype::F32, shape.clone()).unwrap());
        let schema = Schema::new(specs.collect()).unwrap();
        CheckpointWriter::create(&path, &schema, &BTreeMap::new())
            .unwrap()
            .finish()
            .unwrap();
        (dir, path)
    }

    #[test]
    fn a_network_survives_the_disk_and_the_device() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("base.safetensors");
        let fresh = Parameters::fresh(SIZES, 7);
        let written = fresh.write(&path).unwrap();
        assert_eq!(Parameters::read(&path).unwrap(), fresh);
        assert_eq!(
            Network::new(&fresh, &Device::flex()).into_parameters(),
            fresh
        );
        assert_eq!(fresh.write(&path).unwrap().digest, written.digest);
    }

    #[test]
    fn the_forward_pass_is_that_of_two_pytorch_layers() {
        let sizes = Sizes {
            inputs: 2,
            hidden: 2,
            classes: 1,
        };
        let values = [
            vec![1.0, 2.0, -3.0, 4.0],
            vec![0.5, -0.5],
            vec![10.0, 100.0],
            vec![1.0],
        ];
        let network = Network::new(&Parameters { sizes, values }, &Device::flex());
        let example =
            Tensor::<2>::from_data(TensorData::new(vec![1.0_f32, 0.5], [1, 2]), &Device::flex());
        // hidden = relu([1·1 + 2·0.5 + 0.5, −3·1 + 4·0.5 − 0.5]) = [2.5, 0]
        let logit: f32 = network.forward(example).into_scalar();
        assert!((logit - 26.0).abs() < 1e-6, "{logit}");
    }

    #[test]
    fn a_foreign_checkpoint_is_refused_by_the_tensor_that_does_not_fit() {
        let (_dir, path) = write(&[("lm_head.weight", vec![2, 2])]);
        let error = Parameters::read(&path).unwrap_err().to_string();
        assert!(
            error.ends_with("unexpected tensor lm_head.weight"),
            "{error}"
        );
        let shapes = [vec![2, 3], vec![2], vec![4, 9], vec![4]];
        let (_dir, path) = write(&TENSORS.into_iter().zip(shapes).collect::<Vec<_>>());
        let error = Parameters::read(&path).unwrap_err().to_string();
        assert!(
            error.ends_with("tensor output.weight has shape [4, 9], expected [4, 2]"),
            "{error}"
        );
    }
}
