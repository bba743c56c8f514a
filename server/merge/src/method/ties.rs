//! TIES (Yadav et al., NeurIPS 2023): elect a sign for each coordinate, average those who agree with it.
//!
//! With `dᵢ = wᵢxᵢ`, the sign is that of a [`Elect`] poll, and the result `Σ dᵢ` over those of that sign, divided by their weights, their
//! number or nothing ([`Divide`]); a divisor of 0 is 1. What the trim drops is 0, and agrees with nobody: where it has not happened before,
//! values out of bounds are dropped here, while they are read. Both signs are added up side by side, so that values are read once.
//! Whose sign counts: that of `dᵢ`, as in mergekit, so that a negative weight turns a vote; by plain mass that of `xᵢ`, as in
//! PEFT. Election by mass is not robust: one client with large values decides. A coordinate with NaN in its poll stays NaN.

use super::sign_majority::sign;
use super::tiles::{self, Streamed, Tile};
use crate::kernel::{Rows, Target};
use crate::recipe::{self, Divide, Elect, Even};
use crate::sparsify::{Bounds, Magnitude};

/// The rule; with `TRIMS`, of values of which it drops those out of bounds.
pub(super) struct Ties<'a, const TRIMS: bool> {
    pub(super) weights: &'a [f64],
    pub(super) ties: recipe::Ties,
    /// One for each client, where it trims.
    pub(super) bounds: &'a [Bounds],
}

/// What those of each sign come to, at each coordinate.
struct Sides<const LANES: usize> {
    /// `Σ dᵢ` over those whose voice is positive.
    positive: [f64; LANES],
    /// The same of those whose voice is negative.
    negative: [f64; LANES],
    /// By what the first is divided.
    for_positive: [f64; LANES],
    /// By what the second is.
    for_negative: [f64; LANES],
    polls: [f64; LANES],
}

impl<T: Magnitude, const TRIMS: bool> Streamed<T> for Ties<'_, TRIMS> {
    const IS_ONE_PASS: bool = true;

    #[inline(always)]
    fn merge<const LANES: usize>(&self, tile: Tile<'_, T>, out: &mut [f64; LANES]) {
        let sides = match self.ties.elect {
            Elect::Mass => {
                let mut sides = self.hear::<T, LANES, false>(
                    tile,
                    #[inline(always)]
                    |_, weighted| (weighted, 0.0),
                );
                for lane in 0..LANES {
                    sides.polls[lane] = sides.positive[lane] + sides.negative[lane];
                }
                sides
            }
            Elect::PlainMass => self.hear::<T, LANES, true>(
                tile,
                #[inline(always)]
                |value, _| (value, value),
            ),
            Elect::Count => self.hear::<T, LANES, true>(
                tile,
                #[inline(always)]
                |_, weighted| (weighted, sign(weighted)),
            ),
        };
        let even = match self.ties.even {
            Even::Nothing => 0.0,
            Even::Positive => 1.0,
        };
        let Sides {
            positive,
            negative,
            for_positive,
            for_negative,
            polls,
        } = sides;
        let (mut sums, mut shares) = (positive, for_positive);
        for lane in 0..LANES {
            let elected = if polls[lane] == 0.0 {
                even
            } else {
                polls[lane]
            };
            sums[lane] = if elected == 0.0 { 0.0 } else { sums[lane] };
            let (sum, share) = (negative[lane], for_negative[lane]);
            sums[lane] = if elected < 0.0 { sum } else { sums[lane] };
            shares[lane] = if elected < 0.0 { share } else { shares[lane] };
            shares[lane] = if shares[lane] == 0.0 {
                1.0
            } else {
                shares[lane]
            };
        }
        for lane in 0..LANES {
            let mean = sums[lane] / shares[lane];
            out[lane] = if polls[lane].is_nan() { f64::NAN } else { mean };
        }
    }
}

impl<const TRIMS: bool> Ties<'_, TRIMS> {
    /// Adds up what those of each sign say. `voice` makes of a value and its product with the weight whose sign counts, and, with
    /// `POLLS`, what is added to the poll.
    #[inline(always)]
    fn hear<T: Magnitude, const LANES: usize, const POLLS: bool>(
        &self,
        tile: Tile<'_, T>,
        voice: impl Fn(f64, f64) -> (f64, f64),
    ) -> Sides<LANES> {
        let (mut positive, mut negative) = ([0.0; LANES], [0.0; LANES]);
        let (mut for_positive, mut for_negative) = ([0.0; LANES], [0.0; LANES]);
        let mut polls = [0.0; LANES];
        for (client, values) in tile.rows::<LANES>().enumerate() {
            let weight = self.weights[client];
            let share = self.share(weight);
            let bounds = if TRIMS {
                self.bounds[client]
            } else {
                Bounds::ALL
            };
            for lane in 0..LANES {
                let value = values[lane];
                let is_kept = !TRIMS | bounds.hold(value.sent_magnitude());
                let value = if is_kept { value } else { T::default() };
                let value = value.widen();
                let weighted = weight * value;
                let (voice, vote) = voice(value, weighted);
                let is_positive = voice > 0.0;
                positive[lane] += if is_positive { weighted } else { 0.0 };
                negative[lane] += if is_positive { 0.0 } else { weighted };
                for_positive[lane] = if is_positive {
                    for_positive[lane] + share
                } else {
                    for_positive[lane]
                };
                for_negative[lane] = if voice < 0.0 {
                    for_negative[lane] + share
                } else {
                    for_negative[lane]
                };
                if POLLS {
                    polls[lane] += vote;
                }
            }
        }
        Sides {
            positive,
            negative,
            for_positive,
            for_negative,
            polls,
        }
    }

    /// What a client adds to the divisor.
    #[inline(always)]
    fn share(&self, weight: f64) -> f64 {
        match self.ties.divide {
            Divide::Weights => weight,
            Divide::Count => 1.0,
            Divide::Nothing => 0.0,
        }
    }
}

/// Merges one block: rows that were trimmed, or rows of whose values only those within bounds are kept.
pub(super) fn combine<T: Magnitude>(
    weights: &[f64],
    ties: recipe::Ties,
    bounds: &[Bounds],
    rows: Rows<'_, T>,
    target: &mut Target<'_>,
) {
    if bounds.is_empty() {
        let rule = Ties::<false> {
            weights,
            ties,
            bounds,
        };
        tiles::run(&rule, rows, target);
    } else {
        let rule = Ties::<true> {
            weights,
            ties,
            bounds,
        };
        tiles::run(&rule, rows, target);
    }
}
