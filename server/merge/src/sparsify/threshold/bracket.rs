//! From a sample to an interval that holds the magnitude of a rank, almost surely.
//!
//! The rank's quantile of the sample is the pivot. How far it may be off is measured, not assumed: the share of values at or above it differs from
//! run to run, and more so where neighbours resemble each other. The interval reaches as many standard errors to either side as make a
//! second pass rare. Where a key that so many values share fills it, nothing else is inside.

use super::interval::Interval;
use crate::sparsify::magnitude::Magnitude;

/// How many standard errors an interval reaches to either side: about one of 2000 misses.
const REACH: f64 = 3.5;
/// How many more values may be inside than expected.
const MARGIN: f64 = 1.25;
/// How many consecutive sampled keys are taken as one observation.
const CLUSTER: usize = 64;

/// An interval for the magnitude of `rank` among `values`, and how many values to expect inside at most. `spare` is as long as
/// the sample, which is not empty.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate; a float's cast saturates"
)]
pub(super) fn bracket<T: Magnitude>(
    sample: &[u32],
    spare: &mut [u32],
    rank: u64,
    values: u64,
) -> (Interval, u64) {
    spare.copy_from_slice(sample);
    let len = sample.len();
    let share = rank as f64 / values as f64;
    let place = share * len as f64;
    let middle = (place as usize).min(len - 1);
    let descending = |a: &u32, b: &u32| b.cmp(a);
    let (above, &mut pivot, below) = spare.select_nth_unstable_by(middle, descending);
    let spread = deviation(sample, pivot).max((place * (1.0 - share) + 1.0).sqrt());
    let reach = REACH * spread + 1.0;
    let top = if place < reach {
        T::END - 1
    } else {
        key_at(above, (place - reach) as usize).unwrap_or(pivot)
    };
    let low = key_at(below, ((place + reach) as usize).saturating_sub(middle + 1));
    let interval = Interval::between(low, top);
    let inside = sample.iter().filter(|&&key| interval.contains(key)).count();
    let expected = inside as f64 / len as f64 * values as f64 * MARGIN + 1024.0;
    (interval, expected as u64)
}

/// The key at a place in descending order, where there is such a place.
fn key_at(keys: &mut [u32], place: usize) -> Option<u32> {
    (place < keys.len()).then(|| *keys.select_nth_unstable_by(place, |a, b| b.cmp(a)).1)
}

/// The standard error of the number of sampled keys above the pivot, from how much it differs between clusters; the larger of those with and
/// without keys equal to it.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn deviation(sample: &[u32], pivot: u32) -> f64 {
    let error = |is_above: &dyn Fn(&[u32]) -> usize| {
        let clusters = sample.chunks_exact(CLUSTER);
        let count = clusters.len() as f64;
        if count < 2.0 {
            return 0.0;
        }
        let (mut sum, mut squares) = (0.0, 0.0);
        for cluster in clusters {
            let above = is_above(cluster) as f64;
            sum += above;
            squares += above * above;
        }
        let variance = (squares - sum * sum / count) / (count - 1.0);
        (variance * count).max(0.0).sqrt()
    };
    let at_least = error(&|keys| keys.iter().filter(|&&key| key >= pivot).count());
    let above = error(&|keys| keys.iter().filter(|&&key| key > pivot).count());
    at_least.max(above)
}
