//! Phocas (Xie et al., 2018): of each coordinate, the mean of the `n − f` values nearest to the trimmed mean.
//!
//! As the mean around the median (`nearest_median.rs`), with a centre that fewer outliers among honest clients can shift. Where all
//! sent a coordinate or not, the centre is the trimmed mean of those who did.

use super::nearest_median::{combine_tiles, dropped, nearest_mean, nearest_means};
use crate::kernel::{Element, Rows, Sorter, Target};

pub(super) fn combine<T: Element>(
    rows: Rows<'_, T>,
    tolerate: usize,
    sorter: &mut Sorter<T>,
    target: &mut Target<'_>,
) {
    let drop = dropped(tolerate, rows.count());
    let is_any_absent = combine_tiles(rows, sorter, target, |keys, out| {
        nearest_means::<T>(keys, drop, drop, out);
    });
    if let Some(row) = target.row().filter(|_| is_any_absent) {
        sorter.of_supporters(rows, row, |sent| {
            if sent.len() <= tolerate {
                return 0.0;
            }
            let drop = dropped(tolerate, sent.len());
            nearest_mean(sent, drop, drop)
        });
    }
}
