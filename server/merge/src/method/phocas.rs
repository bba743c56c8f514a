//! Phocas (Xie et al., 2018): of each coordinate, the mean of the `n − f` values nearest to the trimmed mean.
//!
//! As the mean around the median (`nearest_median.rs`), with a centre that fewer outliers among honest clients can shift. Where all
//! sent a coordinate or not, the centre is the trimmed mean of those who did.

use super::nearest_median::{combine_tiles, dropped, nearest_mean, nearest_means};
use crate::kernel::{Element, Rows, Sorter};

pub(super) fn combine<T: Element>(
    rows: Rows<'_, T>,
    tolerate: usize,
    sorter: &mut Sorter<T>,
    out: &mut [f64],
) {
    let drop = dropped(tolerate, rows.count());
    let is_any_absent = combine_tiles(rows, sorter, out, |keys, out| {
        nearest_means::<T>(keys, drop, drop, out);
    });
    if is_any_absent {
        sorter.of_supporters(rows, out, |sent| {
            if sent.len() <= tolerate {
                return 0.0;
            }
            let drop = dropped(tolerate, sent.len());
            nearest_mean(sent, drop, drop)
        });
    }
}
