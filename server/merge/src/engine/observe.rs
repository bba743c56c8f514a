//! The first pass: what must be known of each whole task vector before any coordinate is merged.
//!
//! Norms, always; and where a trim drops something, the magnitude from which values are kept, for each of its scopes.
//! Task vectors are taken in parallel, each by one thread from its first block to its last, so sums have one order.

use std::ops::Range;

use rayon::prelude::*;

use super::{MergeError, Run, Stage};
use crate::kernel::sum_of_squares;
use crate::plan::{Block, REDUCTION_UNIT};
use crate::recipe::TrimScope;
use crate::sparsify::trim::{Histogram, Place, Trim};

/// What was seen of one task vector.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) norm: f64,
    thresholds: Thresholds,
}

#[derive(Debug)]
enum Thresholds {
    KeepAll,
    Model(u32),
    Tensor(Vec<u32>),
}

impl Seen {
    /// The magnitude from which values of a tensor are kept.
    pub(super) fn threshold(&self, tensor: usize) -> u32 {
        match &self.thresholds {
            Thresholds::KeepAll => 0,
            Thresholds::Model(threshold) => *threshold,
            Thresholds::Tensor(thresholds) => thresholds[tensor],
        }
    }
}

/// Looks at every task vector once, or twice where a trim needs it.
pub(super) fn observe(run: Run<'_>) -> Result<Vec<Seen>, MergeError> {
    let clients = run.plan.clients();
    let mut all = Vec::with_capacity(clients);
    while all.len() < clients {
        run.report_progress(Stage::Observe, all.len(), clients);
        let wave = all.len()..clients.min(all.len() + run.plan.lanes());
        let seen: Vec<Result<Seen, MergeError>> = wave
            .into_par_iter()
            .map(|client| Observer::new(run, client).run())
            .collect();
        for seen in seen {
            all.push(seen?);
        }
    }
    run.report_progress(Stage::Observe, clients, clients);
    Ok(all)
}

/// One thread's way through one task vector.
struct Observer<'a> {
    run: Run<'a>,
    client: usize,
    buffer: Vec<f32>,
    squares: f64,
}

impl<'a> Observer<'a> {
    fn new(run: Run<'a>, client: usize) -> Self {
        Self {
            run,
            client,
            buffer: vec![0.0; run.plan.block_len()],
            squares: 0.0,
        }
    }

    fn run(mut self) -> Result<Seen, MergeError> {
        let tensors = self.run.plan.tensors().len();
        let thresholds = match Trim::of(self.run.plan.recipe()) {
            None => {
                for block in self.run.plan.blocks(0..tensors) {
                    self.read(block)?;
                    self.add_squares(block);
                }
                Thresholds::KeepAll
            }
            Some(trim) => {
                let mut histogram = Histogram::new();
                match trim.scope {
                    TrimScope::Model => {
                        Thresholds::Model(self.find(0..tensors, trim, &mut histogram)?)
                    }
                    TrimScope::Tensor => Thresholds::Tensor(
                        (0..tensors)
                            .map(|tensor| self.find(tensor..tensor + 1, trim, &mut histogram))
                            .collect::<Result<_, _>>()?,
                    ),
                }
            }
        };
        Ok(Seen {
            norm: self.squares.sqrt(),
            thresholds,
        })
    }

    /// The threshold of some tensors, and their squares on the way.
    fn find(
        &mut self,
        tensors: Range<usize>,
        trim: Trim,
        histogram: &mut Histogram,
    ) -> Result<u32, MergeError> {
        let plan = self.run.plan;
        let values: usize = plan.tensors()[tensors.clone()]
            .iter()
            .map(|tensor| tensor.elements)
            .sum();
        if values == 0 {
            return Ok(0);
        }
        for block in plan.blocks(tensors.clone()) {
            self.read(block)?;
            self.add_squares(block);
            histogram.count_upper(&self.buffer[..block.len]);
        }
        let upper = histogram.take(trim.keep(values));
        let is_single = plan.is_single_block(&tensors);
        for block in plan.blocks(tensors) {
            if !is_single {
                self.read(block)?;
            }
            histogram.count_lower(&self.buffer[..block.len], upper);
        }
        Ok(Place::threshold(upper, histogram.take(upper.rank)))
    }

    fn read(&mut self, block: Block) -> Result<(), MergeError> {
        self.run.check_cancelled()?;
        self.run
            .read_update(self.client, block, &mut self.buffer[..block.len])
    }

    fn add_squares(&mut self, block: Block) {
        for unit in self.buffer[..block.len].chunks(REDUCTION_UNIT) {
            self.squares += sum_of_squares(unit);
        }
    }
}
