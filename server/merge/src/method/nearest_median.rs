//! Mean around the median (Xie et al., 2018): of each coordinate, the mean of the `n − f` values nearest to the median; and the second
//! stage of Bulyan (El Mhamdi et al., ICML 2018), of the `θ − 2f` nearest among the `θ` clients chosen.
//!
//! Of sorted values, the `k` nearest to a centre `m` are a run, which moves up by one for every `a` with `m − x₍ₐ₎ > x₍ₐ₊ₖ₎ − m`: so
//! of two values as far away the lower is kept. Added up in ascending order. Of `s` clients who sent a coordinate,
//! `min(f, ⌊(s − 1) / 2⌋)` are dropped once or twice; where `s` is at most `f`, the result is 0.

use super::trimmed_mean;
use crate::kernel::dispatch::vectorized;
use crate::kernel::{Element, Rows, Sorter, Target, WIDTH};

pub(super) fn combine<T: Element>(
    rows: Rows<'_, T>,
    tolerate: usize,
    sides: usize,
    sorter: &mut Sorter<T>,
    target: &mut Target<'_>,
) {
    let middle = (rows.count() - 1) / 2;
    let dropped = sides * dropped(tolerate, rows.count());
    let is_any_absent = combine_tiles(rows, sorter, target, |keys, out| {
        nearest_means::<T>(keys, middle, dropped, out);
    });
    if let Some(row) = target.row().filter(|_| is_any_absent) {
        sorter.of_supporters(rows, row, |sent| {
            if sent.len() <= tolerate {
                return 0.0;
            }
            nearest_mean(
                sent,
                (sent.len() - 1) / 2,
                sides * self::dropped(tolerate, sent.len()),
            )
        });
    }
}

/// Runs `work` on every sorted tile; whether any value is absent.
pub(super) fn combine_tiles<T: Element>(
    rows: Rows<'_, T>,
    sorter: &mut Sorter<T>,
    target: &mut Target<'_>,
    work: impl Fn(&[[T::Key; WIDTH]], &mut [f64; WIDTH]),
) -> bool {
    let mut is_any_absent = false;
    for start in (0..rows.len()).step_by(WIDTH) {
        let (keys, is_absent) = sorter.sorted(rows, start);
        is_any_absent |= is_absent;
        let mut means = [0.0; WIDTH];
        work(keys, &mut means);
        target.put_some(start, &means, WIDTH.min(rows.len() - start));
    }
    is_any_absent
}

/// How many values are dropped, once, of so many.
pub(super) fn dropped(tolerate: usize, supporters: usize) -> usize {
    trimmed_mean::trim(tolerate).dropped(supporters)
}

/// The mean of all but `dropped` values, those nearest to the mean of ranks `trim` to `n − trim`, for a tile of sorted values.
pub(super) fn nearest_means<T: Element>(
    keys: &[[T::Key; WIDTH]],
    trim: usize,
    dropped: usize,
    out: &mut [f64; WIDTH],
) {
    vectorized(
        #[inline(always)]
        || means::<T>(keys, trim, dropped, out),
    );
}

#[inline(always)]
#[expect(clippy::cast_precision_loss, reason = "counts of clients are small")]
fn means<T: Element>(
    keys: &[[T::Key; WIDTH]],
    trim: usize,
    dropped: usize,
    out: &mut [f64; WIDTH],
) {
    let mut centres = [0.0_f64; WIDTH];
    for rank in trim..keys.len() - trim {
        for (lane, centre) in centres.iter_mut().enumerate() {
            *centre += value::<T>(keys, rank, lane);
        }
    }
    for centre in &mut centres {
        *centre /= (keys.len() - 2 * trim) as f64;
    }
    let kept = keys.len() - dropped;
    let mut starts = [0.0_f64; WIDTH];
    for start in 0..dropped {
        for (lane, at) in starts.iter_mut().enumerate() {
            let (low, high) = (
                value::<T>(keys, start, lane),
                value::<T>(keys, start + kept, lane),
            );
            *at += if is_farther(low, centres[lane], high) {
                1.0
            } else {
                0.0
            };
        }
    }
    *out = [0.0; WIDTH];
    for rank in 0..keys.len() {
        let (first, last) = (rank as f64, rank as f64 - kept as f64);
        for lane in 0..WIDTH {
            let is_kept = (starts[lane] <= first) & (starts[lane] > last);
            out[lane] += if is_kept {
                value::<T>(keys, rank, lane)
            } else {
                0.0
            };
        }
    }
    for sum in out {
        *sum /= kept as f64;
    }
}

#[inline(always)]
fn value<T: Element>(keys: &[[T::Key; WIDTH]], rank: usize, lane: usize) -> f64 {
    T::of_key(keys[rank][lane]).widen()
}

/// Whether the lower end of a run is farther from the centre than what follows it; what is no number is infinitely far.
#[inline(always)]
fn is_farther(low: f64, centre: f64, high: f64) -> bool {
    distance(low, centre) > distance(centre, high)
}

#[inline(always)]
fn distance(low: f64, high: f64) -> f64 {
    if high - low < f64::INFINITY {
        high - low
    } else {
        f64::INFINITY
    }
}

/// The same for the values of one coordinate.
#[expect(clippy::cast_precision_loss, reason = "counts of clients are small")]
pub(super) fn nearest_mean(sorted: &[f64], trim: usize, dropped: usize) -> f64 {
    let mean =
        |values: &[f64]| values.iter().fold(0.0, |sum, value| sum + value) / values.len() as f64;
    let centre = mean(&sorted[trim..sorted.len() - trim]);
    let kept = sorted.len() - dropped;
    let is_passed = |&start: &usize| is_farther(sorted[start], centre, sorted[start + kept]);
    let start = (0..dropped).filter(is_passed).count();
    mean(&sorted[start..start + kept])
}
