//! Coordinate-wise trimmed mean (Yin et al., ICML 2018): drops the `f` lowest and `f` highest values, averages the rest.
//!
//! Holds while at most `f` of more than `2f` clients lie. The rest is added up in ascending order; it is never the sum
//! less the extremes, in which a huge extreme would take the others' digits with it. Ignores weights.

use crate::kernel::Rows;
use crate::kernel::sort::{Sorter, WIDTH};

#[expect(clippy::cast_precision_loss, reason = "counts of clients are small")]
pub(super) fn combine(rows: Rows<'_>, tolerate: usize, sorter: &mut Sorter, out: &mut [f64]) {
    let clients = rows.iter().count();
    let kept = clients - 2 * tolerate;
    for (tile, out) in out.chunks_mut(WIDTH).enumerate() {
        let ranks = sorter.sort(rows, tile * WIDTH);
        out.fill(0.0);
        for rank in tolerate..tolerate + kept {
            for (sum, value) in out.iter_mut().zip(ranks.rank(rank)) {
                *sum += value;
            }
        }
        for sum in out {
            *sum /= kept as f64;
        }
    }
}
