//! The trim of TIES: keeps the largest magnitudes of a task vector, exactly, without sorting it.
//!
//! Of `n` values, `k = max(1, ⌊density · n⌋)` are kept: those whose magnitude is at least that of the `k`-th largest; so values
//! equal to it are all kept, and no order of coordinates matters. The threshold is found by counting: the bits of `|x|` order
//! as `|x|` does, a first count takes their upper 16 bits, a second the lower 15 within the bin of the threshold.
//! NaN counts as larger than infinity.

use std::mem::size_of;

use crate::recipe::{Method, Recipe, TrimScope};

/// How many of the 31 bits of a magnitude the second count takes.
const LOW_BITS: u32 = 15;
/// How many bins the first count needs, and the second half of them.
const BINS: usize = 1 << 16;

/// A trim that drops something.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Trim {
    density: f64,
    pub(crate) scope: TrimScope,
}

impl Trim {
    /// The trim of a recipe; none where all values are kept.
    pub(crate) fn of(recipe: &Recipe) -> Option<Self> {
        match recipe.method {
            Method::Ties { density, scope, .. } if density < 1.0 => Some(Self { density, scope }),
            Method::Mean
            | Method::Median
            | Method::TrimmedMean { .. }
            | Method::TaskArithmetic { .. }
            | Method::Ties { .. } => None,
        }
    }

    /// How many of so many values are kept, but for ties.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a count is a count; a float's cast saturates"
    )]
    pub(crate) fn keep(&self, values: usize) -> u64 {
        ((self.density * values as f64) as u64).max(1)
    }
}

/// The magnitude of a value, as an integer of 31 bits in the same order.
pub(crate) fn magnitude(value: f32) -> u32 {
    value.to_bits() & !(1 << 31)
}

/// Zeroes all values below a threshold that is a magnitude.
pub(crate) fn apply(values: &mut [f32], threshold: u32) {
    for value in values {
        if magnitude(*value) < threshold {
            *value = 0.0;
        }
    }
}

/// A count of magnitudes by some of their bits.
#[derive(Debug)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
}

/// Where a rank lies: the bin, and the rank within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    bin: u32,
    pub(crate) rank: u64,
}

impl Place {
    /// The magnitude that a place among upper bits and one among lower bits make together.
    pub(crate) fn threshold(upper: Self, lower: Self) -> u32 {
        upper.bin << LOW_BITS | lower.bin
    }
}

impl Histogram {
    /// What a histogram allocates.
    pub(crate) const BYTES: usize = BINS * size_of::<u64>();

    /// Nothing counted yet.
    pub(crate) fn new() -> Self {
        Self {
            counts: vec![0; BINS],
        }
    }

    /// Counts by the upper bits.
    pub(crate) fn count_upper(&mut self, values: &[f32]) {
        for &value in values {
            self.counts[(magnitude(value) >> LOW_BITS) as usize] += 1;
        }
    }

    /// Counts by the lower bits those that lie in the bin of `place`.
    pub(crate) fn count_lower(&mut self, values: &[f32], place: Place) {
        for &value in values {
            let magnitude = magnitude(value);
            if magnitude >> LOW_BITS == place.bin {
                self.counts[(magnitude & ((1 << LOW_BITS) - 1)) as usize] += 1;
            }
        }
    }

    /// Where the value of this rank lies, 1 being the largest, and forgets all counts.
    pub(crate) fn take(&mut self, rank: u64) -> Place {
        let mut place = Place { bin: 0, rank };
        for (bin, &count) in (0_u32..1 << 16).zip(&self.counts).rev() {
            place.bin = bin;
            if count >= place.rank {
                break;
            }
            place.rank -= count;
        }
        self.counts.fill(0);
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threshold_is_the_kth_largest_magnitude_to_the_bit() {
        let mut state = 3_u32;
        for len in [1_usize, 2, 100, 5000] {
            let values: Vec<f32> = (0..len)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    f32::from_bits(state >> (state % 3))
                })
                .collect();
            let mut sorted: Vec<u32> = values.iter().copied().map(magnitude).collect();
            sorted.sort_unstable_by(|a, b| b.cmp(a));
            let mut histogram = Histogram::new();
            for rank in [1, len / 3 + 1, len] {
                histogram.count_upper(&values);
                let upper = histogram.take(rank as u64);
                histogram.count_lower(&values, upper);
                let lower = histogram.take(upper.rank);
                assert_eq!(Place::threshold(upper, lower), sorted[rank - 1]);
            }
        }
    }

    #[test]
    fn at_least_one_value_is_kept() {
        let trim = Trim {
            density: 0.2,
            scope: TrimScope::Tensor,
        };
        assert_eq!(
            [1, 4, 5, 9, 10].map(|values| trim.keep(values)),
            [1, 1, 1, 1, 2]
        );
    }
}
