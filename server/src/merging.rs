//! The straight line, the merge: opens the base, the updates and a candidate, and hands them to the engine.
//!
//! Runs on the compute pool, in the memory that the plan bounds. Invariant: the candidate is complete and durable before it
//! is reported, and the same base, updates and recipe give the same bytes. It publishes nothing.

pub mod manifest;
mod ports;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use fedmerge_common::checkpoint::{
    Checkpoint, CheckpointWriter, ReadCheckpointError, WriteCheckpointError,
};
use fedmerge_common::ids::{ClientId, FederationName, RoundNumber};
use fedmerge_common::update::ModelRef;
use fedmerge_coordinator::UpdateRef;
use fedmerge_merge::{
    Contribution, Control, MergeError, MergePlan, PlanError, Recipe, Resources, TensorExtent,
};

use crate::directory::ServerDirectory;
use crate::files;
use crate::plan::{FederationPlan, Freeze, Weight};
use manifest::{Manifest, MergeStory, MergedUpdate};
pub(crate) use ports::{CopyError, copy_tensor};
use ports::{Sink, Source};

/// What to merge, and how.
#[derive(Debug, Clone)]
pub struct MergeJob {
    /// Where everything is.
    pub directory: ServerDirectory,
    /// The federation.
    pub federation: FederationName,
    /// The round.
    pub round: RoundNumber,
    /// The model the updates start from.
    pub base: ModelRef,
    /// The accepted updates.
    pub updates: BTreeMap<ClientId, UpdateRef>,
    /// The stages of the merge.
    pub recipe: Recipe,
    /// What weighs an update.
    pub weight: Weight,
    /// Tensors that stay as they are.
    pub freeze: Freeze,
    /// The plan's seed.
    pub seed: u64,
    /// What the merge may use.
    pub resources: Resources,
}

/// A merge that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum MergeFailure {
    /// The base cannot be read.
    #[error("the base cannot be read")]
    Base(#[source] ReadCheckpointError),
    /// A client's update cannot be read.
    #[error("the update of {client} cannot be read")]
    Update {
        /// Whose.
        client: ClientId,
        /// Why.
        #[source]
        source: ReadCheckpointError,
    },
    /// A client's update lacks a tensor, though intake found it whole.
    #[error("the update of {client} has no tensor `{tensor}`")]
    Tensor {
        /// Whose.
        client: ClientId,
        /// The tensor.
        tensor: String,
    },
    /// The recipe cannot be run with these updates.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The engine failed.
    #[error("the merge failed")]
    Engine(#[source] MergeError),
    /// A tensor that is not merged cannot be carried over.
    #[error("tensor `{tensor}` cannot be carried over")]
    Carry {
        /// The tensor.
        tensor: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The candidate cannot be written.
    #[error("the candidate cannot be written")]
    Write(#[source] WriteCheckpointError),
    /// A file beside the candidate cannot be written.
    #[error("`{}` cannot be written", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The result is useless.
    #[error("{count} values of the merged model are not finite")]
    NonFinite {
        /// How many.
        count: u64,
    },
}

/// A candidate: a complete model that is not published.
#[derive(Debug, Clone, PartialEq)]
pub struct Merged {
    /// The candidate.
    pub candidate: ModelRef,
    /// How it came about.
    pub story: MergeStory,
}

/// An update in its place in the order of summation.
#[derive(Debug)]
pub(crate) struct Ordered {
    pub(crate) client: ClientId,
    pub(crate) update: UpdateRef,
}

/// Merges the updates of a round into a candidate.
///
/// # Errors
/// When a file cannot be read or written, the recipe cannot be run, or the result is not finite.
pub fn merge(job: &MergeJob, cancelled: &AtomicBool) -> Result<Merged, MergeFailure> {
    let parent = job.directory.model(job.base.version);
    let base = open_base(&parent)?;
    let (merged, carried) = split(&base, &job.freeze);
    let ordered = in_order(&job.updates);
    let names = names(&base, &merged);
    let updates = open_updates(job, &ordered)?;
    let sources = sources(&updates, &ordered, &names)?;
    let candidate = job.directory.candidate(job.round);
    files::make_empty_directory(&candidate).map_err(|source| file(&candidate, source))?;
    let target = candidate.join(files::MODEL);
    let writer = CheckpointWriter::create(&target, base.schema(), base.metadata())
        .map_err(MergeFailure::Write)?;
    for position in carried {
        carry_over(&base, &writer, position)?;
    }
    let report = fedmerge_merge::merge(
        &plan(job, &base, &merged)?,
        &Source::at(&base, &merged),
        &contributions(job.weight, &ordered, &sources),
        &Sink {
            writer: &writer,
            positions: &merged,
        },
        &Control {
            cancelled,
            progress: &|_| {},
        },
    )
    .map_err(MergeFailure::Engine)?;
    if report.non_finite > 0 {
        let count = report.non_finite;
        return Err(MergeFailure::NonFinite { count });
    }
    let written = writer.finish().map_err(MergeFailure::Write)?;
    let story = MergeStory {
        round: job.round,
        parent: job.base.digest,
        recipe: manifest::recipe_in_words(&job.recipe),
        seed: job.seed,
        step_norm: report.step_norm,
        updates: MergedUpdate::list(&ordered, &report),
    };
    let merged = Merged {
        candidate: ModelRef {
            version: job.base.version.next(),
            digest: written.digest,
            size_bytes: written.bytes,
        },
        story,
    };
    complete(job, &parent, &candidate, &merged)?;
    Ok(merged)
}

/// What a round's plan allows a merge of so many updates to use; checked before the federation begins.
///
/// # Errors
/// When the recipe cannot be run with so many updates, or not within the memory.
pub fn check(
    plan: &FederationPlan,
    base: &Checkpoint,
    updates: usize,
    resources: Resources,
) -> Result<MergePlan, PlanError> {
    let (merged, _carried) = split(base, &plan.freeze);
    let extents = extents(base, &merged);
    MergePlan::new(plan.recipe.clone(), extents, updates, resources)
}

fn open_base(directory: &Path) -> Result<Checkpoint, MergeFailure> {
    Checkpoint::open(&directory.join(files::MODEL)).map_err(MergeFailure::Base)
}

/// The positions of the tensors that are merged, and of those that are carried over as they are.
fn split(base: &Checkpoint, freeze: &Freeze) -> (Vec<usize>, Vec<usize>) {
    let tensors = base.schema().tensors();
    (0..tensors.len()).partition(|&position| {
        let tensor = &tensors[position];
        tensor.is_mergeable() && !freeze.matches(tensor.name())
    })
}

/// By digest, then client: the order of summation does not know who came first.
fn in_order(updates: &BTreeMap<ClientId, UpdateRef>) -> Vec<Ordered> {
    let pairs = updates.iter().map(|(client, update)| Ordered {
        client: client.clone(),
        update: update.clone(),
    });
    let mut ordered: Vec<Ordered> = pairs.collect();
    ordered.sort_by(|left, right| {
        (&left.update.payload, &left.client).cmp(&(&right.update.payload, &right.client))
    });
    ordered
}

fn names(base: &Checkpoint, merged: &[usize]) -> Vec<String> {
    let tensors = base.schema().tensors();
    merged
        .iter()
        .map(|&position| tensors[position].name().to_owned())
        .collect()
}

fn extents(base: &Checkpoint, merged: &[usize]) -> Vec<TensorExtent> {
    let tensors = base.schema().tensors();
    merged
        .iter()
        .map(|&position| TensorExtent::new(tensors[position].name(), tensors[position].elements()))
        .collect()
}

fn plan(job: &MergeJob, base: &Checkpoint, merged: &[usize]) -> Result<MergePlan, MergeFailure> {
    let plan = MergePlan::new(
        job.recipe.clone(),
        extents(base, merged),
        job.updates.len(),
        job.resources,
    )?;
    tracing::info!(
        round = job.round.get(),
        method = job.recipe.method.name(),
        bytes = plan.peak_bytes(),
        "merge planned"
    );
    Ok(plan)
}

fn open_updates(job: &MergeJob, ordered: &[Ordered]) -> Result<Vec<Checkpoint>, MergeFailure> {
    let open = |Ordered { client, update }: &Ordered| {
        let path = files::update(&job.directory, job.round, client, &update.payload);
        Checkpoint::open(&path).map_err(|source| MergeFailure::Update {
            client: client.clone(),
            source,
        })
    };
    ordered.iter().map(open).collect()
}

fn sources<'a>(
    updates: &'a [Checkpoint],
    ordered: &[Ordered],
    names: &[String],
) -> Result<Vec<Source<'a>>, MergeFailure> {
    let pairs = updates.iter().zip(ordered);
    pairs
        .map(|(checkpoint, Ordered { client, .. })| {
            Source::new(checkpoint, names).map_err(|tensor| MergeFailure::Tensor {
                client: client.clone(),
                tensor,
            })
        })
        .collect()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "weights are ratios, and intake bounds the counts"
)]
fn contributions<'a>(
    weight: Weight,
    ordered: &[Ordered],
    sources: &'a [Source<'a>],
) -> Vec<Contribution<'a>> {
    let pairs = ordered.iter().zip(sources);
    pairs
        .map(|(ordered, source)| Contribution {
            source,
            weight: match weight {
                Weight::Examples => ordered.update.num_examples as f64,
                Weight::Uniform => 1.0,
            },
        })
        .collect()
}

fn carry_over(
    base: &Checkpoint,
    writer: &CheckpointWriter,
    position: usize,
) -> Result<(), MergeFailure> {
    copy_tensor(base, writer, position).map_err(|error| {
        let source: Box<dyn std::error::Error + Send + Sync> = match error {
            CopyError::Read(error) => Box::new(error),
            CopyError::Write(error) => Box::new(error),
        };
        let tensor = base.schema().tensors()[position].name().to_owned();
        MergeFailure::Carry { tensor, source }
    })
}

/// Puts the manifest and the base's companion files beside the candidate's tensors.
fn complete(
    job: &MergeJob,
    parent: &Path,
    candidate: &Path,
    merged: &Merged,
) -> Result<(), MergeFailure> {
    files::copy_companions(parent, candidate).map_err(|source| file(candidate, source))?;
    let manifest = Manifest {
        format: manifest::FORMAT,
        federation: job.federation.clone(),
        version: merged.candidate.version,
        digest: merged.candidate.digest,
        size_bytes: merged.candidate.size_bytes,
        merge: Some(merged.story.clone()),
    };
    let path = candidate.join(files::MANIFEST);
    files::write_json(&path, &manifest).map_err(|source| file(&path, source))
}

fn file(path: &Path, source: io::Error) -> MergeFailure {
    MergeFailure::File {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
