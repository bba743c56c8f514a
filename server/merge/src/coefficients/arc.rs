//! Adaptive robust clipping (Allouah et al., "Adaptive Gradient Clipping for Robust Federated Learning", ICLR 2025): of `n` vectors the
//! `k = ⌊2f(n − f) / n⌋` longest are shortened to the length of the next, the `(k + 1)`-th longest.

use ndarray::Array2;

use super::{clip, lengths};
use crate::gram::Gram;

/// The mixing matrix.
pub(super) fn mixing(gram: &Gram, tolerate: usize) -> Array2<f64> {
    let lengths = lengths(gram);
    let clients = lengths.len();
    let mut sorted = lengths.clone();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let longest = 2 * tolerate.min(clients) * clients.saturating_sub(tolerate) / clients.max(1);
    let limit = sorted.get(longest).copied().unwrap_or(f64::INFINITY);
    clip::at(&lengths, limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_are_shortened_to_the_next() {
        let gram = Gram::of_norms(&[1.0, 16.0, 2.0, 8.0, 4.0]);
        // 2 · 1 · 4 / 5 = 1.6, of which 1 is taken.
        assert_eq!(mixing(&gram, 1).diag().to_vec(), [1.0, 0.5, 1.0, 1.0, 1.0]);
        // 2 · 2 · 3 / 5 = 2.4, of which 2 are taken.
        assert_eq!(mixing(&gram, 2).diag().to_vec(), [1.0, 0.25, 1.0, 0.5, 1.0]);
        assert_eq!(mixing(&gram, 0), Array2::<f64>::eye(5));
    }
}
