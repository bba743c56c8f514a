//! The second pass: reads a block of the base and of every client, merges it, writes it.
//!
//! Blocks are worked on in waves, as many at a time as there are lanes; each lane owns its buffers. What a block tells about
//! itself is folded after its wave, in the order of blocks. Order within a block: trim by the raw magnitudes, clip, rule.

use rayon::prelude::*;

use super::observe::Seen;
use super::{MergeError, Run, Stage};
use crate::block::{BlockSink, BlockSource};
use crate::coefficients::clip;
use crate::kernel::sort::Sorter;
use crate::kernel::{Rows, round, sum_of_squares};
use crate::method::Rule;
use crate::plan::{Block, REDUCTION_UNIT};
use crate::sparsify::trim;

/// What is done to each block.
#[derive(Debug)]
pub(super) struct Stages<'a> {
    pub(super) rule: Rule,
    pub(super) seen: &'a [Seen],
    pub(super) factors: &'a [f64],
}

/// What the merge did to the model.
#[derive(Debug, Default)]
pub(super) struct Step {
    pub(super) squares: f64,
    pub(super) non_finite: u64,
}

/// One block's part of the step, its squares still apart by reduction unit.
struct Part {
    squares: Vec<f64>,
    non_finite: u64,
}

/// The buffers of one thread.
struct Lane {
    out: Vec<f32>,
    rows: Vec<f32>,
    merged: Vec<f64>,
    sorter: Option<Sorter>,
}

/// Merges all blocks.
pub(super) fn combine(
    run: Run<'_>,
    base: &dyn BlockSource,
    sink: &dyn BlockSink,
    stages: &Stages<'_>,
) -> Result<Step, MergeError> {
    let plan = run.plan;
    let mut lanes: Vec<Lane> = (0..plan.lanes())
        .map(|_| Lane::new(run, &stages.rule))
        .collect();
    let mut blocks = plan.blocks(0..plan.tensors().len());
    let total = plan.block_count();
    let mut step = Step::default();
    let mut done = 0;
    loop {
        let wave: Vec<Block> = blocks.by_ref().take(lanes.len()).collect();
        run.report_progress(Stage::Combine, done, total);
        if wave.is_empty() {
            return Ok(step);
        }
        done += wave.len();
        let parts: Vec<Result<Part, MergeError>> = lanes
            .par_iter_mut()
            .zip(wave)
            .map(|(lane, block)| lane.merge(run, base, sink, stages, block))
            .collect();
        for part in parts {
            let part = part?;
            step.non_finite += part.non_finite;
            for squares in part.squares {
                step.squares += squares;
            }
        }
    }
}

impl Lane {
    fn new(run: Run<'_>, rule: &Rule) -> Self {
        let (clients, len) = (run.plan.clients(), run.plan.block_len());
        Self {
            out: vec![0.0; len],
            rows: vec![0.0; len * clients],
            merged: vec![0.0; len],
            sorter: rule.sorter(clients),
        }
    }

    fn merge(
        &mut self,
        run: Run<'_>,
        base: &dyn BlockSource,
        sink: &dyn BlockSink,
        stages: &Stages<'_>,
        block: Block,
    ) -> Result<Part, MergeError> {
        run.check_cancelled()?;
        let tensor = || run.plan.tensor_name(block.tensor);
        let offset = block.offset;
        let out = &mut self.out[..block.len];
        base.read(block.tensor, offset, out)
            .map_err(|source| MergeError::ReadBase {
                tensor: tensor(),
                offset,
                source,
            })?;
        let stride = run.plan.block_len();
        for (client, row) in self.rows.chunks_exact_mut(stride).enumerate() {
            let row = &mut row[..block.len];
            run.read_update(client, block, row)?;
            trim::apply(row, stages.seen[client].threshold(block.tensor));
            clip::scale(row, stages.factors[client]);
        }
        let merged = &mut self.merged[..block.len];
        stages.rule.combine(
            Rows::new(&self.rows, stride, block.len),
            &mut self.sorter,
            merged,
        );
        let part = take_step(out, merged, run.plan.recipe().lambda);
        sink.write(block.tensor, offset, out)
            .map_err(|source| MergeError::Write {
                tensor: tensor(),
                offset,
                source,
            })?;
        Ok(part)
    }
}

/// Adds `lambda * merged` to the base; `merged` becomes the step.
fn take_step(base: &mut [f32], merged: &mut [f64], lambda: f64) -> Part {
    let mut non_finite = 0;
    for (value, step) in base.iter_mut().zip(&mut *merged) {
        *step *= lambda;
        *value = round(f64::from(*value) + *step);
        non_finite += u64::from(!value.is_finite());
    }
    Part {
        squares: merged.chunks(REDUCTION_UNIT).map(sum_of_squares).collect(),
        non_finite,
    }
}
