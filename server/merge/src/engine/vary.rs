//! The pass that SCE needs where it keeps a share of the coordinates: those where clients differ most, and the energy of what is kept.
//!
//! A job is one tensor. Its variances are computed anew each time through, never stored.

use super::load::{Extra, Room};
use super::schedule::Schedule;
use super::{MergeError, Run};
use crate::kernel::{Rows, sum_of_squares};
use crate::method::sce;
use crate::plan::{MergePlan, Pass, REDUCTION_UNIT};
use crate::sparsify::{Kept, Magnitude, Search, sample_spans, share_of};

/// What was found of every tensor.
#[derive(Debug)]
pub(super) struct Varied {
    tensors: Vec<Tensor>,
}

/// What was found of one tensor.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tensor {
    /// The magnitude of the smallest variance that is kept; none: nothing is.
    pub(super) threshold: Option<u32>,
    /// `‖τ‖²` of each client over the kept coordinates.
    pub(super) energies: Vec<f64>,
}

/// The buffers of one thread.
struct Lane<T> {
    room: Room<T>,
    variances: Vec<f32>,
    kept: Vec<T>,
    search: Option<Search<f32>>,
}

/// Looks at all tensors.
pub(super) fn vary<T: Magnitude>(run: Run<'_>, density: f64) -> Result<Varied, MergeError> {
    let plan = run.plan;
    let new_lane = |_| Lane {
        room: Room::new(plan.clients(), plan.block_len()),
        variances: vec![0.0; plan.block_len()],
        kept: vec![T::default(); REDUCTION_UNIT],
        search: Some(Search::new()),
    };
    let mut lanes: Vec<Lane<T>> = (0..plan.lanes()).map(new_lane).collect();
    let mut tensors = Vec::with_capacity(plan.tensors().len());
    let schedule = Schedule {
        run,
        pass: Pass::Vary,
        total: plan.tensors().len(),
    };
    schedule.in_order(
        0..plan.tensors().len(),
        &mut lanes,
        |lane, tensor| lane.vary(run, tensor, density),
        |tensor| tensors.push(tensor),
    )?;
    Ok(Varied { tensors })
}

impl Varied {
    /// What a lane takes, in bytes.
    pub(super) fn lane_bytes(plan: &MergePlan) -> Option<usize> {
        let own = (plan.block_len() + REDUCTION_UNIT) * size_of::<f32>() + Search::<f32>::BYTES;
        Room::<f32>::bytes(plan.clients(), plan.block_len())?.checked_add(own)
    }

    /// What was found of one tensor.
    pub(super) fn tensor(&self, tensor: usize) -> &Tensor {
        &self.tensors[tensor]
    }
}

impl<T: Magnitude> Lane<T> {
    fn vary(&mut self, run: Run<'_>, tensor: usize, density: f64) -> Result<Tensor, MergeError> {
        let mut changing = 0_u64;
        self.each(run, tensor, |_, variances| {
            changing += variances
                .iter()
                .map(|variance| u64::from(*variance != 0.0))
                .sum::<u64>();
        })?;
        let last = share_of(changing, density);
        let threshold = if last == 0 {
            None
        } else {
            Some(self.threshold(run, tensor, last)?)
        };
        let mut energies = vec![0.0; run.plan.clients()];
        let mut kept = std::mem::take(&mut self.kept);
        self.each(run, tensor, |rows, variances| {
            for (energy, row) in energies.iter_mut().zip(rows.iter()) {
                let kept = &mut kept[..row.len()];
                keep(row, variances, threshold, kept);
                *energy += sum_of_squares(kept);
            }
        })?;
        self.kept = kept;
        Ok(Tensor {
            threshold,
            energies,
        })
    }

    /// The magnitude of the `last`-th largest variance.
    fn threshold(&mut self, run: Run<'_>, tensor: usize, last: u64) -> Result<u32, MergeError> {
        let values = run.plan.tensors()[tensor].elements;
        let mut search = self.search.take().unwrap_or_else(Search::new);
        search.begin(values as u64, Kept { first: 1, last });
        for wanted in sample_spans(values) {
            let block = crate::plan::Block {
                tensor,
                offset: wanted.start,
                len: wanted.len(),
            };
            let rows = self.room.load(run, block, Extra::None)?;
            let variances = &mut self.variances[..block.len];
            sce::variances(Rows::new(&rows, block.len), variances);
            search.sample(variances);
        }
        while search.next_pass() {
            self.each(run, tensor, |_, variances| search.count(variances, &[]))?;
        }
        let threshold = search.bounds().low;
        self.search = Some(search);
        Ok(threshold)
    }

    /// Shows the rows of a tensor and their variances, unit by unit.
    fn each(
        &mut self,
        run: Run<'_>,
        tensor: usize,
        mut look: impl FnMut(Rows<'_, T>, &[f32]),
    ) -> Result<(), MergeError> {
        for block in run.plan.runs(tensor..tensor + 1) {
            run.check_cancelled()?;
            for piece in block.pieces(run.plan.block_len()) {
                let rows = self.room.load(run, piece, Extra::None)?;
                run.check_finite(piece, Rows::new(&rows, piece.len))?;
                for start in (0..piece.len).step_by(REDUCTION_UNIT) {
                    let len = REDUCTION_UNIT.min(piece.len - start);
                    let unit: Vec<&[T]> = rows.iter().map(|row| &row[start..start + len]).collect();
                    let unit = Rows::new(&unit, len);
                    let variances = &mut self.variances[..len];
                    sce::variances(unit, variances);
                    look(unit, variances);
                }
            }
        }
        Ok(())
    }
}

/// The values of a row whose variance is kept, and 0 for the others.
fn keep<T: Magnitude>(row: &[T], variances: &[f32], threshold: Option<u32>, kept: &mut [T]) {
    for ((kept, value), variance) in kept.iter_mut().zip(row).zip(variances) {
        let is_kept = threshold.is_some_and(|threshold| variance.to_bits() >= threshold);
        *kept = if is_kept { *value } else { T::default() };
    }
}
