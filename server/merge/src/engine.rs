//! Straight line, inside the merge: observe what must be known of whole task vectors, decide in the space of their inner products,
//! then combine block by block.
//!
//! Invariant: work is done in parallel, and what it leaves is folded in a fixed order, so the result does not know how many
//! threads there were. Buffers are allocated once for each lane and never for the model.
//! Must not read a clock, log, or decide whether a merge is wanted.

pub(crate) mod bounds;
mod census;
mod combine;
mod correlate;
mod diagnose;
mod drop;
mod error;
mod inputs;
mod load;
mod measure;
mod optimize;
mod rows;
pub(crate) mod schedule;
mod vary;

pub use error::MergeError;
pub use inputs::{
    Contribution, Control, History, Inputs, OptimizerHistory, OptimizerSinks, Outputs, Progress,
};

use std::sync::atomic::{AtomicU64, Ordering};

use crate::block::{BlockSink, BlockSource, Values};
use crate::coefficients::{self, Context, Decision, Needs};
use crate::gram::Gram;
use crate::plan::{Block, MergePlan, Pass};
use crate::recipe::WeightUse;
use crate::report::MergeReport;
use crate::sparsify::Magnitude;

/// What one merge works with.
#[derive(Debug, Clone, Copy)]
struct Run<'a> {
    plan: &'a MergePlan,
    inputs: &'a Inputs<'a>,
    outputs: &'a Outputs<'a>,
    control: &'a Control<'a>,
    values_read: &'a AtomicU64,
}

/// Merges task vectors into a base and writes the new model, on the current rayon pool.
///
/// # Errors
///
/// When weights make no sense, a value is no number, a block cannot be read or written, or the caller cancels; see [`MergeError`].
pub fn merge(
    plan: &MergePlan,
    inputs: &Inputs<'_>,
    outputs: &Outputs<'_>,
    control: &Control<'_>,
) -> Result<MergeReport, MergeError> {
    merge_in::<f32>(plan, inputs, outputs, control)
}

/// The merge in any type of number.
fn merge_in<T: Magnitude>(
    plan: &MergePlan,
    inputs: &Inputs<'_>,
    outputs: &Outputs<'_>,
    control: &Control<'_>,
) -> Result<MergeReport, MergeError> {
    check(plan, inputs)?;
    let run = Run {
        plan,
        inputs,
        outputs,
        control,
        values_read: &AtomicU64::new(0),
    };
    let measured = if plan.passes().contains(&Pass::Measure) {
        Some(measure::measure::<T>(run)?)
    } else {
        None
    };
    let varied = match plan.varies() {
        Some(density) => Some(vary::vary::<T>(run, density)?),
        None => None,
    };
    let seen = match plan.needs() {
        Needs::Gram => Some(correlate::correlate::<T>(run)?),
        Needs::Norms | Needs::Nothing => None,
    };
    let grams = match (&seen, &measured, plan.needs()) {
        (Some(seen), _, _) => seen.grams(),
        (None, Some(measured), Needs::Norms) => measured.grams(run),
        (None, _, _) => Vec::new(),
    };
    let (decisions, clip_limit) = run.decide(&grams);
    let stages = combine::Stages {
        decisions: &decisions,
        measured: measured.as_ref(),
        varied: varied.as_ref(),
        looks: seen.is_none(),
    };
    let step = combine::combine::<T>(run, &stages)?;
    let known = diagnose::Known {
        measured: measured.as_ref(),
        decisions: &decisions,
        seen: seen.as_ref().or(step.seen.as_ref()),
        step: &step,
    };
    Ok(MergeReport {
        clients: known.clients(run),
        step_norm: step.squares.sqrt(),
        non_finite: step.non_finite,
        clip_limit,
        optimizer_steps: run.optimizer_steps(),
        values_read: run.values_read.load(Ordering::Relaxed),
        diagnostics: known.diagnostics(run),
    })
}

/// Refuses inputs that do not fit the plan or have no meaning for its method.
fn check(plan: &MergePlan, inputs: &Inputs<'_>) -> Result<(), MergeError> {
    let updates = inputs.updates;
    if updates.len() != plan.clients() {
        return Err(MergeError::Contributions {
            planned: plan.clients(),
            given: updates.len(),
        });
    }
    let method = plan.recipe().method;
    let uses = method.weight_use();
    let meaning = match uses {
        WeightUse::Ignored | WeightUse::Shares => "it is a share: finite and at least 0",
        WeightUse::Factors => "it must be finite",
    };
    for (client, update) in updates.iter().enumerate() {
        let weight = update.weight;
        if !weight.is_finite() || (weight < 0.0 && uses != WeightUse::Factors) {
            return Err(MergeError::Weight {
                client,
                weight,
                method: plan.recipe().method_name(),
                meaning,
            });
        }
    }
    let total: f64 = updates.iter().map(|update| update.weight).sum();
    if uses == WeightUse::Shares && !total.is_normal() {
        return Err(MergeError::Weights { total });
    }
    let is_named = inputs
        .trusted
        .is_some_and(|trusted| trusted < updates.len());
    if method.needs_trusted() && !is_named {
        return Err(MergeError::NoTrusted {
            method: plan.recipe().method_name(),
        });
    }
    Ok(())
}

impl<'a> Run<'a> {
    /// How many rows have inner products: the clients', and the step before where it is known.
    fn rows(self) -> usize {
        self.plan.clients() + usize::from(self.inputs.history.step.is_some())
    }

    /// The number of this merge's step of the optimizer, from 1; 0 without one.
    fn optimizer_steps(self) -> u64 {
        let history = self.inputs.history.optimizer;
        let before = history.map_or(0, |history| history.steps);
        self.plan
            .recipe()
            .optimizer
            .map_or(0, |_| before.saturating_add(1))
    }

    /// What the space of inner products decides, scope by scope, and the next limit of an adaptive clip. None where every row goes
    /// to the rule as it is.
    fn decide(self, grams: &[Gram]) -> (Vec<Decision>, Option<f64>) {
        let clients = self.plan.clients();
        let context = Context {
            trusted: self.inputs.trusted,
            clip_limit: self.inputs.history.clip_limit,
            count_noise: self.inputs.history.count_noise,
            previous: self.inputs.history.step.map(|_| clients),
        };
        let mut clip_limit = None;
        let decisions = grams
            .iter()
            .map(|gram| {
                let outcome = coefficients::decide(self.plan.recipe(), gram, &context);
                clip_limit = clip_limit.or(outcome.clip_limit);
                outcome.decision
            })
            .collect();
        (decisions, clip_limit)
    }

    fn count(self, block: Block) {
        self.values_read
            .fetch_add(block.len as u64, Ordering::Relaxed);
    }

    fn check_cancelled(self) -> Result<(), MergeError> {
        if self.control.cancelled.load(Ordering::Relaxed) {
            Err(MergeError::Cancelled)
        } else {
            Ok(())
        }
    }

    fn read_update<'b>(
        self,
        client: usize,
        block: Block,
        buffer: &'b mut [f32],
    ) -> Result<Values<'b>, MergeError>
    where
        'a: 'b,
    {
        self.count(block);
        let source = self.inputs.updates[client].source;
        source
            .read(block.tensor, block.offset, block.len, buffer)
            .map_err(|source| MergeError::ReadUpdate {
                client,
                tensor: self.plan.tensor_name(block.tensor),
                offset: block.offset,
                source,
            })
    }

    fn read<'b>(
        self,
        source: &'b dyn BlockSource,
        what: &'static str,
        block: Block,
        buffer: &'b mut [f32],
    ) -> Result<Values<'b>, MergeError> {
        self.count(block);
        source
            .read(block.tensor, block.offset, block.len, buffer)
            .map_err(|source| MergeError::Read {
                what,
                tensor: self.plan.tensor_name(block.tensor),
                offset: block.offset,
                source,
            })
    }

    fn write(
        self,
        sink: &dyn BlockSink,
        what: &'static str,
        block: Block,
        values: &[f64],
    ) -> Result<(), MergeError> {
        sink.write(block.tensor, block.offset, values)
            .map_err(|source| MergeError::Write {
                what,
                tensor: self.plan.tensor_name(block.tensor),
                offset: block.offset,
                source,
            })
    }
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::float_cmp,
    reason = "a failed test should panic, and exact numbers are meant"
)]
mod tests;
