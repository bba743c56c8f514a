//! Finds two ranks of each coordinate for many clients, without sorting: bit by bit from the highest, the key of a rank is raised as long
//! as no more keys than its rank lie below it.
//!
//! One more pass adds up what lies strictly between the two, in the clients' order; copies of the two themselves are counted apart and
//! come last, the lower first, because of equal values some may belong to the middle and some not.

use super::dispatch::vectorized;
use super::{Element, Trim, WIDTH};

/// An integer that can be found bit by bit.
pub(crate) trait Key: Copy + Ord {
    /// How many bits it has.
    const BITS: u32;
    /// The smallest.
    const LEAST: Self;

    /// With a bit set that is not: larger by its worth, counted from [`Self::LEAST`].
    fn raised(self, bit: u32) -> Self;
}

macro_rules! key {
    ($($integer:ty)*) => {$(
        impl Key for $integer {
            const BITS: u32 = <$integer>::BITS;
            const LEAST: Self = <$integer>::MIN;

            #[inline(always)]
            fn raised(self, bit: u32) -> Self {
                self ^ (1 << bit)
            }
        }
    )*};
}
key!(i16 i32 i64);

/// Coordinates that are looked at together: as many as a register of keys holds.
const LANES: usize = 32;

/// The two ends of each coordinate's middle.
struct Ends<K> {
    ranks: [[u32; LANES]; 2],
    keys: [[K; LANES]; 2],
}

/// The trimmed mean of each coordinate of a tile; 0 where too few clients sent it.
pub(super) fn trimmed_means<T: Element>(
    keys: &[[T::Key; WIDTH]],
    trim: Trim,
    out: &mut [f64; WIDTH],
) {
    vectorized(
        #[inline(always)]
        || {
            for (part, out) in out.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
                means::<T>(keys, part * LANES, trim, out);
            }
        },
    );
}

#[inline(always)]
fn means<T: Element>(keys: &[[T::Key; WIDTH]], start: usize, trim: Trim, out: &mut [f64; LANES]) {
    let rows = || keys.iter().map(|row| part::<T>(row, start));
    let mut supporters = [0_u32; LANES];
    for row in rows() {
        for (count, &key) in supporters.iter_mut().zip(row) {
            *count = count.wrapping_add(u32::from(key != T::ABSENT_KEY));
        }
    }
    let mut ends = Ends {
        ranks: [[0; LANES]; 2],
        keys: [[T::Key::LEAST; LANES]; 2],
    };
    for (lane, &count) in supporters.iter().enumerate() {
        let drop = trim.drop(count);
        ends.ranks[0][lane] = drop;
        ends.ranks[1][lane] = count.saturating_sub(1).saturating_sub(drop);
    }
    find::<T>(rows(), &mut ends);
    *out = middle::<T>(rows(), &ends);
    for (mean, count) in out.iter_mut().zip(supporters) {
        *mean = if count < trim.support { 0.0 } else { *mean };
    }
}

#[inline(always)]
fn part<T: Element>(row: &[T::Key; WIDTH], start: usize) -> &[T::Key; LANES] {
    row[start..]
        .first_chunk()
        .expect("a tile is a whole number of parts")
}

/// Finds the key of each rank.
#[inline(always)]
fn find<'a, T: Element>(
    rows: impl Iterator<Item = &'a [T::Key; LANES]> + Clone,
    ends: &mut Ends<T::Key>,
) {
    for bit in (0..T::Key::BITS).rev() {
        let probes = ends.keys.map(|keys| {
            keys.map(
                #[inline(always)]
                |key| key.raised(bit),
            )
        });
        let mut below = [[0_u32; LANES]; 2];
        for row in rows.clone() {
            for lane in 0..LANES {
                below[0][lane] =
                    below[0][lane].wrapping_add(u32::from(row[lane] < probes[0][lane]));
                below[1][lane] =
                    below[1][lane].wrapping_add(u32::from(row[lane] < probes[1][lane]));
            }
        }
        for end in 0..2 {
            for lane in 0..LANES {
                let is_reached = below[end][lane] <= ends.ranks[end][lane];
                ends.keys[end][lane] = if is_reached {
                    probes[end][lane]
                } else {
                    ends.keys[end][lane]
                };
            }
        }
    }
}

/// The mean of what lies between the ends, with as many copies of the ends as belong to it.
#[inline(always)]
fn middle<'a, T: Element>(
    rows: impl Iterator<Item = &'a [T::Key; LANES]>,
    ends: &Ends<T::Key>,
) -> [f64; LANES] {
    let [low, high] = ends.keys;
    let mut sums = [0.0_f64; LANES];
    let (mut up_to_low, mut below_high) = ([0_u32; LANES], [0_u32; LANES]);
    for row in rows {
        for lane in 0..LANES {
            let key = row[lane];
            let is_between = (key > low[lane]) & (key < high[lane]);
            sums[lane] += if is_between {
                T::of_key(key).widen()
            } else {
                0.0
            };
            up_to_low[lane] = up_to_low[lane].wrapping_add(u32::from(key <= low[lane]));
            below_high[lane] = below_high[lane].wrapping_add(u32::from(key < high[lane]));
        }
    }
    for (lane, sum) in sums.iter_mut().enumerate() {
        let [first, last] = ends.ranks.map(|ranks| ranks[lane]);
        let [least, most] = [low, high].map(|keys| T::of_key(keys[lane]).widen());
        *sum = if low[lane] == high[lane] {
            least
        } else {
            let lows = f64::from(up_to_low[lane].wrapping_sub(first));
            let highs = f64::from(last.wrapping_sub(below_high[lane]).wrapping_add(1));
            (*sum + lows * least + highs * most)
                / f64::from(last.wrapping_sub(first).wrapping_add(1))
        };
    }
    sums
}
