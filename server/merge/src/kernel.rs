//! Arithmetic on short runs of numbers, without any notion of tensors or clients' identity.
//!
//! Every function here gives the same bits for the same input on every machine: orders of summation are written out.

pub(crate) mod dispatch;
mod dot;
mod element;
pub(crate) mod products;
mod rows;
// pub(crate) mod sort;

pub use element::ABSENT;
pub(crate) use element::Element;
pub(crate) use rows::Rows;

/// The sum of squares: eight running sums, folded in order.
pub(crate) fn sum_of_squares<T: Element>(values: &[T]) -> f64 {
    let mut sums = [0.0_f64; 8];
    for chunk in values.chunks(8) {
        for (sum, &value) in sums.iter_mut().zip(chunk) {
            let value = value.widen();
            *sum += value * value;
        }
    }
    sums.iter().sum()
}
