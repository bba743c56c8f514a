//! Networks for few clients as straight-line code: the values of one coordinate stay in registers, and the compiler runs the code
//! on as many coordinates at once as a register holds.
//!
//! The code is the network of 16 rows; what a smaller count or a middle does not need is left out when it is compiled. It gives the same
//! bits as the lists that `sort.rs` runs, because it is the same network pruned by the same rule.

use std::array;

use super::dispatch::vectorized;
use super::network::{Need, Writes, batcher, writes};
use super::{Element, Rows, WIDTH};

/// The most rows.
const MOST: usize = 16;
const COMPARATORS: usize = 63;

/// All comparators, in order.
const NETWORK: [(usize, usize); COMPARATORS] = {
    let mut network = [(0, 0); COMPARATORS];
    assert!(
        batcher(MOST, &mut network) == COMPARATORS,
        "the network has this length"
    );
    network
};

/// The network of `N` rows of which the `F` lowest and highest are dropped and the rest is added up; with `F = N`, of all ranks.
struct Network<const N: usize, const F: usize>;

impl<const N: usize, const F: usize> Network<N, F> {
    const WRITES: [Writes; COMPARATORS] = {
        let mut needs = [Need::Nothing; MOST];
        let mut row = 0;
        while row < N {
            if F == N {
                needs[row] = Need::Rank;
            } else if row >= F && row + F < N {
                needs[row] = Need::Sum;
            }
            row += 1;
        }
        let mut all = [Writes::Nothing; COMPARATORS];
        let mut at = COMPARATORS;
        while at > 0 {
            at -= 1;
            let (low, high) = NETWORK[at];
            if high < N {
                all[at] = writes(needs[low], needs[high]);
                if !matches!(all[at], Writes::Nothing) {
                    needs[low] = Need::Rank;
                    needs[high] = Need::Rank;
                }
            }
        }
        all
    };

    #[inline(always)]
    fn run<K: Ord + Copy>(row: &mut [K; N]) {
        macro_rules! comparators {
            ($($at:literal)*) => {$({
                let (low, high) = const { NETWORK[$at] };
                match const { Self::WRITES[$at] } {
                    Writes::Nothing => {}
                    Writes::Low => row[low] = row[low].min(row[high]),
                    Writes::High => row[high] = row[low].max(row[high]),
                    Writes::Both => {
                        (row[low], row[high]) = (row[low].min(row[high]), row[low].max(row[high]));
                    }
                }
            })*};
        }
        comparators!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31);
        comparators!(32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62);
    }
}

/// One tile of every client's row; the last tile of a row is filled up.
#[inline(always)]
fn with_tiles<T: Element, const N: usize>(
    rows: Rows<'_, T>,
    start: usize,
    mut work: impl FnMut([&[T; WIDTH]; N]),
) {
    if rows.len() - start >= WIDTH {
        work(array::from_fn(|client| {
            let values = rows.row(client)[start..].first_chunk();
            values.expect("a whole tile is left")
        }));
    } else {
        let mut filled = [[T::default(); WIDTH]; N];
        for (filled, row) in filled.iter_mut().zip(rows.iter()) {
            filled[..rows.len() - start].copy_from_slice(&row[start..]);
        }
        work(array::from_fn(|client| &filled[client]));
    }
}

/// The mean of each coordinate's middle; whether any value is absent.
#[inline(always)]
fn means<T: Element, const N: usize, const F: usize>(rows: Rows<'_, T>, out: &mut [f64]) -> bool {
    let mut is_any_absent = false;
    let mut middle = [[T::Key::default(); WIDTH]; N];
    for (tile, out) in out.chunks_mut(WIDTH).enumerate() {
        let mut most = [T::Key::default(); WIDTH];
        with_tiles::<T, N>(
            rows,
            tile * WIDTH,
            #[inline(always)]
            |values| {
                for lane in 0..WIDTH {
                    let mut keys: [T::Key; N] = array::from_fn(|client| values[client][lane].key());
                    most[lane] = largest(keys);
                    Network::<N, F>::run(&mut keys);
                    for rank in F..N - F {
                        middle[rank][lane] = keys[rank];
                    }
                }
            },
        );
        is_any_absent |= most
            .iter()
            .fold(false, |any, &key| any | (key == T::ABSENT_KEY));
        let mut sums = [0.0_f64; WIDTH];
        for (lane, sum) in sums.iter_mut().enumerate() {
            for row in &middle[F..N - F] {
                *sum += T::of_key(row[lane]).widen();
            }
            *sum /= const { kept(N - 2 * F) };
        }
        out.copy_from_slice(&sums[..out.len()]);
    }
    is_any_absent
}

#[expect(clippy::cast_precision_loss, reason = "at most 16")]
const fn kept(count: usize) -> f64 {
    count as f64
}

/// In the order in which the network compares, so that the compiler finds the same maxima in both.
#[inline(always)]
fn largest<K: Ord + Copy, const N: usize>(mut keys: [K; N]) -> K {
    let mut distance = 1;
    while distance < N {
        let mut row = 0;
        while row + distance < N {
            keys[row] = keys[row].max(keys[row + distance]);
            row += 2 * distance;
        }
        distance *= 2;
    }
    keys[0]
}

/// Means of all but the `drop` lowest and highest values, and whether any is absent; none where there is no code for it.
pub(super) fn trimmed_means<T: Element>(
    rows: Rows<'_, T>,
    drop: usize,
    out: &mut [f64],
) -> Option<bool> {
    if const { size_of::<T>() > 4 } {
        return None;
    }
    macro_rules! choose {
        ($($clients:literal: $($drop:literal)*;)*) => {
            match (rows.count(), drop) {
                $($(($clients, $drop) => Some(vectorized(
                    #[inline(always)]
                    || means::<T, $clients, $drop>(rows, out),
                )),)*)*
                _ => None,
            }
        };
    }
    choose! {
        3: 1; 4: 1; 5: 1 2; 6: 1 2; 7: 1 2 3; 8: 1 2 3; 9: 1 2 3 4; 10: 1 2 3 4; 11: 1 2 3 4 5; 12: 1 2 3 4 5;
        13: 1 2 3 4 5 6; 14: 1 2 3 4 5 6; 15: 1 2 3 4 5 6 7; 16: 1 2 3 4 5 6 7;
    }
}

#[inline(always)]
fn sort_tile<T: Element, const N: usize>(
    rows: Rows<'_, T>,
    start: usize,
    keys: &mut [[T::Key; WIDTH]; N],
) {
    with_tiles::<T, N>(
        rows,
        start,
        #[inline(always)]
        |values| {
            let mut sorted = [[T::Key::default(); WIDTH]; N];
            for lane in 0..WIDTH {
                let mut column: [T::Key; N] = array::from_fn(|client| values[client][lane].key());
                Network::<N, N>::run(&mut column);
                for (sorted, key) in sorted.iter_mut().zip(column) {
                    sorted[lane] = key;
                }
            }
            *keys = sorted;
        },
    );
}

/// Sorts the keys of the tile that starts at `start`; false where there is no code for it.
pub(super) fn sort<T: Element>(
    rows: Rows<'_, T>,
    start: usize,
    keys: &mut [[T::Key; WIDTH]],
) -> bool {
    if const { size_of::<T>() > 4 } {
        return false;
    }
    macro_rules! choose {
        ($($clients:literal)*) => {
            match rows.count() {
                $($clients => vectorized(
                    #[inline(always)]
                    || sort_tile::<T, $clients>(rows, start, keys.first_chunk_mut().expect("a row for each client")),
                ),)*
                _ => return false,
            }
        };
    }
    choose!(2 3 4 5 6 7 8 9 10 11 12 13 14 15 16);
    true
}
