//! The product of two runs of values, in `f64`.

use super::Element;
use super::dispatch::vectorized;

/// How many running sums there are.
const LANES: usize = 8;

/// `Σ aᵢbᵢ`: eight running sums, folded in order.
pub(crate) fn dot<T: Element>(left: &[T], right: &[f64]) -> f64 {
    vectorized(
        #[inline(always)]
        || {
            let mut sums = [0.0_f64; LANES];
            for (left, right) in left.chunks(LANES).zip(right.chunks(LANES)) {
                for ((sum, left), right) in sums.iter_mut().zip(left).zip(right) {
                    *sum += left.widen() * right;
                }
            }
            sums.iter().sum()
        },
    )
}
