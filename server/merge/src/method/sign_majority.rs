//! Majority vote of signs (signSGD with majority vote; Bernstein et al., ICLR 2019): -1, 0 or 1 for each coordinate.
//!
//! Holds while fewer than half of the clients lie about a coordinate; size counts for nothing. 0 votes for nothing, and an even
//! vote gives 0. Scale it with lambda.

use super::tiles::{Streamed, Tile};
use crate::kernel::Element;

pub(super) struct SignMajority;

impl<T: Element> Streamed<T> for SignMajority {
    #[inline(always)]
    fn merge<const LANES: usize>(&self, tile: Tile<'_, T>, out: &mut [f64; LANES]) {
        let mut polls = [0.0_f64; LANES];
        for values in tile.rows::<LANES>() {
            for lane in 0..LANES {
                polls[lane] += sign(values[lane].widen());
            }
        }
        for lane in 0..LANES {
            out[lane] = sign(polls[lane]);
        }
    }
}

/// -1, 0 or 1; of what is no number, 0.
#[inline(always)]
pub(super) fn sign(value: f64) -> f64 {
    let above = if value > 0.0 { 1.0 } else { 0.0 };
    let below = if value < 0.0 { 1.0 } else { 0.0 };
    above - below
}
