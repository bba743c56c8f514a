//! What all lanes of the last pass share: which rows a rule gets, what is dropped of them, what has yet to be looked at.

use std::borrow::Cow;

use half::bf16;

use super::Stages;
use crate::block::Values;
use crate::engine::drop::{Dropper, Drops, sparsifiers};
use crate::engine::load::Absent;
use crate::engine::rows::{Arrangement, Origin};
use crate::engine::{MergeError, Run};
use crate::kernel::Element;
use crate::method::Rule;
use crate::plan::{Block, Detail, REDUCTION_UNIT};
use crate::recipe::Method;
use crate::sparsify::{Bounds, Magnitude, Sparsifier};

/// So many coordinates of [`FEW`] clients stay in the nearest cache, while they are dropped and what is left is merged.
const NEAR: usize = 256;

/// Of more clients, longer runs are read at a time: memory decides.
const FEW: usize = 24;

/// What every lane works with.
pub(super) struct Job<'a> {
    pub(super) run: Run<'a>,
    stages: &'a Stages<'a>,
    pub(super) arrangements: Vec<Arrangement>,
    /// What drops values before the rule sees them.
    sparsifiers: Vec<Option<Sparsifier>>,
    /// Whether the rule drops values itself, while it reads them.
    trims: bool,
    /// Which rows may lack coordinates.
    pub(super) sparse: Vec<bool>,
    /// What becomes of those.
    pub(super) absent: Absent,
    /// Whether all rows are read and compared with the result.
    pub(super) is_full: bool,
    /// Whether inner products and signs are counted on the way, since no pass before has.
    pub(super) looks: bool,
    /// Whether values must be checked, since no pass before has.
    pub(super) checks: bool,
    /// Whether rows are made by arithmetic.
    pub(super) mixes: bool,
    /// Whether merged values go straight to the model: nothing else wants them, and none is missing.
    pub(super) adds_at_once: bool,
    /// How many coordinates are taken from the clients' rows to the merged one before the next.
    pub(super) step: usize,
}

impl<'a> Job<'a> {
    pub(super) fn new(run: Run<'a>, stages: &'a Stages<'a>) -> Self {
        let recipe = run.plan.recipe();
        let weights: Vec<f64> = run
            .inputs
            .updates
            .iter()
            .map(|update| update.weight)
            .collect();
        let decided = |decision| Arrangement::new(recipe, decision, &weights, run.rows());
        let arrangements: Vec<Arrangement> = if stages.decisions.is_empty() {
            vec![Arrangement::plain(recipe, &weights, run.rows())]
        } else {
            stages.decisions.iter().map(decided).collect()
        };
        let mixes = arrangements.iter().any(Arrangement::mixes);
        let is_full = run.plan.detail() == Detail::Full;
        let sources = run.inputs.updates.iter().map(|update| update.source);
        let sparse: Vec<bool> = sources
            .map(crate::BlockSource::is_sparse)
            .chain([false])
            .collect();
        let mut sparsifiers = sparsifiers(run);
        let of_bounds = |sparsifier: &Sparsifier| sparsifier.is_of_bounds();
        let trims = matches!(recipe.method, Method::Ties(_))
            && sparsifiers.iter().flatten().all(of_bounds)
            && sparsifiers.iter().any(Option::is_some);
        if trims {
            sparsifiers.fill(None);
        }
        let absent = if recipe.method.ranks_values() && !mixes {
            Absent::Marked
        } else {
            Absent::Zero
        };
        let drops = sparsifiers.iter().any(Option::is_some);
        let ranks_rows = sparsifiers.iter().flatten().any(Sparsifier::ranks_rows);
        let stays_near = drops && !ranks_rows && !is_full && run.plan.clients() <= FEW;
        let lacks = sparse.contains(&true) || drops;
        let may_miss = absent == Absent::Marked && lacks;
        Self {
            run,
            stages,
            adds_at_once: !may_miss && !is_full && recipe.optimizer.is_none(),
            step: if stays_near { NEAR } else { REDUCTION_UNIT },
            sparsifiers,
            trims,
            sparse,
            absent,
            is_full,
            looks: is_full && stages.looks,
            checks: stages.looks && stages.measured.is_none() && stages.varied.is_none(),
            mixes,
            arrangements,
        }
    }

    /// The arrangement of a tensor's scope.
    pub(super) fn arrangement(&self, tensor: usize) -> &Arrangement {
        &self.arrangements[tensor.min(self.arrangements.len() - 1)]
    }

    /// Whether something is dropped of some client's values.
    pub(super) fn drops(&self) -> bool {
        self.sparsifiers.iter().any(Option::is_some)
    }

    /// Whether rows may go to the rule in the type in which they were sent.
    pub(super) fn is_native(&self) -> bool {
        !self.is_full && self.stages.varied.is_none() && !self.drops() && !self.trims
    }

    /// The rule for a tensor: SCE weighs clients anew in each, and what TIES keeps may differ.
    pub(super) fn rule<'b>(&self, arrangement: &'b Arrangement, tensor: usize) -> Cow<'b, Rule> {
        if let (true, Some(measured)) = (self.trims, self.stages.measured) {
            let bounds = (0..self.run.plan.clients()).map(|client| measured.bounds(client, tensor));
            return Cow::Owned(arrangement.rule.clone().within(bounds.collect()));
        }
        let (energies, threshold) = match (self.stages.varied, self.stages.measured) {
            (Some(varied), _) => {
                let found = varied.tensor(tensor);
                (found.energies.clone(), found.threshold)
            }
            (None, Some(measured)) if self.run.plan.weighs_by_energy() => {
                (measured.energies(tensor), Some(0))
            }
            (None, _) => return Cow::Borrowed(&arrangement.rule),
        };
        Cow::Owned(Rule::sce(&energies, threshold))
    }

    /// Refuses rows with values that are no numbers, where no pass before has.
    pub(super) fn check_values(
        &self,
        unit: Block,
        values: &[Values<'_>],
    ) -> Result<(), MergeError> {
        for (client, values) in values.iter().enumerate().take(self.run.plan.clients()) {
            match *values {
                Values::F32(row) => self.run.check_row(client, unit, row)?,
                Values::Bf16(row) => self.run.check_row(client, unit, row)?,
                Values::F64(row) => self.run.check_row(client, unit, row)?,
                Values::F16(row) => {
                    let mut widened = vec![0.0_f32; row.len()];
                    values.convert(&mut widened);
                    self.run.check_row(client, unit, &widened)?;
                }
            }
        }
        Ok(())
    }

    /// What is left of the clients' rows: the rows themselves where nothing is dropped.
    pub(super) fn drop_values<'b, T: Magnitude>(
        &self,
        dropper: &mut Dropper<T>,
        block: Block,
        clients: &[&'b [T]],
        room: &'b mut [T],
    ) -> Result<Vec<&'b [T]>, MergeError> {
        let mut kept = clients.to_vec();
        for ((client, room), row) in room.chunks_exact_mut(self.step).enumerate().zip(&mut kept) {
            let Some(sparsifier) = self.sparsifiers[client].filter(|_| !row.is_empty()) else {
                continue;
            };
            let measured = self.stages.measured;
            let drop = Drops {
                client,
                sparsifier,
                bounds: measured.map_or(Bounds::ALL, |measured| {
                    measured.bounds(client, block.tensor)
                }),
                factor: measured.map_or(1.0, |measured| measured.factor(client, block.tensor)),
                fill: match self.absent {
                    Absent::Marked => T::absent(),
                    Absent::Zero => T::default(),
                },
            };
            let room = &mut room[..block.len];
            dropper.apply(self.run, &drop, block, row, room)?;
            *row = room;
        }
        Ok(kept)
    }
}

/// Reads a block of the clients that are wanted, and of the step before where it is; empty values stand for the others.
pub(super) fn read_wanted<'a>(
    run: Run<'a>,
    block: Block,
    raw: &'a mut [f32],
    stride: usize,
    is_wanted: impl Fn(usize) -> bool,
) -> Result<Vec<Values<'a>>, MergeError> {
    let clients = run.plan.clients();
    let buffers = raw.chunks_exact_mut(stride).take(run.rows()).enumerate();
    buffers
        .map(
            |(row, buffer)| match run.inputs.history.step.filter(|_| row == clients) {
                _ if !is_wanted(row) => Ok(Values::F32(&[])),
                Some(step) => run.read(step, "the step before", block, buffer),
                None => run.read_update(row, block, buffer),
            },
        )
        .collect()
}

/// The rows of a rule as `bf16`, where all of them are clients' that sent just that: nothing is widened then.
pub(super) fn native_halves<'a>(
    arrangement: &Arrangement,
    values: &[Values<'a>],
) -> Option<Vec<&'a [bf16]>> {
    let row = |origin: &Origin| match origin {
        Origin::Row(row) => bf16::as_rows(&values[*row]),
        Origin::Combination(_) | Origin::Same(_) => None,
    };
    arrangement.origins.iter().map(row).collect()
}
