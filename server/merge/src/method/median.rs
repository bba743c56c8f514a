//! Coordinate-wise median (Yin et al., ICML 2018): holds while fewer than half of the clients lie.
//!
//! Of an even number, the mean of the two middle values: the trimmed mean that drops all it can. Ignores weights: an example count is
//! a claim, not evidence. Clients who did not send a coordinate are left out; where at most `tolerate` sent it, it is 0.

use super::trimmed_mean;
use crate::kernel::{Element, Rows, Sorter, Target, Trim};

pub(super) fn trim(tolerate: usize, rows: usize) -> Trim {
    Trim {
        most: trimmed_mean::trim(rows).most,
        ..trimmed_mean::trim(tolerate)
    }
}

pub(super) fn combine<T: Element>(
    rows: Rows<'_, T>,
    tolerate: usize,
    sorter: &mut Sorter<T>,
    target: &mut Target<'_>,
) -> bool {
    sorter.trimmed_means(rows, trim(tolerate, rows.count()), target)
}
