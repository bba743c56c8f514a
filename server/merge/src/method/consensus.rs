//! Consensus task arithmetic with TALL masks (Wang et al., ICML 2024): the sum of task vectors, where clients find themselves in it.
//!
//! Client `i` does so where `|xᵢ| > λ |Σx − xᵢ|`; a coordinate that fewer than `support` clients do is selfish or catastrophic, and
//! becomes 0. Ignores weights. Sums are taken in the clients' order.

use super::tiles::{Streamed, Tile};
use crate::kernel::Element;

pub(super) struct Consensus {
    pub(super) threshold: f64,
    pub(super) support: usize,
}

impl<T: Element> Streamed<T> for Consensus {
    #[inline(always)]
    #[expect(clippy::cast_precision_loss, reason = "counts of clients are small")]
    fn merge<const LANES: usize>(&self, tile: Tile<'_, T>, out: &mut [f64; LANES]) {
        let mut sums = [0.0_f64; LANES];
        for values in tile.rows::<LANES>() {
            for lane in 0..LANES {
                sums[lane] += values[lane].widen();
            }
        }
        let mut counts = [0.0_f64; LANES];
        for values in tile.rows::<LANES>() {
            for lane in 0..LANES {
                let value = values[lane].widen();
                let is_found = value.abs() > self.threshold * (sums[lane] - value).abs();
                counts[lane] = if is_found {
                    counts[lane] + 1.0
                } else {
                    counts[lane]
                };
            }
        }
        for lane in 0..LANES {
            out[lane] = if counts[lane] >= self.support as f64 {
                sums[lane]
            } else {
                0.0
            };
        }
    }
}
