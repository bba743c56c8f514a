//! What a merge is given and what it leaves: base, task vectors, the lineage's memory, the new model.

use std::fmt;
use std::sync::atomic::AtomicBool;

use crate::block::{BlockSink, BlockSource};
use crate::plan::Pass;
use crate::recipe::SparsifyRule;

/// One client's task vector and its weight.
#[derive(Clone, Copy)]
pub struct Contribution<'a> {
    /// The task vector.
    pub source: &'a dyn BlockSource,
    /// Its weight: finite; what it means, and whether it may be negative, is up to the method.
    pub weight: f64,
    /// Its own numbers for the recipe's sparsifying rule; none: the recipe's.
    pub sparsify: Option<SparsifyRule>,
    /// The same client's task vector in the round before, for the diagnostics.
    pub previous: Option<&'a dyn BlockSource>,
}

impl<'a> Contribution<'a> {
    /// A task vector of this weight, and nothing of its own beside.
    pub fn new(source: &'a dyn BlockSource, weight: f64) -> Self {
        Self {
            source,
            weight,
            sparsify: None,
            previous: None,
        }
    }
}

impl fmt::Debug for Contribution<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Contribution")
            .field("weight", &self.weight)
            .field("sparsify", &self.sparsify)
            .finish_non_exhaustive()
    }
}

/// All that a merge reads.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// The model that the task vectors start from.
    pub base: &'a dyn BlockSource,
    /// The task vectors. Their order decides the order of summation: sort them, to get the same bytes whoever came first.
    pub updates: &'a [Contribution<'a>],
    /// Which of the task vectors is trusted, for the rules that compare with one.
    pub trusted: Option<usize>,
    /// What earlier merges of the same lineage left.
    pub history: History<'a>,
}

impl fmt::Debug for Inputs<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Inputs")
            .field("updates", &self.updates)
            .field("trusted", &self.trusted)
            .finish_non_exhaustive()
    }
}

/// What earlier merges of a lineage left to the next.
#[derive(Clone, Copy, Default)]
pub struct History<'a> {
    /// The step by which the base came about: base − the base before.
    pub step: Option<&'a dyn BlockSource>,
    /// The limit of an adaptive clip, as the last report gave it.
    pub clip_limit: Option<f64>,
    /// What is added to the number of clients that an adaptive clip leaves as they are: 0, or noise that hides a single one.
    pub count_noise: f64,
    /// The optimizer's moments; none: it starts.
    pub optimizer: Option<OptimizerHistory<'a>>,
}

impl fmt::Debug for History<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("History")
            .field("clip_limit", &self.clip_limit)
            .finish_non_exhaustive()
    }
}

/// An optimizer's moments after so many steps.
#[derive(Clone, Copy)]
pub struct OptimizerHistory<'a> {
    /// How many steps it has taken.
    pub steps: u64,
    /// The first moment or velocity.
    pub first: &'a dyn BlockSource,
    /// The second moment, where the rule has one.
    pub second: Option<&'a dyn BlockSource>,
}

impl fmt::Debug for OptimizerHistory<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("OptimizerHistory")
            .field("steps", &self.steps)
            .finish_non_exhaustive()
    }
}

/// All that a merge writes.
#[derive(Clone, Copy)]
pub struct Outputs<'a> {
    /// The new model.
    pub model: &'a dyn BlockSink,
    /// The optimizer's moments after this step, where the recipe has an optimizer.
    pub optimizer: Option<OptimizerSinks<'a>>,
}

impl<'a> Outputs<'a> {
    /// A new model and nothing beside.
    pub fn model(model: &'a dyn BlockSink) -> Self {
        Self {
            model,
            optimizer: None,
        }
    }
}

impl fmt::Debug for Outputs<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Outputs").finish_non_exhaustive()
    }
}

/// Where an optimizer's moments go.
#[derive(Clone, Copy)]
pub struct OptimizerSinks<'a> {
    /// The first moment or velocity.
    pub first: &'a dyn BlockSink,
    /// The second moment, where the rule has one.
    pub second: Option<&'a dyn BlockSink>,
}

impl fmt::Debug for OptimizerSinks<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("OptimizerSinks")
            .finish_non_exhaustive()
    }
}

/// How a caller follows a merge and stops it.
#[derive(Clone, Copy)]
pub struct Control<'a> {
    /// Set to stop: looked at before each run of values.
    pub cancelled: &'a AtomicBool,
    /// Called now and then, by one thread at a time, whichever it is; the merge waits for it.
    pub progress: &'a (dyn Fn(Progress) + Sync),
}

impl fmt::Debug for Control<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Control")
            .field("cancelled", self.cancelled)
            .finish_non_exhaustive()
    }
}

/// How far a merge has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// In which pass over the inputs.
    pub pass: Pass,
    /// So many of `total` pieces of work.
    pub done: usize,
    /// All of this pass.
    pub total: usize,
}
