//! Weighted mean, `Σ wᵢxᵢ / Σ wᵢ`: federated averaging (McMahan et al., AISTATS 2017) on task vectors.
//!
//! Not robust: one client can move it anywhere unless norms are clipped before. Also what the rules of the space of inner products end
//! in, once they have found weights. Terms are added in the clients' order, in `f64`, and divided once.

use super::Rule;
use super::tiles::{Streamed, Tile};
use crate::kernel::Element;

pub(super) fn rule(weights: Vec<f64>) -> Rule {
    let divisor = weights.iter().sum();
    Rule::WeightedSum { weights, divisor }
}

/// `Σ wᵢxᵢ / divisor`.
pub(super) struct WeightedSum<'a> {
    pub(super) weights: &'a [f64],
    pub(super) divisor: f64,
}

impl<T: Element> Streamed<T> for WeightedSum<'_> {
    const IS_ONE_PASS: bool = true;

    #[inline(always)]
    fn merge<const LANES: usize>(&self, tile: Tile<'_, T>, out: &mut [f64; LANES]) {
        let mut sums = [0.0_f64; LANES];
        add(tile, self.weights, &mut sums);
        for lane in 0..LANES {
            out[lane] = sums[lane] / self.divisor;
        }
    }
}

#[inline(always)]
fn add<T: Element, const LANES: usize>(
    tile: Tile<'_, T>,
    weights: &[f64],
    sums: &mut [f64; LANES],
) {
    for (values, &weight) in tile.rows::<LANES>().zip(weights) {
        for lane in 0..LANES {
            sums[lane] += weight * values[lane].widen();
        }
    }
}
