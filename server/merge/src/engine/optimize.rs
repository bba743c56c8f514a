//! What the recipe's optimizer makes of one block of the merged task vector, with the moments that the lineage keeps.

use super::{MergeError, Run};
use crate::optimizer;
use crate::plan::{Block, REDUCTION_UNIT};
use crate::recipe::Optimizer;

/// One thread's room for moments.
#[derive(Debug)]
pub(super) struct Moments {
    optimizer: Optimizer,
    /// The number of this step, from 1.
    step: u64,
    raw: Vec<f32>,
    first: Vec<f64>,
    second: Vec<f64>,
}

impl Moments {
    /// Room for blocks of this length, where the recipe has an optimizer.
    pub(super) fn new(run: Run<'_>) -> Option<Self> {
        let len = REDUCTION_UNIT;
        run.plan.recipe().optimizer.map(|optimizer| Self {
            optimizer,
            step: run.optimizer_steps(),
            raw: vec![0.0; len],
            first: vec![0.0; len],
            second: vec![0.0; len],
        })
    }

    /// What they take, in bytes.
    pub(super) fn bytes() -> usize {
        REDUCTION_UNIT * (size_of::<f32>() + 2 * size_of::<f64>())
    }

    /// Makes a step of a block of the merged task vector, and stores the moments after it.
    pub(super) fn step(
        &mut self,
        run: Run<'_>,
        block: Block,
        merged: &mut [f64],
    ) -> Result<(), MergeError> {
        let (first, second) = (&mut self.first[..block.len], &mut self.second[..block.len]);
        first.fill(0.0);
        second.fill(0.0);
        let Optimizer {
            rule,
            learning_rate,
        } = self.optimizer;
        if let Some(history) = run.inputs.history.optimizer {
            run.read(
                history.first,
                "the optimizer's first moment",
                block,
                &mut self.raw,
            )?
            .convert(first);
            if let Some(source) = history.second {
                run.read(
                    source,
                    "the optimizer's second moment",
                    block,
                    &mut self.raw,
                )?
                .convert(second);
            }
        }
        optimizer::step(rule, learning_rate, self.step, merged, first, second);
        if let Some(sinks) = run.outputs.optimizer {
            run.write(sinks.first, "the optimizer's first moment", block, first)?;
            if let Some(sink) = sinks.second {
                run.write(sink, "the optimizer's second moment", block, second)?;
            }
        }
        Ok(())
    }
}
