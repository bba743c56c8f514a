//! The checkpoints that a merge reads, opened and compared before anything is written.
//!
//! Invariant: every model has exactly the base's tensors, in the base's shapes; types may differ among those that are merged.
//! The first difference is named with its model and tensor.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fedmerge_common::checkpoint::Checkpoint;
use fedmerge_common::schema::{DtypeRule, Schema, TensorSpec};
use fedmerge_merge::TensorExtent;

use super::MergeCheckpointsError;
use super::source::{BaseBlocks, ModelSource, Positions};
use crate::plan::Freeze;
use crate::plan::recipe::{MergeRecipe, ModelKind};

/// An open model and its place in the recipe.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) name: String,
    pub(super) kind: ModelKind,
    pub(super) checkpoint: Checkpoint,
    /// Where its merged tensors are.
    positions: Positions,
}

/// Everything that a merge reads.
#[derive(Debug)]
pub(super) struct Inputs {
    pub(super) base: Checkpoint,
    pub(super) models: Vec<Model>,
    /// Positions in the base of the tensors that are merged, by the engine's number.
    pub(super) merged: Positions,
    /// Positions in the base of the tensors that are taken from it as they are.
    pub(super) carried: Vec<usize>,
}

impl Inputs {
    /// Opens the checkpoints that a recipe names, and compares them.
    ///
    /// # Errors
    /// When one cannot be read, or is not of the base's kind.
    pub(super) fn open(recipe: &MergeRecipe) -> Result<Self, MergeCheckpointsError> {
        let base =
            Checkpoint::open(&recipe.base).map_err(|source| MergeCheckpointsError::Base {
                source: Box::new(source),
            })?;
        let (merged, carried) = split(base.schema(), &recipe.freeze);
        let mut models = Vec::with_capacity(recipe.models.len());
        for entry in &recipe.models {
            let checkpoint =
                Checkpoint::open(&entry.path).map_err(|source| MergeCheckpointsError::Model {
                    model: entry.name.clone(),
                    source: Box::new(source),
                })?;
            let positions = match entry.kind {
                ModelKind::FineTuned => {
                    compare(&entry.name, base.schema(), checkpoint.schema())?;
                    Arc::clone(&merged)
                }
                ModelKind::TaskVector => {
                    compare(&entry.name, &mergeable(base.schema()), checkpoint.schema())?;
                    found(&base, &merged, checkpoint.schema())
                }
            };
            models.push(Model {
                name: entry.name.clone(),
                kind: entry.kind,
                checkpoint,
                positions,
            });
        }
        Ok(Self {
            base,
            models,
            merged,
            carried,
        })
    }

    /// The tensors that are merged, as the engine sees them.
    pub(super) fn extents(&self) -> Vec<TensorExtent> {
        let tensors = self.base.schema().tensors();
        self.merged
            .iter()
            .map(|&position| {
                let tensor = &tensors[position];
                let row = tensor.shape().last().copied().unwrap_or(1);
                TensorExtent::new(tensor.name(), tensor.elements()).in_rows_of(row)
            })
            .collect()
    }

    /// Values of the tensors that are merged.
    pub(super) fn merged_values(&self) -> u64 {
        let tensors = self.base.schema().tensors();
        self.merged
            .iter()
            .map(|&position| tensors[position].elements() as u64)
            .sum()
    }

    /// The models as task vectors.
    pub(super) fn sources(&self) -> Vec<ModelSource<'_>> {
        let blocks = BaseBlocks::new(&self.base, &self.merged);
        self.models
            .iter()
            .map(|model| {
                let (checkpoint, positions) = (&model.checkpoint, &model.positions[..]);
                match model.kind {
                    ModelKind::FineTuned => ModelSource::difference(checkpoint, blocks),
                    ModelKind::TaskVector => ModelSource::task_vector(checkpoint, positions),
                }
            })
            .collect()
    }

    /// Every file that is read.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.checkpoints().flat_map(Checkpoint::files)
    }

    /// Refuses to go on when a file is not what it was when it was opened.
    pub(super) fn check_unchanged(&self) -> Result<(), MergeCheckpointsError> {
        match self.checkpoints().find_map(Checkpoint::changed_file) {
            Some(path) => Err(MergeCheckpointsError::Changed {
                path: path.to_owned(),
            }),
            None => Ok(()),
        }
    }

    /// Bytes of tensors that were read so far.
    pub(super) fn bytes_read(&self) -> u64 {
        self.checkpoints().map(Checkpoint::bytes_read).sum()
    }

    fn checkpoints(&self) -> impl Iterator<Item = &Checkpoint> {
        let models = self.models.iter().map(|model| &model.checkpoint);
        std::iter::once(&self.base).chain(models)
    }
}

/// Every path that a recipe reads, itself included.
pub(super) fn paths(recipe: &MergeRecipe) -> Vec<PathBuf> {
    let models = recipe.models.iter().map(|model| model.path.clone());
    [recipe.path.clone(), recipe.base.clone()]
        .into_iter()
        .chain(models)
        .collect()
}

/// The positions of the tensors that are merged, and of those that are carried over.
fn split(schema: &Schema, freeze: &Freeze) -> (Positions, Vec<usize>) {
    let tensors = schema.tensors();
    let (merged, carried): (Vec<usize>, Vec<usize>) = (0..tensors.len()).partition(|&position| {
        let tensor = &tensors[position];
        tensor.is_mergeable() && !freeze.matches(tensor.name())
    });
    (merged.into(), carried)
}

/// What a task vector holds of a base.
fn mergeable(base: &Schema) -> Schema {
    let tensors = base.iter().filter(|tensor| tensor.is_mergeable());
    Schema::new(tensors.cloned().collect()).expect("a part of a schema is a schema")
}

/// Where another checkpoint, which was found to have them, has the merged tensors.
fn found(base: &Checkpoint, merged: &[usize], schema: &Schema) -> Positions {
    let tensors = base.schema().tensors();
    let position = |&position: &usize| {
        let name = TensorSpec::name(&tensors[position]);
        schema.index_of(name).expect("the schemas were compared")
    };
    merged.iter().map(position).collect()
}

fn compare(model: &str, expected: &Schema, found: &Schema) -> Result<(), MergeCheckpointsError> {
    match expected.first_difference(found, DtypeRule::AnyFloat) {
        Some(difference) => Err(MergeCheckpointsError::Schema {
            model: model.to_owned(),
            difference,
        }),
        None => Ok(()),
    }
}
