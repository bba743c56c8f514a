//! The trim of TIES (Yadav et al., "TIES-Merging: resolving interference when merging models", NeurIPS 2023): keeps the largest magnitudes.
//!
//! Of `n` values, `k = max(1, ⌊density · n⌋)` are kept: those whose magnitude is at least that of the `k`-th largest. So values equal to it
//! are all kept, and no order of coordinates matters.

use super::magnitude::{Kept, share_of};

/// The ranks of so many values that are kept.
pub(super) fn kept(density: f64, values: u64) -> Kept {
    Kept {
        first: 1,
        last: share_of(values, density).max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_least_one_value_is_kept() {
        assert_eq!(
            [1, 4, 5, 9, 10].map(|values| kept(0.2, values).last),
            [1, 1, 1, 1, 2]
        );
    }
}
