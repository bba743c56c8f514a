//! TIES (Yadav et al., NeurIPS 2023): elect a sign for each coordinate, average those who agree with it.
//!
//! The trim has happened: small values are 0 here, and agree with nobody. With `dᵢ = wᵢxᵢ`, the sign is that of a [`Elect`] poll, and
//! the result `Σ dᵢ` over those of that sign, divided by their weights, their number or nothing ([`Divide`]); a divisor of 0 is 1.
//! Whose sign counts: that of `dᵢ`, as in mergekit, so that a negative weight turns a vote; by plain mass that of `xᵢ`, as in
//! PEFT. Election by mass is not robust: one client with large values decides. A coordinate with NaN in its poll stays NaN.

use super::mean;
use super::sign_majority::sign;
use super::tiles::{Streamed, Tile};
use crate::kernel::Element;
use crate::recipe::{self, Divide, Elect, Even};

pub(super) struct Ties<'a> {
    pub(super) weights: &'a [f64],
    pub(super) ties: recipe::Ties,
}

impl Streamed for Ties<'_> {
    #[inline(always)]
    fn merge<T: Element, const LANES: usize>(&self, tile: Tile<'_, T>, out: &mut [f64; LANES]) {
        let elected = self.elect::<T, LANES>(tile);
        match self.ties.elect {
            Elect::Mass | Elect::Count => self.average(
                tile,
                &elected,
                #[inline(always)]
                |_, weighted| weighted,
                out,
            ),
            Elect::PlainMass => self.average(
                tile,
                &elected,
                #[inline(always)]
                |value, _| value,
                out,
            ),
        }
    }
}

impl Ties<'_> {
    /// The elected sign of each coordinate: 1, -1, 0 where nobody is to agree, or NaN.
    #[inline(always)]
    fn elect<T: Element, const LANES: usize>(&self, tile: Tile<'_, T>) -> [f64; LANES] {
        let mut polls = [0.0_f64; LANES];
        match self.ties.elect {
            Elect::Mass => mean::add(tile, self.weights, &mut polls),
            Elect::PlainMass => {
                for values in tile.rows::<LANES>() {
                    for lane in 0..LANES {
                        polls[lane] += values[lane].widen();
                    }
                }
            }
            Elect::Count => {
                for (values, &weight) in tile.rows::<LANES>().zip(self.weights) {
                    let side = sign(weight);
                    for lane in 0..LANES {
                        polls[lane] += side * sign(values[lane].widen());
                    }
                }
            }
        }
        let even = match self.ties.even {
            Even::Nothing => 0.0,
            Even::Positive => 1.0,
        };
        for poll in &mut polls {
            let elected = if *poll == 0.0 { even } else { sign(*poll) };
            *poll = if poll.is_nan() { f64::NAN } else { elected };
        }
        polls
    }

    /// Averages those whose voice, of a value and its product with the weight, has the elected sign.
    #[inline(always)]
    fn average<T: Element, const LANES: usize>(
        &self,
        tile: Tile<'_, T>,
        elected: &[f64; LANES],
        voice: impl Fn(f64, f64) -> f64,
        out: &mut [f64; LANES],
    ) {
        let (mut sums, mut shares) = ([0.0_f64; LANES], [0.0_f64; LANES]);
        for (values, &weight) in tile.rows::<LANES>().zip(self.weights) {
            let share = self.share(weight);
            for lane in 0..LANES {
                let value = values[lane].widen();
                let weighted = weight * value;
                let agrees = elected[lane] * voice(value, weighted) > 0.0;
                sums[lane] = if agrees {
                    sums[lane] + weighted
                } else {
                    sums[lane]
                };
                shares[lane] = if agrees {
                    shares[lane] + share
                } else {
                    shares[lane]
                };
            }
        }
        for lane in 0..LANES {
            let mean = sums[lane]
                / if shares[lane] == 0.0 {
                    1.0
                } else {
                    shares[lane]
                };
            out[lane] = if elected[lane].is_nan() {
                f64::NAN
            } else {
                mean
            };
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
