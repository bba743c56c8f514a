//! Coordinate-wise trimmed mean (Yin et al., ICML 2018): drops the `f` lowest and `f` highest values, averages the rest.
//!
//! Holds while at most `f` of more than `2f` clients lie. The rest is added up; it is never the sum less the extremes, in which a
//! huge extreme would take the others' digits with it. Ignores weights. Clients who did not send a coordinate are left out: of
//! `s` who did, `min(f, ⌊(s − 1) / 2⌋)` values are dropped at either end, and where `s` is at most `f`, the result is 0.

use crate::kernel::{Element, Rows, Sorter, Target, Trim};

pub(super) fn trim(tolerate: usize) -> Trim {
    let most = u32::try_from(tolerate).unwrap_or(u32::MAX);
    Trim {
        most,
        support: most.saturating_add(1),
    }
}

pub(super) fn combine<T: Element>(
    rows: Rows<'_, T>,
    tolerate: usize,
    sorter: &mut Sorter<T>,
    target: &mut Target<'_>,
) -> bool {
    sorter.trimmed_means(rows, trim(tolerate), target)
}
