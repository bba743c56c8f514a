//! The straight line, the merge: opens the base, the updates and a candidate, and hands them to the engine.
//!
//! Runs on the compute pool, in the memory that the plan bounds. Invariant: the candidate is complete and durable before it
//! is reported, and the same base, updates and recipe give the same bytes. It publishes nothing.

mod diagnostics;
mod failure;
pub mod manifest;
mod optimizer;
mod past;
mod ports;
mod private;
mod updates;
mod words;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use fedmerge_common::checkpoint::{Checkpoint, CheckpointWriter};
use fedmerge_common::digest::Digest;
use fedmerge_common::ids::{ClientId, FederationName, RoundNumber};
use fedmerge_common::task_vector::encoding::index_bytes;
use fedmerge_common::update::ModelRef;
use fedmerge_coordinator::Counted;
use fedmerge_merge::{
    BlockSink, Contribution, Control, Detail, History, Inputs, MergePlan, MergeReport, Outputs,
    PlanError, Recipe, Resources, TensorExtent,
};

use crate::directory::ServerDirectory;
use crate::files;
use crate::plan::{FederationPlan, Freeze, Weight};
use crate::privacy::{NoiseKey, Privacy};
pub use failure::MergeFailure;
use manifest::{Manifest, MergeStory, MergedUpdate};
use optimizer::{Memory, MemorySinks};
use past::{Past, Sources};
pub(crate) use ports::{CopyError, copy_tensor, read_values};
use ports::{Sink, Source};
use updates::Ordered;
pub(crate) use words::recipe_in_words;

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
    pub updates: BTreeMap<ClientId, Counted>,
    /// The stages of the merge.
    pub recipe: Recipe,
    /// What weighs an update.
    pub weight: Weight,
    /// How many times the median weight a client may have.
    pub max_weight: f64,
    /// What clients are promised, and what that cost until now.
    pub privacy: Option<PrivateJob>,
    /// Whom the method trusts, where it trusts someone.
    pub trusted: Option<ClientId>,
    /// Tensors that stay as they are.
    pub freeze: Freeze,
    /// The plan's seed.
    pub seed: u64,
    /// What the merge may use.
    pub resources: Resources,
    /// For how many rounds updates are kept after their round.
    pub keep_updates: u64,
}

/// A merge that keeps a promise of privacy.
#[derive(Debug, Clone)]
pub struct PrivateJob {
    /// The promise.
    pub promise: Privacy,
    /// Where noise comes from.
    pub key: NoiseKey,
    /// Σ 1/z² of the merges before.
    pub spent: f64,
}

/// A candidate: a complete model that is not published.
#[derive(Debug, Clone, PartialEq)]
pub struct Merged {
    /// The candidate.
    pub candidate: ModelRef,
    /// How it came about.
    pub story: MergeStory,
}

/// Merges the updates of a round into a candidate.
///
/// # Errors
/// When a file cannot be read or written, the recipe cannot be run, or the result is not finite.
pub fn merge(job: &MergeJob, cancelled: &AtomicBool) -> Result<Merged, MergeFailure> {
    merge_to(job, &job.directory.candidate(job.round), cancelled)
}

/// Merges into a directory of the caller's choice, which is made anew.
///
/// # Errors
/// As [`merge`].
pub fn merge_to(
    job: &MergeJob,
    candidate: &Path,
    cancelled: &AtomicBool,
) -> Result<Merged, MergeFailure> {
    let parent = job.directory.model(job.base.version);
    let base = open_base(&parent)?;
    let (merged, carried) = split(&base, &job.freeze);
    let names = names(&base, &merged);
    let ordered = updates::in_order(&job.updates);
    let trusted = updates::trusted(job, &ordered)?;
    let updates = updates::open(job, &ordered, base.schema())?;
    let past = Past::open(job, base.schema())?;
    let opened = Opened {
        noise: private::Noises::of(job, &ordered, past.clip_limit()),
        updates: updates::sources(&updates, &ordered, &names),
        past: past.sources(&base, &names),
        base: &base,
        merged: &merged,
        ordered: &ordered,
        trusted,
    };
    files::make_empty_directory(candidate)
        .map_err(|source| MergeFailure::file(candidate, source))?;
    let target = candidate.join(files::MODEL);
    let writer = CheckpointWriter::create(&target, base.schema(), base.metadata())
        .map_err(MergeFailure::Write)?;
    for position in carried {
        carry_over(&base, &writer, position)?;
    }
    let memory = job
        .recipe
        .optimizer
        .map(|optimizer| Memory::create(optimizer, candidate, &base, &names));
    let memory = memory.transpose()?;
    let report = run(job, &opened, &writer, memory.as_ref(), cancelled)?;
    if report.non_finite > 0 {
        let count = report.non_finite;
        return Err(MergeFailure::NonFinite { count });
    }
    let written = writer.finish().map_err(MergeFailure::Write)?;
    let privacy = opened.noise.as_ref().map(private::Noises::story);
    let privacy = privacy.or_else(|| private::by_clients(job));
    let steps = opened.past.steps(&job.recipe).saturating_add(1);
    let memory = memory.map(|memory| memory.finish(steps)).transpose()?;
    let merged = Merged {
        candidate: ModelRef {
            version: job.base.version.next(),
            digest: written.digest,
            size_bytes: written.bytes,
        },
        story: MergeStory {
            round: job.round,
            parent: job.base.digest,
            recipe: words::merge_in_words(job),
            seed: job.seed,
            step_norm: report.step_norm,
            clip_limit: report.clip_limit,
            optimizer: memory,
            updates: MergedUpdate::list(job.round, &ordered, &report),
            diagnostics: diagnostics::told(&report, &ordered),
            privacy,
        },
    };
    complete(job, &parent, candidate, &merged)?;
    Ok(merged)
}

/// Everything that a merge reads, opened.
struct Opened<'a> {
    /// What hides each client, where the server adds it.
    noise: Option<private::Noises>,
    base: &'a Checkpoint,
    /// Positions of the tensors that are merged.
    merged: &'a [usize],
    ordered: &'a [Ordered],
    updates: Vec<Source<'a>>,
    trusted: Option<usize>,
    past: Sources<'a>,
}

/// Hands everything to the engine.
fn run(
    job: &MergeJob,
    opened: &Opened<'_>,
    writer: &CheckpointWriter,
    memory: Option<&Memory>,
    cancelled: &AtomicBool,
) -> Result<MergeReport, MergeFailure> {
    let plan = plan(job, opened)?;
    let weights = updates::weights(job, opened.ordered);
    let updates = opened.ordered.iter().zip(&opened.updates).zip(weights);
    let updates: Vec<_> = updates
        .map(|((ordered, source), weight)| Contribution {
            source,
            weight,
            sparsify: None,
            previous: opened.past.update_of(&ordered.client),
        })
        .collect();
    let memory = memory.map(Memory::sinks);
    let sink = Sink::new(writer, opened.merged);
    let noisy = opened.noise.as_ref().map(|noise| noise.before(&sink));
    let model: &dyn BlockSink = match &noisy {
        Some(noisy) => noisy,
        None => &sink,
    };
    let history = History {
        count_noise: opened
            .noise
            .as_ref()
            .map_or(0.0, private::Noises::of_the_count),
        ..opened.past.history(&job.recipe)
    };
    let report = fedmerge_merge::merge(
        &plan,
        &Inputs {
            base: &Source::at(opened.base, opened.merged),
            updates: &updates,
            trusted: opened.trusted,
            history,
        },
        &Outputs {
            model,
            optimizer: memory.as_ref().map(MemorySinks::as_engine),
        },
        &Control {
            cancelled,
            progress: &|_| {},
        },
    )
    .map_err(|source| MergeFailure::engine(source, opened.ordered))?;
    let report = match &opened.noise {
        // What the engine saw without noise is nobody's to read.
        Some(_) => private::without_secrets(report),
        None => report,
    };
    Ok(MergeReport {
        // The engine knows what no f32 can hold; the types on disk may hold less.
        non_finite: report.non_finite.max(sink.infinite()),
        ..report
    })
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
    let may_be_sparse = plan.encodings.iter().any(|encoding| encoding.is_sparse());
    let resources = if may_be_sparse {
        without(resources, largest_index(base, updates))
    } else {
        resources
    };
    plan_within(resources, &plan.recipe, &extents(base, &merged), updates)
}

/// What knowing where the values of so many sparse updates are takes, and of as many of the round before, bytes.
fn largest_index(base: &Checkpoint, updates: usize) -> u64 {
    let mergeable = base.schema().iter().filter(|tensor| tensor.is_mergeable());
    let each: u64 = mergeable.map(|tensor| index_bytes(tensor.elements())).sum();
    each.saturating_mul(2 * updates as u64)
}

/// What is left for the engine.
fn without(resources: Resources, held_bytes: u64) -> Resources {
    Resources {
        memory_bytes: resources.memory_bytes.saturating_sub(held_bytes),
        ..resources
    }
}

/// A plan with all diagnostics, or without, where they alone do not fit into the memory: they compare every client with every other,
/// and no federation is to be smaller for that.
fn plan_within(
    resources: Resources,
    recipe: &Recipe,
    extents: &[TensorExtent],
    updates: usize,
) -> Result<MergePlan, PlanError> {
    let plan =
        |detail| MergePlan::new(recipe.clone(), extents.to_vec(), updates, resources, detail);
    match plan(Detail::Full) {
        Err(PlanError::MemoryTooSmall { .. }) => plan(Detail::Brief),
        planned => planned,
    }
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
        .map(|&position| {
            let tensor = &tensors[position];
            let row = tensor.shape().last().copied().unwrap_or(1);
            TensorExtent::new(tensor.name(), tensor.elements()).in_rows_of(row)
        })
        .collect()
}

fn plan(job: &MergeJob, opened: &Opened<'_>) -> Result<MergePlan, MergeFailure> {
    let recipe = Recipe {
        seed: seed_of_the_round(job.seed, job.round),
        ..job.recipe.clone()
    };
    let held = opened.updates.iter().map(Source::index_bytes).sum::<u64>();
    let plan = plan_within(
        without(job.resources, held + opened.past.index_bytes()),
        &recipe,
        &extents(opened.base, opened.merged),
        job.updates.len(),
    )?;
    tracing::info!(
        round = job.round.get(),
        method = job.recipe.method_name(),
        bytes = plan.peak_bytes(),
        detail = ?plan.detail(),
        "merge planned"
    );
    Ok(plan)
}

/// Chance is another in each round, and the same when the round's merge is repeated.
fn seed_of_the_round(seed: u64, round: RoundNumber) -> u64 {
    let mut text = seed.to_le_bytes().to_vec();
    text.extend(round.get().to_le_bytes());
    let digest = *Digest::of(&text).as_bytes();
    let (first, _rest) = digest.split_first_chunk().expect("a digest has 32 bytes");
    u64::from_le_bytes(*first)
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
    files::copy_companions(parent, candidate)
        .map_err(|source| MergeFailure::file(candidate, source))?;
    let made = Checkpoint::open(&candidate.join(files::MODEL));
    let tensors = made.and_then(|made| manifest::tensors(&made));
    let tensors = tensors.map_err(MergeFailure::Candidate)?;
    let manifest = Manifest {
        format: manifest::FORMAT,
        federation: job.federation.clone(),
        version: merged.candidate.version,
        digest: merged.candidate.digest,
        size_bytes: merged.candidate.size_bytes,
        tensors,
        rollback: None,
        merge: Some(merged.story.clone()),
    };
    let path = candidate.join(files::MANIFEST);
    files::write_json(&path, &manifest).map_err(|source| MergeFailure::file(&path, source))
}

#[cfg(test)]
mod tests;
