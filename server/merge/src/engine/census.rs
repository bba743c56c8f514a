//! What is counted for the diagnostics while the clients' rows are at hand: signs, magnitudes, who changed what.
//!
//! Counts are integers, which have no order; sums of magnitudes are taken unit by unit and folded in order, as all sums are.

mod signs;
mod sizes;

use super::{MergeError, Run};
use crate::block::BlockSource;
use crate::kernel::{Element, Rows, triangle};
use crate::plan::{Block, Detail, REDUCTION_UNIT};
pub(super) use signs::SignCounts;
pub(super) use sizes::Sizes;

/// Change beyond which a coordinate counts as active.
pub(super) const ACTIVE: f64 = 1e-5;

/// One thread's room for counting.
#[derive(Debug)]
pub(super) struct Census {
    sizes: Sizes,
    masks: Vec<u64>,
    previous: Vec<f32>,
}

/// What one run of values added.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Counted {
    pub(super) signs: SignCounts,
    /// Coordinates that both of a pair changed, as a triangle.
    pub(super) overlaps: Vec<u64>,
    /// For each client: its product with its task vector of the round before, and that one's square.
    pub(super) previous: Vec<[f64; 2]>,
}

impl Counted {
    fn new(clients: usize) -> Self {
        Self {
            signs: SignCounts::new(clients),
            overlaps: vec![0; triangle(clients)],
            previous: vec![[0.0; 2]; clients],
        }
    }

    /// What one takes, in bytes.
    pub(super) fn bytes(clients: usize) -> usize {
        SignCounts::bytes(clients)
            + triangle(clients) * size_of::<u64>()
            + clients * size_of::<[f64; 2]>()
    }

    /// Adds what a later run counted.
    pub(super) fn add(&mut self, other: &Self) {
        self.signs.add(&other.signs);
        for (sum, count) in self.overlaps.iter_mut().zip(&other.overlaps) {
            *sum += count;
        }
        for (sums, others) in self.previous.iter_mut().zip(&other.previous) {
            for (sum, other) in sums.iter_mut().zip(others) {
                *sum += other;
            }
        }
    }
}

impl Census {
    /// Room for the clients of a plan, where it asks for diagnostics.
    pub(super) fn new(run: Run<'_>) -> Option<Self> {
        let clients = run.plan.clients();
        (run.plan.detail() == Detail::Full).then(|| Self {
            sizes: Sizes::new(clients),
            masks: vec![0; clients * (REDUCTION_UNIT / 64)],
            previous: vec![0.0; run.plan.block_len()],
        })
    }

    /// What it takes, in bytes.
    pub(super) fn bytes(clients: usize, block_len: usize) -> usize {
        Sizes::bytes(clients)
            + clients * (REDUCTION_UNIT / 64) * size_of::<u64>()
            + block_len * size_of::<f32>()
    }

    /// Counts a run's blocks into a fresh sum.
    pub(super) fn begin(&self, run: Run<'_>) -> Counted {
        Counted::new(run.plan.clients())
    }

    /// Counts one block of all clients.
    pub(super) fn count<T: Element>(
        &mut self,
        run: Run<'_>,
        block: Block,
        rows: Rows<'_, T>,
        counted: &mut Counted,
    ) -> Result<(), MergeError> {
        let clients = run.plan.clients();
        let units = run.plan.tensors()[block.tensor].elements / REDUCTION_UNIT;
        for start in (0..block.len).step_by(REDUCTION_UNIT) {
            let len = REDUCTION_UNIT.min(block.len - start);
            let unit: Vec<&[T]> = rows
                .iter()
                .take(clients)
                .map(|row| &row[start..start + len])
                .collect();
            let unit = Rows::new(&unit, len);
            counted.signs.count(unit, &mut self.masks);
            signs::count_overlaps(&self.masks, clients, &mut counted.overlaps);
            if sizes::is_counted(units, (block.offset + start) / REDUCTION_UNIT) {
                self.sizes.count(unit);
            }
        }
        for (client, update) in run.inputs.updates.iter().enumerate() {
            if let Some(previous) = update.previous {
                let sums = self.compare(run, previous, block, rows.row(client))?;
                counted.previous[client][0] += sums[0];
                counted.previous[client][1] += sums[1];
            }
        }
        Ok(())
    }

    /// The histograms of magnitudes of several threads, together.
    pub(super) fn sizes(censuses: impl IntoIterator<Item = Self>) -> Option<Sizes> {
        censuses
            .into_iter()
            .map(|census| census.sizes)
            .reduce(|mut all, sizes| {
                all.add(&sizes);
                all
            })
    }

    fn compare<T: Element>(
        &mut self,
        run: Run<'_>,
        previous: &dyn BlockSource,
        block: Block,
        row: &[T],
    ) -> Result<[f64; 2], MergeError> {
        let values = run.read(
            previous,
            "a task vector of the round before",
            block,
            &mut self.previous,
        )?;
        let mut widened = vec![0.0_f64; block.len];
        values.convert(&mut widened);
        let mut sums = [0.0; 2];
        for (row, before) in row
            .chunks(REDUCTION_UNIT)
            .zip(widened.chunks(REDUCTION_UNIT))
        {
            let (mut product, mut square) = (0.0, 0.0);
            for (value, before) in row.iter().zip(before) {
                product += value.widen() * before;
                square += before * before;
            }
            sums[0] += product;
            sums[1] += square;
        }
        Ok(sums)
    }
}
