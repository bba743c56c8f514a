//! Model Breadcrumbs (Davari and Belilovsky, "Model breadcrumbs: scaling multi-task model merging with sparse masks", ECCV 2024): drops the
//! largest magnitudes as outliers and the smallest as noise.
//!
//! Of `n` values, `⌊γ · n⌋` are dropped as the largest, `max(1, ⌊density · n⌋)` are kept, and the rest are dropped as the smallest. Where that
//! rest would be negative, fewer are dropped as the largest. Values equal to the smallest or largest one kept are kept too.
//! Where none is to be dropped as the largest, none is: mergekit's slice `[n_bot : -0]` drops all.

use super::magnitude::{Kept, share_of};

/// The ranks of so many values that are kept.
pub(super) fn kept(density: f64, gamma: f64, values: u64) -> Kept {
    let target = share_of(values, density).max(1);
    let largest = share_of(values, gamma).min(values.saturating_sub(target));
    Kept {
        first: largest + 1,
        last: largest + target,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn largest_and_smallest_are_dropped_around_the_share_that_is_kept() {
        let ranks = |first, last| Kept { first, last };
        assert_eq!(kept(0.5, 0.1, 100), ranks(11, 60));
        // No room at the bottom: fewer are dropped at the top.
        assert_eq!(kept(0.95, 0.1, 100), ranks(6, 100));
        // Nothing to drop at the top.
        assert_eq!(kept(0.5, 0.01, 50), ranks(1, 25));
        assert_eq!(kept(0.5, 0.9, 1), ranks(1, 1));
        assert_eq!(kept(0.1, 0.5, 3), ranks(2, 2));
    }
}
