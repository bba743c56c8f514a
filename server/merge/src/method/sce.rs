//! SCE (FuseChat 3, Wan et al.; select, calculate, erase): keeps the coordinates that vary most among clients, weighs each tensor by
//! its clients' energy, erases minority signs.
//!
//! `Σ cₖxₖmₖ / max(Σ cₖmₖ, 10⁻⁶)` with the tensor's weights `cₖ`, where `mₖ` is 1 if the sign of `xₖ` is that of `Σx`, even sums being
//! positive. Coordinates whose population variance is below a threshold become 0. Variances are compared as `f32`, by
//! the same function when they are counted and when they are used.

use super::Rule;
use super::sign_majority::sign;
use super::tiles::{self, Streamed, Tile};
use crate::kernel::{Element, Rows, Target};

/// The least divisor.
const LEAST_SHARE: f64 = 1e-6;

/// The population variance of each coordinate over the clients; its bits order as it does, and NaN is above all.
pub(crate) fn variances<T: Element>(rows: Rows<'_, T>, out: &mut [f32]) {
    let mut wide = [0.0_f64; 256];
    for (part, out) in out.chunks_mut(wide.len()).enumerate() {
        let start = part * wide.len();
        let wide = &mut wide[..out.len()];
        tiles::run_from(&Variance, rows, start, &mut Target::Row(wide));
        for (out, variance) in out.iter_mut().zip(wide) {
            *out = f32::nearest(*variance);
        }
    }
}

struct Variance;

impl<T: Element> Streamed<T> for Variance {
    #[inline(always)]
    #[expect(clippy::cast_precision_loss, reason = "counts of clients are small")]
    fn merge<const LANES: usize>(&self, tile: Tile<'_, T>, out: &mut [f64; LANES]) {
        let count = tile.count() as f64;
        let (mut means, mut squares) = ([0.0_f64; LANES], [0.0_f64; LANES]);
        for values in tile.rows::<LANES>() {
            for lane in 0..LANES {
                means[lane] += values[lane].widen();
            }
        }
        for mean in &mut means {
            *mean /= count;
        }
        for values in tile.rows::<LANES>() {
            for lane in 0..LANES {
                let distance = values[lane].widen() - means[lane];
                squares[lane] += distance * distance;
            }
        }
        for lane in 0..LANES {
            out[lane] = squares[lane] / count;
        }
    }
}

/// A client's weight is its share of the tensor's energy; all are the same where there is none.
pub(super) fn rule(energies: &[f64], threshold: Option<u32>) -> Rule {
    let total: f64 = energies.iter().sum();
    let share = |energy: &f64| if total > 0.0 { energy / total } else { 1.0 };
    Rule::Sce {
        weights: energies.iter().map(share).collect(),
        threshold,
    }
}

pub(super) struct Sce<'a> {
    pub(super) weights: &'a [f64],
    pub(super) threshold: Option<u32>,
}

impl<T: Element> Streamed<T> for Sce<'_> {
    #[inline(always)]
    fn merge<const LANES: usize>(&self, tile: Tile<'_, T>, out: &mut [f64; LANES]) {
        let Some(threshold) = self.threshold else {
            *out = [0.0; LANES];
            return;
        };
        self.erase(tile, out);
        if threshold > 0 {
            let mut variances = [0.0_f64; LANES];
            Variance.merge(tile, &mut variances);
            for lane in 0..LANES {
                let is_kept = f32::nearest(variances[lane]).to_bits() >= threshold;
                out[lane] = if is_kept { out[lane] } else { 0.0 };
            }
        }
    }
}

impl Sce<'_> {
    /// The weighted mean of those whose sign is that of the sum.
    #[inline(always)]
    fn erase<T: Element, const LANES: usize>(&self, tile: Tile<'_, T>, out: &mut [f64; LANES]) {
        let mut elected = [0.0_f64; LANES];
        for values in tile.rows::<LANES>() {
            for lane in 0..LANES {
                elected[lane] += values[lane].widen();
            }
        }
        for sign in &mut elected {
            *sign = if *sign == 0.0 { 1.0 } else { self::sign(*sign) };
        }
        let (mut sums, mut shares) = ([0.0_f64; LANES], [0.0_f64; LANES]);
        for (values, &weight) in tile.rows::<LANES>().zip(self.weights) {
            for lane in 0..LANES {
                let value = values[lane].widen();
                let agrees = elected[lane] * value > 0.0;
                let (sum, share) = (sums[lane] + weight * value, shares[lane] + weight);
                sums[lane] = if agrees { sum } else { sums[lane] };
                shares[lane] = if agrees { share } else { shares[lane] };
            }
        }
        for lane in 0..LANES {
            let share = if shares[lane] > LEAST_SHARE {
                shares[lane]
            } else {
                LEAST_SHARE
            };
            out[lane] = sums[lane] / share;
        }
    }
}
