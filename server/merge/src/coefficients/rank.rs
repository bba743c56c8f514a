//! Order among few numbers, the same whatever they are: by value, and by index where values are the same.

/// The indices of the `count` smallest values, the smallest first.
pub(super) fn smallest(values: &[f64], count: usize) -> Vec<usize> {
    let mut ranked: Vec<usize> = (0..values.len()).collect();
    ranked.sort_by(|&a, &b| values[a].total_cmp(&values[b]).then(a.cmp(&b)));
    ranked.truncate(count);
    ranked
}

/// The middle value, or the mean of the lower and the upper middle; infinite where there is none.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.len().saturating_sub(1) / 2, sorted.len() / 2);
    match (sorted.get(low), sorted.get(high)) {
        (Some(low), Some(high)) => low / 2.0 + high / 2.0,
        (None, _) | (_, None) => f64::INFINITY,
    }
}
