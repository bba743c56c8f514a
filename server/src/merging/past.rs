//! What earlier merges left that a merge looks back to: the step before, the clients' task vectors before, the clip limit and
//! the optimizer's memory.
//!
//! All of it belongs to the base's lineage and is found from its directory, so that a restart, a repetition and a rollback go on
//! from the model they start from. Invariant: what is looked at here does not change while the round is open.

use std::collections::BTreeMap;
use std::path::Path;

use fedmerge_common::checkpoint::Checkpoint;
use fedmerge_common::digest::Digest;
use fedmerge_common::ids::{ClientId, ModelVersion, RoundNumber};
use fedmerge_common::schema::Schema;
use fedmerge_common::task_vector::coded::TaskVector;
use fedmerge_merge::{Before, BlockSource, ClipNorm, History, Optimizer, OptimizerHistory, Recipe};
use serde::Deserialize;

use super::manifest::{self, OptimizerStory};
use super::optimizer::{self, Moment};
use super::ports::{Difference, Source};
use super::{MergeFailure, MergeJob};
use crate::files;

/// What is looked back to of a model's manifest. The rest is passed over unread: of many clients it is long.
#[derive(Debug, Deserialize)]
struct Manifest {
    version: ModelVersion,
    digest: Digest,
    rollback: Option<Origin>,
    merge: Option<Story>,
}

/// Which version had the content of a model that is an older one again.
#[derive(Debug, Deserialize)]
struct Origin {
    origin: ModelVersion,
}

/// What is looked back to of a merge.
#[derive(Debug, Deserialize)]
struct Story {
    round: RoundNumber,
    parent: Digest,
    clip_limit: Option<f64>,
    optimizer: Option<OptimizerStory>,
    updates: Vec<Update>,
}

/// An update that was merged, and the round whose task it answers where that is an earlier one.
#[derive(Debug, Deserialize)]
struct Update {
    client: ClientId,
    digest: Digest,
    task_round: Option<RoundNumber>,
}

/// What earlier merges left.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// How the base came about; nothing for the first.
    story: Option<Story>,
    /// The model that the base was made from.
    grandparent: Option<Checkpoint>,
    /// The task vectors of the round before, of those that were merged.
    updates: BTreeMap<ClientId, TaskVector>,
    /// The optimizer's memory, and the steps that it remembers.
    memory: Option<(Checkpoint, u64)>,
}

impl Past {
    /// Finds what there is.
    ///
    /// # Errors
    /// When something is there and cannot be read.
    pub(super) fn open(job: &MergeJob, base: &Schema) -> Result<Self, MergeFailure> {
        let parent = job.directory.model(job.base.version);
        let Some(manifest) = look_back(&parent)? else {
            return Ok(Self::default());
        };
        let rollback = manifest.rollback.as_ref();
        let origin = rollback.map_or(manifest.version, |rollback| rollback.origin);
        let Some(story) = manifest.merge else {
            return Ok(Self::default());
        };
        Ok(Self {
            grandparent: grandparent(job, origin, &story.parent)?,
            updates: updates_before(job, &story, base),
            memory: match &job.recipe.optimizer {
                Some(optimizer) => memory(&parent, optimizer, &story)?,
                None => None,
            },
            story: Some(story),
        })
    }

    /// Where an adaptive clip has come to.
    pub(super) fn clip_limit(&self) -> Option<f64> {
        self.story.as_ref().and_then(|story| story.clip_limit)
    }

    /// The parts of it that have these tensors, ready to be read.
    pub(super) fn sources<'a>(&'a self, base: &'a Checkpoint, names: &[String]) -> Sources<'a> {
        let before = self.grandparent.as_ref();
        let updates = self.updates.iter();
        let updates = updates.map(|(client, vector)| (client, Source::of(vector, names)));
        let memory = self.memory.as_ref().and_then(|(checkpoint, steps)| {
            // Tensors that were frozen until now have no memory: then there is none at all.
            let first = Source::new(checkpoint, &Moment::First.names(names)).ok()?;
            let second = Source::new(checkpoint, &Moment::Second.names(names)).ok();
            Some((*steps, first, second))
        });
        Sources {
            step: before.and_then(|before| Difference::new(base, before, names).ok()),
            updates: updates.collect(),
            memory,
            clip_limit: self.clip_limit(),
        }
    }
}

/// What earlier merges left, as the engine reads it.
#[derive(Debug)]
pub(super) struct Sources<'a> {
    step: Option<Difference<'a>>,
    updates: BTreeMap<&'a ClientId, Source<'a>>,
    memory: Option<(u64, Source<'a>, Option<Source<'a>>)>,
    clip_limit: Option<f64>,
}

impl Sources<'_> {
    /// The task vector of a client in the round before.
    pub(super) fn update_of(&self, client: &ClientId) -> Option<&dyn BlockSource> {
        let source = self.updates.get(client)?;
        Some(source)
    }

    /// What is kept in memory to read the task vectors, bytes.
    pub(super) fn index_bytes(&self) -> u64 {
        self.updates.values().map(Source::index_bytes).sum()
    }

    /// How many steps the optimizer remembers.
    pub(super) fn steps(&self, recipe: &Recipe) -> u64 {
        self.memory(recipe).map_or(0, |memory| memory.steps)
    }

    /// The optimizer's memory, if it has all that the recipe's optimizer needs.
    fn memory(&self, recipe: &Recipe) -> Option<OptimizerHistory<'_>> {
        let needs_second = optimizer::has_second(recipe.optimizer.as_ref()?);
        let (steps, first, second) = self.memory.as_ref()?;
        let second = second.as_ref().filter(|_| needs_second);
        (second.is_some() == needs_second).then(|| OptimizerHistory {
            steps: *steps,
            first,
            second: second.map(|second| second as &dyn BlockSource),
        })
    }

    /// The engine's history of this recipe.
    pub(super) fn history(&self, recipe: &Recipe) -> History<'_> {
        let is_adaptive = |stage: &Before| {
            matches!(
                stage,
                Before::Clip {
                    norm: ClipNorm::Adaptive { .. }
                }
            )
        };
        History {
            step: self.step.as_ref().map(|step| step as &dyn BlockSource),
            clip_limit: self
                .clip_limit
                .filter(|_| recipe.before.iter().any(is_adaptive)),
            count_noise: 0.0,
            optimizer: self.memory(recipe),
        }
    }
}

/// What a model says about itself; nothing where the file is not there.
fn look_back(model: &Path) -> Result<Option<Manifest>, MergeFailure> {
    let path = model.join(files::MANIFEST);
    manifest::read(model).map_err(|error| MergeFailure::past(&path, error))
}

/// The model that the base was made from, if it is still there: the version before the first with the base's content.
fn grandparent(
    job: &MergeJob,
    origin: ModelVersion,
    digest: &Digest,
) -> Result<Option<Checkpoint>, MergeFailure> {
    let Some(before) = origin.get().checked_sub(1) else {
        return Ok(None);
    };
    let directory = job.directory.model(ModelVersion::new(before));
    if look_back(&directory)?.is_none_or(|manifest| manifest.digest != *digest) {
        return Ok(None);
    }
    let path = directory.join(files::MODEL);
    let checkpoint = Checkpoint::open(&path).map_err(|error| MergeFailure::past(&path, error))?;
    Ok(Some(checkpoint))
}

/// The updates of the round before that are kept. They serve a comparison alone, so one that cannot be read is left out.
fn updates_before(job: &MergeJob, story: &Story, base: &Schema) -> BTreeMap<ClientId, TaskVector> {
    // Where none are kept, those of the last round are being removed at this moment.
    if job.keep_updates == 0 || story.round.next() != job.round {
        return BTreeMap::new();
    }
    let updates = story.updates.iter();
    let kept = updates.filter_map(|update| {
        let path = files::update(
            &job.directory,
            update.task_round.unwrap_or(story.round),
            &update.client,
            &update.digest,
        );
        let vector = TaskVector::open(&path, base).ok()?;
        Some((update.client.clone(), vector))
    });
    kept.collect()
}

/// What the optimizer remembered when it made the base; nothing when it was another one.
fn memory(
    parent: &Path,
    optimizer: &Optimizer,
    story: &Story,
) -> Result<Option<(Checkpoint, u64)>, MergeFailure> {
    let Some(then) = &story.optimizer else {
        return Ok(None);
    };
    let path = parent.join(files::OPTIMIZER);
    if then.method != optimizer.rule.name() || !path.exists() {
        tracing::warn!(
            path = %path.display(),
            then = then.method,
            now = optimizer.rule.name(),
            "the optimizer begins anew"
        );
        return Ok(None);
    }
    let checkpoint = Checkpoint::open(&path).map_err(|error| MergeFailure::past(&path, error))?;
    Ok(Some((checkpoint, then.steps)))
}
