//! What the server's optimizer remembers from merge to merge, on disk: `optimizer.safetensors` beside a model.
//!
//! Tensors `first.NAME` and `second.NAME`, in f32, one of each for a tensor that is merged. Written with the candidate and complete
//! before it is reported. It is part of no digest of a model and goes to no client.

use std::collections::BTreeMap;
use std::path::Path;

use fedmerge_common::checkpoint::{Checkpoint, CheckpointWriter};
use fedmerge_common::dtype::Dtype;
use fedmerge_common::schema::{Schema, SchemaError, TensorSpec};
use fedmerge_merge::{Optimizer, OptimizerRule, OptimizerSinks};

use super::MergeFailure;
use super::manifest::OptimizerStory;
use super::ports::Sink;
use crate::files;

/// Which of the optimizer's averages.
#[derive(Debug, Clone, Copy)]
pub(super) enum Moment {
    /// Of the steps: the velocity.
    First,
    /// Of their squares.
    Second,
}

impl Moment {
    fn name(self, tensor: &str) -> String {
        match self {
            Self::First => format!("first.{tensor}"),
            Self::Second => format!("second.{tensor}"),
        }
    }

    /// The names of its tensors, in the order of the model's.
    pub(super) fn names(self, tensors: &[String]) -> Vec<String> {
        tensors.iter().map(|tensor| self.name(tensor)).collect()
    }
}

/// Whether the optimizer remembers squares.
pub(super) fn has_second(optimizer: &Optimizer) -> bool {
    match optimizer.rule {
        OptimizerRule::Momentum { .. } | OptimizerRule::Nesterov { .. } => false,
        OptimizerRule::Adam(_) | OptimizerRule::Yogi(_) | OptimizerRule::Adagrad(_) => true,
    }
}

/// The memory in the making.
#[derive(Debug)]
pub(super) struct Memory {
    optimizer: Optimizer,
    writer: CheckpointWriter,
    first: Vec<usize>,
    second: Vec<usize>,
}

impl Memory {
    /// Begins the memory that goes with a candidate.
    pub(super) fn create(
        optimizer: Optimizer,
        candidate: &Path,
        base: &Checkpoint,
        names: &[String],
    ) -> Result<Self, MergeFailure> {
        let path = candidate.join(files::OPTIMIZER);
        let (first, second) = (Moment::First.names(names), Moment::Second.names(names));
        let schema = schema(&optimizer, base, names)
            .map_err(|error| MergeFailure::file(&path, std::io::Error::other(error)))?;
        let positions = |names: &[String]| -> Vec<usize> {
            names
                .iter()
                .filter_map(|name| schema.index_of(name))
                .collect()
        };
        let (first, second) = (positions(&first), positions(&second));
        let writer = CheckpointWriter::create(&path, &schema, &BTreeMap::new())
            .map_err(MergeFailure::Write)?;
        Ok(Self {
            optimizer,
            writer,
            first,
            second,
        })
    }

    /// Where the engine writes the averages.
    pub(super) fn sinks(&self) -> MemorySinks<'_> {
        let sink = |positions| Sink::new(&self.writer, positions);
        MemorySinks {
            first: sink(&self.first),
            second: has_second(&self.optimizer).then(|| sink(&self.second)),
        }
    }

    /// Makes the memory durable.
    pub(super) fn finish(self, steps: u64) -> Result<OptimizerStory, MergeFailure> {
        let written = self.writer.finish().map_err(MergeFailure::Write)?;
        Ok(OptimizerStory {
            method: self.optimizer.rule.name().to_owned(),
            steps,
            digest: written.digest,
        })
    }
}

/// Where the engine writes the averages.
#[derive(Debug)]
pub(super) struct MemorySinks<'a> {
    first: Sink<'a>,
    second: Option<Sink<'a>>,
}

impl MemorySinks<'_> {
    /// As the engine takes them.
    pub(super) fn as_engine(&self) -> OptimizerSinks<'_> {
        OptimizerSinks {
            first: &self.first,
            second: self
                .second
                .as_ref()
                .map(|sink| sink as &dyn fedmerge_merge::BlockSink),
        }
    }
}

fn schema(
    optimizer: &Optimizer,
    base: &Checkpoint,
    names: &[String],
) -> Result<Schema, SchemaError> {
    let moments: &[Moment] = if has_second(optimizer) {
        &[Moment::First, Moment::Second]
    } else {
        &[Moment::First]
    };
    let mut specs = Vec::new();
    for name in names {
        let position = base.schema().index_of(name);
        let tensor = &base.schema().tensors()[position.expect("the names are the base's")];
        for moment in moments {
            let shape = tensor.shape().to_vec();
            specs.push(TensorSpec::new(moment.name(name), Dtype::F32, shape)?);
        }
    }
    Schema::new(specs)
}
