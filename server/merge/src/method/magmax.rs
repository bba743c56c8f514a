//! MagMax (Marczak et al., ECCV 2024): of each coordinate, the value of the largest magnitude.
//!
//! Of equal magnitudes the first client's counts. Not robust: one client with large values is the result. Ignores weights.

use super::tiles::{Streamed, Tile};
use crate::kernel::Element;

pub(super) struct Magmax;

impl<T: Element> Streamed<T> for Magmax {
    #[inline(always)]
    fn merge<const LANES: usize>(&self, tile: Tile<'_, T>, out: &mut [f64; LANES]) {
        let mut largest = [0.0_f64; LANES];
        for values in tile.rows::<LANES>() {
            for lane in 0..LANES {
                let value = values[lane].widen();
                let is_larger = value.abs() > largest[lane].abs();
                largest[lane] = if is_larger { value } else { largest[lane] };
            }
        }
        *out = largest;
    }
}
