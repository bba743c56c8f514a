//! Coordinate-wise median (Yin et al., ICML 2018): holds while fewer than half of the clients lie.
//!
//! Of an even number, the mean of the two middle values. Ignores weights: an example count is a claim, not evidence.
//! On sparse task vectors it is 0 almost everywhere.

use crate::kernel::Rows;
use crate::kernel::sort::{Sorter, WIDTH};

pub(super) fn combine(rows: Rows<'_>, sorter: &mut Sorter, out: &mut [f64]) {
    let clients = rows.iter().count();
    let (low, high) = ((clients - 1) / 2, clients / 2);
    for (tile, out) in out.chunks_mut(WIDTH).enumerate() {
        let ranks = sorter.sort(rows, tile * WIDTH);
        for ((slot, low), high) in out.iter_mut().zip(ranks.rank(low)).zip(ranks.rank(high)) {
            *slot = (low + high) / 2.0;
        }
    }
}
