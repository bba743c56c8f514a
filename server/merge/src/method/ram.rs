//! RAM (arXiv 2601.13572): averages what several clients changed, keeps what one alone changed at full strength.
//!
//! A value counts as a change where its magnitude is above `epsilon`; the result is the mean of the changes, 0 where there is none. Made for
//! sparse task vectors of reinforcement learning, which a plain mean shrinks. Ignores weights.

use super::tiles::{Streamed, Tile};
use crate::kernel::Element;

pub(super) struct Ram {
    pub(super) epsilon: f64,
}

impl<T: Element> Streamed<T> for Ram {
    #[inline(always)]
    fn merge<const LANES: usize>(&self, tile: Tile<'_, T>, out: &mut [f64; LANES]) {
        let (mut sums, mut counts) = ([0.0_f64; LANES], [0.0_f64; LANES]);
        for values in tile.rows::<LANES>() {
            for lane in 0..LANES {
                let value = values[lane].widen();
                let is_change = value.abs() > self.epsilon;
                sums[lane] = if is_change {
                    sums[lane] + value
                } else {
                    sums[lane]
                };
                counts[lane] = if is_change {
                    counts[lane] + 1.0
                } else {
                    counts[lane]
                };
            }
        }
        for lane in 0..LANES {
            out[lane] = sums[lane]
                / if counts[lane] > 1.0 {
                    counts[lane]
                } else {
                    1.0
                };
        }
    }
}
