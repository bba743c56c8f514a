//! DELLA's magnitude pruning (Deep, Bhardwaj and Poria, "DELLA-Merging: reducing interference in model merging through magnitude-based
//! sampling", 2024): keeps each value by a chance that grows with its rank in its row.
//!
//! `pᵢ = density − ε + 2ε ρᵢ` with `ρᵢ = rᵢ / (len − 1)`, where `rᵢ` counts the values of the row with smaller magnitudes; of equal ones the
//! earlier counts as smaller. A row of one value has `p = density`. A row is a run along the tensor's last dimension. The division by `pᵢ`, which
//! keeps the expected value, is the recipe's choice. Draws are those of DARE.

use std::mem::size_of;

use super::Place;
use super::magnitude::Magnitude;
use super::mass::scaled;
use crate::kernel::dispatch::vectorized;
use crate::noise::{Stream, last_hit};
use crate::recipe::Rescale;

/// The rule with its numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Della {
    pub(super) density: f64,
    pub(super) epsilon: f64,
    pub(super) rescale: Rescale,
    pub(super) seed: u64,
}

/// How many values a byte of a magnitude has: one byte is sorted at a time.
const DIGITS: usize = 256;

/// Ranks the magnitudes of rows; owns its memory.
#[derive(Debug, Default)]
pub(crate) struct Ranker {
    row: usize,
    /// Magnitude above, place in the row below.
    keys: Vec<u64>,
    spare: Vec<u64>,
    words: Vec<u32>,
}

impl Ranker {
    /// What rows of so many values need; `None` when it cannot be counted.
    pub(crate) fn bytes(longest_row: usize) -> Option<usize> {
        longest_row.checked_mul(2 * size_of::<u64>() + size_of::<u32>())
    }

    /// Room for rows up to this length.
    pub(crate) fn new(longest_row: usize) -> Self {
        Self {
            row: longest_row,
            keys: vec![0; longest_row],
            spare: vec![0; longest_row],
            words: vec![0; longest_row],
        }
    }

    /// Takes rows of another length from here on, not longer than the longest.
    pub(crate) fn set_row(&mut self, row: usize) {
        debug_assert!(row <= self.keys.len(), "the plan knew the longest row");
        self.row = row;
    }
}

/// Sorts a row: keys with the magnitude above and the place in the row below, smallest first.
fn sort<'a, T: Magnitude>(
    values: &[T],
    mut keys: &'a mut [u64],
    mut spare: &'a mut [u64],
) -> &'a [u64] {
    let mut counts = [[0_u32; DIGITS]; 4];
    for ((slot, &value), place) in keys.iter_mut().zip(values).zip(0_u64..) {
        let key = value.magnitude();
        *slot = u64::from(key) << 32 | place;
        for (count, digit) in counts.iter_mut().zip(key.to_le_bytes()) {
            count[usize::from(digit)] += 1;
        }
    }
    let bits = u32::BITS - (T::END - 1).leading_zeros();
    for (shift, counts) in (0..bits).step_by(8).zip(&mut counts) {
        spread(keys, spare, counts, 32 + shift);
        (keys, spare) = (spare, keys);
    }
    keys
}

/// One pass of a radix sort, which keeps the order of equal digits.
fn spread(from: &[u64], to: &mut [u64], counts: &mut [u32; DIGITS], shift: u32) {
    let mut before = 0;
    for count in counts.iter_mut() {
        (*count, before) = (before, before + *count);
    }
    for &key in from {
        let slot = &mut counts[usize::from((key >> shift).to_le_bytes()[0])];
        to[*slot as usize] = key;
        *slot += 1;
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the lower half is the place in the row"
)]
fn place_of(key: u64) -> usize {
    (key as u32) as usize
}

impl Della {
    /// Puts `fill` where chance says so. `values` are whole rows of the ranker's length.
    pub(super) fn apply<T: Magnitude>(
        &self,
        values: &mut [T],
        at: Place,
        fill: T,
        ranker: &mut Ranker,
    ) {
        let row = ranker.row.max(1);
        debug_assert!(values.len().is_multiple_of(row), "whole rows");
        let stream = Stream::of(self.seed, at.client, at.tensor);
        let mut index = at.offset;
        for values in values.chunks_mut(row) {
            let len = values.len();
            let words = &mut ranker.words[..len];
            vectorized(
                #[inline(always)]
                || stream.fill(index, words),
            );
            index += len as u64;
            let sorted = sort(values, &mut ranker.keys[..len], &mut ranker.spare[..len]);
            for (rank, &key) in (0_u32..).zip(sorted) {
                let place = place_of(key);
                let probability = self.probability(rank, len);
                values[place] = self.drawn(values[place], fill, words[place], probability);
            }
        }
    }

    /// The probability with which the value of this rank, 0 being the smallest, is kept in a row of `len`.
    #[expect(clippy::cast_precision_loss, reason = "a row is shorter than 2^52")]
    fn probability(&self, rank: u32, len: usize) -> f64 {
        if len <= 1 {
            return self.density;
        }
        let share = f64::from(rank) / (len - 1) as f64;
        (self.density - self.epsilon) + 2.0 * self.epsilon * share
    }

    /// The value, or what takes its place.
    fn drawn<T: Magnitude>(&self, value: T, fill: T, word: u32, probability: f64) -> T {
        if value.is_absent() {
            return value;
        }
        if word > last_hit(probability) {
            return fill;
        }
        match self.rescale {
            Rescale::Nothing | Rescale::Mass => value,
            Rescale::Probability => scaled(value, 1.0 / probability),
        }
    }
}
