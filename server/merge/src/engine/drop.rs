//! What the recipe's sparsifying stage makes of one client's row.
//!
//! DELLA ranks whole rows of a tensor, which blocks cut anywhere: it reads the rows that a block touches, whole, and keeps the part.

use super::load::zero_absent;
use super::{MergeError, Run};
use crate::plan::{Block, MergePlan};
use crate::recipe::{Recipe, Sparsify};
use crate::sparsify::{self, Bounds, Magnitude, Place, Ranker, Sparsifier};

/// One thread's room for dropping.
#[derive(Debug)]
pub(super) struct Dropper<T> {
    ranker: Ranker,
    raw: Vec<f32>,
    wide: Vec<T>,
    kept: Vec<T>,
}

/// What is dropped of a client's values in one tensor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Drops<T> {
    pub(super) client: usize,
    pub(super) sparsifier: Sparsifier,
    pub(super) bounds: Bounds,
    /// By what the kept values are multiplied, where sums of magnitudes are kept.
    pub(super) factor: f64,
    /// What takes the place of a dropped value.
    pub(super) fill: T,
}

/// Each client's sparsifying stage: the recipe's, with the client's own numbers where it has some.
pub(super) fn sparsifiers(run: Run<'_>) -> Vec<Option<Sparsifier>> {
    let recipe = run.plan.recipe();
    let own = |update: &super::Contribution<'_>| {
        let rule = update.sparsify.map(|rule| Recipe {
            sparsify: recipe.sparsify.map(|stage| Sparsify { rule, ..stage }),
            ..recipe.clone()
        });
        Sparsifier::of(rule.as_ref().unwrap_or(recipe))
    };
    run.inputs.updates.iter().map(own).collect()
}

impl<T: Magnitude> Dropper<T> {
    pub(super) fn new(plan: &MergePlan) -> Self {
        let row = plan.longest_ranked_row();
        let wide = wide_len(row, plan.block_len());
        Self {
            ranker: Ranker::new(row),
            raw: vec![0.0; wide],
            wide: vec![T::default(); wide],
            kept: vec![T::default(); wide],
        }
    }

    /// What it takes, in bytes.
    pub(super) fn bytes(plan: &MergePlan) -> Option<usize> {
        let row = plan.longest_ranked_row();
        let wide = wide_len(row, plan.block_len()) * (size_of::<f32>() + 2 * size_of::<T>());
        Ranker::bytes(row)?.checked_add(wide)
    }

    /// Puts into `out` what is left of `row`.
    pub(super) fn apply(
        &mut self,
        run: Run<'_>,
        drop: &Drops<T>,
        block: Block,
        row: &[T],
        out: &mut [T],
    ) -> Result<(), MergeError> {
        if drop.sparsifier.ranks_rows() {
            self.apply_to_rows(run, drop, block, out)?;
        } else {
            let place = place(run, drop, block);
            let Drops { fill, bounds, .. } = *drop;
            drop.sparsifier
                .apply((row, out), place, fill, bounds, &mut self.ranker);
        }
        if drop.sparsifier.keeps_mass() {
            sparsify::scale(out, drop.factor);
        }
        Ok(())
    }

    fn apply_to_rows(
        &mut self,
        run: Run<'_>,
        drop: &Drops<T>,
        block: Block,
        out: &mut [T],
    ) -> Result<(), MergeError> {
        let extent = &run.plan.tensors()[block.tensor];
        let row = extent.row_elements.max(1);
        self.ranker.set_row(row);
        let start = block.offset / row * row;
        let end = (block.offset + block.len)
            .next_multiple_of(row)
            .min(extent.elements);
        let whole = Block {
            tensor: block.tensor,
            offset: start,
            len: end - start,
        };
        let values = run.read_update(drop.client, whole, &mut self.raw)?;
        let (wide, kept) = (&mut self.wide[..whole.len], &mut self.kept[..whole.len]);
        values.convert(wide);
        if run.inputs.updates[drop.client].source.is_sparse() && !drop.fill.is_absent() {
            zero_absent(wide);
        }
        let place = place(run, drop, whole);
        let Drops { fill, bounds, .. } = *drop;
        drop.sparsifier
            .apply((wide, kept), place, fill, bounds, &mut self.ranker);
        out.copy_from_slice(&kept[block.offset - start..][..block.len]);
        Ok(())
    }
}

/// Where a block is, for the generator of chance.
fn place<T>(run: Run<'_>, drop: &Drops<T>, block: Block) -> Place {
    Place {
        client: drop.client as u64,
        tensor: key(&run.plan.tensors()[block.tensor].name),
        offset: block.offset as u64,
    }
}

/// A block and the rows that it cuts at either end.
fn wide_len(row: usize, block_len: usize) -> usize {
    if row == 0 { 0 } else { block_len + 2 * row }
}

/// What tells a tensor from others in the generator of chance: its name, by FNV-1a, so that freezing one changes no other.
fn key(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
