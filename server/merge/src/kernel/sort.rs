//! Sorts the clients' values of each coordinate, many coordinates at once.
//!
//! Up to [`NETWORK_CLIENTS`] clients, Batcher's odd-even merge network runs over a tile of [`WIDTH`] coordinates: a comparator is
//! a minimum and a maximum of two rows, which the compiler turns into vector instructions. Above, each coordinate is sorted
//! by itself. Both use integer keys in the total order of IEEE 754, so that no value is lost to NaN, and both give the
//! same bits: equal keys are equal values.

use std::mem::size_of;

use super::Rows;

/// How many coordinates are sorted together.
pub(crate) const WIDTH: usize = 64;

/// The most clients for which the network is used.
const NETWORK_CLIENTS: usize = 64;

/// Sorts tiles of so many clients; owns its memory.
#[derive(Debug)]
pub(crate) struct Sorter {
    clients: usize,
    comparators: Vec<(usize, usize)>,
    keys: Vec<i32>,
    column: Vec<i32>,
}

impl Sorter {
    /// Room for one tile of `clients` rows.
    pub(crate) fn new(clients: usize) -> Self {
        let is_network = clients <= NETWORK_CLIENTS;
        Self {
            clients,
            comparators: if is_network {
                network(clients)
            } else {
                Vec::new()
            },
            keys: vec![0; clients * WIDTH],
            column: if is_network {
                Vec::new()
            } else {
                vec![0; clients]
            },
        }
    }

    /// An upper bound of what a sorter for `clients` allocates; `None` when it cannot be counted.
    pub(crate) fn bytes(clients: usize) -> Option<usize> {
        // 543 comparators sort 64; a growing list may take twice its length.
        let network = 2 * 543 * size_of::<(usize, usize)>();
        clients
            .checked_mul((WIDTH + 1) * size_of::<i32>())?
            .checked_add(network)
    }

    /// Sorts each coordinate of the tile that starts at `start`; gives one row for each rank, lowest first.
    pub(crate) fn sort(&mut self, rows: Rows<'_, T>, start: usize) -> Ranks<'_> {
        let width = WIDTH.min(rows.len() - start);
        for (keys, row) in self.keys.chunks_exact_mut(WIDTH).zip(rows.iter()) {
            for (slot, &value) in keys.iter_mut().zip(&row[start..start + width]) {
                *slot = key(value);
            }
        }
        if self.clients <= NETWORK_CLIENTS {
            self.run_network();
        } else {
            self.sort_columns(width);
        }
        Ranks {
            keys: &self.keys,
            width,
        }
    }

    fn run_network(&mut self) {
        for &(low, high) in &self.comparators {
            let (head, tail) = self.keys.split_at_mut(high * WIDTH);
            let low = &mut head[low * WIDTH..(low + 1) * WIDTH];
            for (low, high) in low.iter_mut().zip(&mut tail[..WIDTH]) {
                (*low, *high) = ((*low).min(*high), (*low).max(*high));
            }
        }
    }

    fn sort_columns(&mut self, width: usize) {
        for lane in 0..width {
            for (slot, keys) in self.column.iter_mut().zip(self.keys.chunks_exact(WIDTH)) {
                *slot = keys[lane];
            }
            self.column.sort_unstable();
            for (slot, keys) in self.column.iter().zip(self.keys.chunks_exact_mut(WIDTH)) {
                keys[lane] = *slot;
            }
        }
    }
}

/// A sorted tile.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ranks<'a> {
    keys: &'a [i32],
    width: usize,
}

impl<'a> Ranks<'a> {
    /// The values of one rank: one for each coordinate of the tile.
    pub(crate) fn rank(&self, rank: usize) -> impl Iterator<Item = f64> + use<'a> {
        self.keys[rank * WIDTH..][..self.width]
            .iter()
            .map(|&key| f64::from(value(key)))
    }
}

/// A signed integer that orders as the value does: -NaN, -inf, ..., -0, +0, ..., +inf, +NaN.
fn key(value: f32) -> i32 {
    let bits = value.to_bits().cast_signed();
    bits ^ ((bits >> 31) & i32::MAX)
}

/// The value of a key.
fn value(key: i32) -> f32 {
    f32::from_bits((key ^ ((key >> 31) & i32::MAX)).cast_unsigned())
}

/// Batcher's odd-even merge sort for any count: comparators of the next power of two that touch no row beyond the end.
fn network(count: usize) -> Vec<(usize, usize)> {
    let mut comparators = Vec::new();
    let mut sorted = 1;
    while sorted < count {
        let mut distance = sorted;
        while distance >= 1 {
            let first = distance % sorted;
            let starts = (first..count.saturating_sub(distance)).step_by(2 * distance);
            let pairs =
                starts.flat_map(|start| (start..start + distance).map(|low| (low, low + distance)));
            let is_inside = |&(low, high): &(usize, usize)| {
                high < count && low / (2 * sorted) == high / (2 * sorted)
            };
            comparators.extend(pairs.filter(is_inside));
            distance /= 2;
        }
        sorted *= 2;
    }
    comparators
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pattern after one comparator: a one below a zero changes places with it.
    fn exchanged(bits: u32, &(low, high): &(usize, usize)) -> u32 {
        if (bits >> low & 1, bits >> high & 1) == (1, 0) {
            bits ^ (1 << low | 1 << high)
        } else {
            bits
        }
    }

    #[test]
    fn the_network_sorts_every_pattern_of_zeros_and_ones_that_decides_it() {
        for count in 0..=16_usize {
            let comparators = network(count);
            for pattern in 0..1_u32 << count {
                let bits = comparators.iter().fold(pattern, exchanged);
                let ones = pattern.count_ones() as usize;
                assert_eq!(bits, ((1 << ones) - 1) << (count - ones), "{count}");
            }
        }
    }

    #[test]
    fn network_and_columns_agree_with_a_plain_sort_to_the_bit() {
        for clients in [1, 2, 3, 31, 63, 64, 65, 257] {
            let mut state = 7_u32;
            let values: Vec<f32> = (0..clients * 100)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    f32::from_bits(state)
                })
                .collect();
            let rows = Rows::new(&values, 100, 100);
            let mut sorter = Sorter::new(clients);
            for start in [0, WIDTH] {
                let ranks = sorter.sort(rows, start);
                for lane in 0..WIDTH.min(100 - start) {
                    let mut column: Vec<f32> = rows.iter().map(|row| row[start + lane]).collect();
                    column.sort_by(f32::total_cmp);
                    let sorted =
                        (0..clients).map(|rank| value(ranks.keys[rank * WIDTH + lane]).to_bits());
                    assert!(sorted.eq(column.iter().map(|value| value.to_bits())));
                }
            }
        }
    }

    #[test]
    fn the_bound_covers_the_largest_network() {
        assert_eq!(network(64).len(), 543);
    }
}
