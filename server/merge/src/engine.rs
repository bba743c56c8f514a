//! Straight line, inside the merge: observe every task vector once, work out factors and weights, then combine block by block.
//!
//! Invariant: work is done in parallel, and what it leaves is folded in a fixed order, so the result does not know how many
//! threads there were. Buffers are allocated once for each lane and never for the model.
//! Must not read a clock, log, or decide whether a merge is wanted.

mod combine;
mod observe;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::block::{BlockError, BlockSink, BlockSource};
use crate::coefficients::clip;
use crate::method::Rule;
use crate::plan::{Block, MergePlan};
use crate::report::{ClientReport, MergeReport};

/// One client's task vector and its weight.
#[derive(Clone, Copy)]
pub struct Contribution<'a> {
    /// The task vector.
    pub source: &'a dyn BlockSource,
    /// Its weight: finite and not negative; only ratios matter.
    pub weight: f64,
}

impl fmt::Debug for Contribution<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Contribution")
            .field("weight", &self.weight)
            .finish_non_exhaustive()
    }
}

/// How a caller follows a merge and stops it.
#[derive(Clone, Copy)]
pub struct Control<'a> {
    /// Set to stop: looked at before each block.
    pub cancelled: &'a AtomicBool,
    /// Called now and then, from the thread that called [`merge`].
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
    pub stage: Stage,
    /// So many of `total`: task vectors while observing, blocks while combining.
    pub done: usize,
    /// All of this pass.
    pub total: usize,
}

/// A pass over the inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Norms and thresholds.
    Observe,
    /// The merged model.
    Combine,
}

/// Why a merge failed. What the sink was given until then is worthless.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// There are not as many task vectors as planned.
    #[error("the merge was planned for {planned} task vectors and got {given}")]
    Contributions {
        /// As planned.
        planned: usize,
        /// As given.
        given: usize,
    },
    /// A weight is no weight.
    #[error(
        "the weight {weight} of task vector {client} is not a finite number that is at least 0"
    )]
    Weight {
        /// Its position among the contributions.
        client: usize,
        /// Its weight.
        weight: f64,
    },
    /// The weights leave nothing to divide by.
    #[error("the weights add up to {total}, which cannot be divided by")]
    Weights {
        /// Their sum.
        total: f64,
    },
    /// A task vector could not be read.
    #[error("task vector {client} could not be read at {offset} of tensor {tensor}")]
    ReadUpdate {
        /// Its position among the contributions.
        client: usize,
        /// The tensor's name.
        tensor: String,
        /// The block's first value.
        offset: usize,
        /// What went wrong.
        #[source]
        source: BlockError,
    },
    /// The base could not be read.
    #[error("the base could not be read at {offset} of tensor {tensor}")]
    ReadBase {
        /// The tensor's name.
        tensor: String,
        /// The block's first value.
        offset: usize,
        /// What went wrong.
        #[source]
        source: BlockError,
    },
    /// The merged model could not be written.
    #[error("the merged model could not be written at {offset} of tensor {tensor}")]
    Write {
        /// The tensor's name.
        tensor: String,
        /// The block's first value.
        offset: usize,
        /// What went wrong.
        #[source]
        source: BlockError,
    },
    /// The caller stopped it.
    #[error("the merge was cancelled")]
    Cancelled,
}

/// What one merge works with.
#[derive(Debug, Clone, Copy)]
struct Run<'a> {
    plan: &'a MergePlan,
    updates: &'a [Contribution<'a>],
    control: &'a Control<'a>,
}

impl Run<'_> {
    fn check_cancelled(&self) -> Result<(), MergeError> {
        if self.control.cancelled.load(Ordering::Relaxed) {
            Err(MergeError::Cancelled)
        } else {
            Ok(())
        }
    }

    fn read_update(&self, client: usize, block: Block, out: &mut [f32]) -> Result<(), MergeError> {
        self.updates[client]
            .source
            .read(block.tensor, block.offset, out)
            .map_err(|source| MergeError::ReadUpdate {
                client,
                tensor: self.plan.tensor_name(block.tensor),
                offset: block.offset,
                source,
            })
    }

    fn report_progress(&self, stage: Stage, done: usize, total: usize) {
        (self.control.progress)(Progress { stage, done, total });
    }
}

/// Merges task vectors into a base and writes the new model to `sink`, on the current rayon pool.
///
/// The order of `updates` decides the order of summation: sort them, to get the same bytes whoever came first.
///
/// # Errors
///
/// When weights make no sense, a block cannot be read or written, or the caller cancels; see [`MergeError`].
pub fn merge(
    plan: &MergePlan,
    base: &dyn BlockSource,
    updates: &[Contribution<'_>],
    sink: &dyn BlockSink,
    control: &Control<'_>,
) -> Result<MergeReport, MergeError> {
    if updates.len() != plan.clients() {
        return Err(MergeError::Contributions {
            planned: plan.clients(),
            given: updates.len(),
        });
    }
    let weights = check_weights(updates)?;
    let run = Run {
        plan,
        updates,
        control,
    };
    let seen = observe::observe(run)?;
    let norms: Vec<f64> = seen.iter().map(|seen| seen.norm).collect();
    let factors = clip::factors(&norms, &plan.recipe().before);
    let stages = combine::Stages {
        rule: Rule::new(plan.recipe().method, &weights),
        seen: &seen,
        factors: &factors,
    };
    let step = combine::combine(run, base, sink, &stages)?;
    let shares = shares(plan, &weights);
    let clients =
        norms
            .iter()
            .zip(&factors)
            .zip(shares)
            .map(|((&norm, &clip_factor), weight_share)| ClientReport {
                norm,
                clip_factor,
                weight_share,
            });
    Ok(MergeReport {
        clients: clients.collect(),
        step_norm: step.squares.sqrt(),
        non_finite: step.non_finite,
    })
}

fn check_weights(updates: &[Contribution<'_>]) -> Result<Vec<f64>, MergeError> {
    for (client, update) in updates.iter().enumerate() {
        let weight = update.weight;
        if !(weight.is_finite() && weight >= 0.0) {
            return Err(MergeError::Weight { client, weight });
        }
    }
    let weights: Vec<f64> = updates.iter().map(|update| update.weight).collect();
    let total: f64 = weights.iter().sum();
    if total.is_normal() {
        Ok(weights)
    } else {
        Err(MergeError::Weights { total })
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of clients are small")]
fn shares(plan: &MergePlan, weights: &[f64]) -> Vec<f64> {
    let total: f64 = weights.iter().sum();
    let equal = 1.0 / weights.len() as f64;
    let is_weighted = plan.recipe().method.is_weighted();
    weights
        .iter()
        .map(|weight| if is_weighted { weight / total } else { equal })
        .collect()
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::float_cmp,
    reason = "a failed test should panic, and exact numbers are meant"
)]
mod tests;
