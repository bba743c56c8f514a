//! Networks for few clients as straight-line code: the values of one coordinate stay in registers, and the compiler runs the code
//! on as many coordinates at once as a register holds.
//!
//! The code is the network of 16 rows; what a smaller count or a middle does not need is left out when it is compiled. It gives the same
//! bits as the lists that `sort.rs` runs, because it is the same network pruned by the same rule.

use std::array;

use super::dispatch::vectorized;
use super::network::{Need, Writes, batcher, writes};
use super::{Element, Rows, Target, WIDTH};

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

/// A tile of every client's row.
#[inline(always)]
fn whole<T, const N: usize>(rows: Rows<'_, T>, start: usize) -> [&[T; WIDTH]; N] {
    array::from_fn(
        #[inline(always)]
        |client| {
            rows.row(client)[start..]
                .first_chunk()
                .expect("a whole tile is left")
        },
    )
}

/// What is left of every client's row, filled up.
#[inline(always)]
fn filled<T: Element, const N: usize>(rows: Rows<'_, T>, start: usize) -> [[T; WIDTH]; N] {
    let mut filled = [[T::default(); WIDTH]; N];
    for (filled, row) in filled.iter_mut().zip(rows.iter()) {
        let rest = &row[start..];
        filled[..rest.len()].copy_from_slice(rest);
    }
    filled
}

/// What is kept between tiles.
struct Scratch<K, const N: usize> {
    /// The smallest key that each lane has seen.
    least: [K; WIDTH],
    /// The largest.
    most: [K; WIDTH],
    /// The rows of the middle.
    middle: [[K; WIDTH]; N],
}

/// The mean of each coordinate's middle; whether all values are numbers.
#[inline(always)]
fn means<T: Element, const N: usize, const F: usize>(
    rows: Rows<'_, T>,
    target: &mut Target<'_>,
) -> bool {
    let mut scratch = Scratch {
        least: [T::Key::default(); WIDTH],
        most: [T::Key::default(); WIDTH],
        middle: [[T::Key::default(); WIDTH]; N],
    };
    let mut means = [0.0; WIDTH];
    let rest = rows.len() % WIDTH;
    let whole_len = rows.len() - rest;
    for start in (0..whole_len).step_by(WIDTH) {
        means_of_tile::<T, N, F>(whole(rows, start), &mut scratch, &mut means);
        // A copy of unknown length would cost a fifth of the time.
        target.put(start, &means);
    }
    if rest > 0 {
        let filled = filled::<T, N>(rows, whole_len);
        means_of_tile::<T, N, F>(filled.each_ref(), &mut scratch, &mut means);
        target.put_some(whole_len, &means, rest);
    }
    let [smallest, largest] = T::NUMBER_KEYS;
    let least = scratch.least.iter().all(|key| *key >= smallest);
    least && scratch.most.iter().all(|key| *key <= largest)
}

/// In two loops, so that the first, which has narrow keys alone, runs on as many coordinates at once as a register holds of them.
#[inline(always)]
fn means_of_tile<T: Element, const N: usize, const F: usize>(
    values: [&[T; WIDTH]; N],
    Scratch {
        least,
        most,
        middle,
    }: &mut Scratch<T::Key, N>,
    out: &mut [f64; WIDTH],
) {
    for lane in 0..WIDTH {
        let mut keys: [T::Key; N] = array::from_fn(
            #[inline(always)]
            |client| values[client][lane].key(),
        );
        most[lane] = most[lane].max(largest(keys));
        least[lane] = least[lane].min(smallest(keys));
        Network::<N, F>::run(&mut keys);
        for rank in F..N - F {
            middle[rank][lane] = keys[rank];
        }
    }
    for lane in 0..WIDTH {
        let mut sum = 0.0;
        for row in &middle[F..N - F] {
            sum += T::of_key(row[lane]).widen();
        }
        out[lane] = sum / const { kept(N - 2 * F) };
    }
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

/// The same for minima.
#[inline(always)]
fn smallest<K: Ord + Copy, const N: usize>(mut keys: [K; N]) -> K {
    let mut distance = 1;
    while distance < N {
        let mut row = 0;
        while row + distance < N {
            keys[row] = keys[row].min(keys[row + distance]);
            row += 2 * distance;
        }
        distance *= 2;
    }
    keys[0]
}

/// Means of all but the `drop` lowest and highest values, and whether all are numbers; none where there is no code for it.
pub(super) fn trimmed_means<T: Element>(
    rows: Rows<'_, T>,
    drop: usize,
    target: &mut Target<'_>,
) -> Option<bool> {
    if const { size_of::<T>() > 4 } {
        return None;
    }
    macro_rules! choose {
        ($($clients:literal: $($drop:literal)*;)*) => {
            match (rows.count(), drop) {
                $($(($clients, $drop) => Some(vectorized(
                    #[inline(always)]
                    || means::<T, $clients, $drop>(rows, target),
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
    sorted: &mut [[T::Key; WIDTH]; N],
) {
    if rows.len() - start >= WIDTH {
        sort_values::<T, N>(whole(rows, start), sorted);
    } else {
        sort_values::<T, N>(filled::<T, N>(rows, start).each_ref(), sorted);
    }
}

#[inline(always)]
fn sort_values<T: Element, const N: usize>(
    values: [&[T; WIDTH]; N],
    sorted: &mut [[T::Key; WIDTH]; N],
) {
    for lane in 0..WIDTH {
        let mut column: [T::Key; N] = array::from_fn(
            #[inline(always)]
            |client| values[client][lane].key(),
        );
        Network::<N, N>::run(&mut column);
        for rank in 0..N {
            sorted[rank][lane] = column[rank];
        }
    }
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
