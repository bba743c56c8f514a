//! What is asked of one client's values by themselves.

use super::Element;
use super::dispatch::vectorized;

/// How many running sums a sum of squares has.
const LANES: usize = 64;

/// The sum of squares: running sums of every 64th value, folded in order.
pub(crate) fn sum_of_squares<T: Element>(values: &[T]) -> f64 {
    vectorized(
        #[inline(always)]
        || squares(values),
    )
}

#[inline(always)]
fn squares<T: Element>(values: &[T]) -> f64 {
    let mut sums = [0.0_f64; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (sum, &value) in sums.iter_mut().zip(chunk) {
            let value = value.widen();
            *sum += value * value;
        }
    }
    for (sum, &value) in sums.iter_mut().zip(rest) {
        let value = value.widen();
        *sum += value * value;
    }
    sums.iter().sum()
}

/// How many values are looked at before anything is decided.
const STRIDE: usize = 256;

/// Where the first value is that is no number; an absent one is none where all are sent.
pub(crate) fn first_non_finite<T: Element>(values: &[T], is_sparse: bool) -> Option<usize> {
    if is_sparse {
        first_odd::<T, true>(values)
    } else {
        first_odd::<T, false>(values)
    }
}

fn first_odd<T: Element, const SPARSE: bool>(values: &[T]) -> Option<usize> {
    let stride = vectorized(
        #[inline(always)]
        || {
            values.chunks(STRIDE).position(|chunk| {
                chunk
                    .iter()
                    .fold(false, |found, &value| found | is_odd::<T, SPARSE>(value))
            })
        },
    )?;
    let start = stride * STRIDE;
    values[start..]
        .iter()
        .position(|&value| is_odd::<T, SPARSE>(value))
        .map(|offset| start + offset)
}

#[inline(always)]
fn is_odd<T: Element, const SPARSE: bool>(value: T) -> bool {
    let key = value.key();
    let (least, most) = (
        T::nearest(f64::NEG_INFINITY).key(),
        T::nearest(f64::INFINITY).key(),
    );
    let is_absent = SPARSE & (key == T::ABSENT_KEY);
    (key <= least) | ((key >= most) & !is_absent)
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;
    use crate::kernel::ABSENT;

    #[test]
    fn a_sum_of_squares_is_that_of_plain_addition_for_any_length() {
        for len in [0_u16, 1, 31, 32, 33, 64, 1000] {
            let values: Vec<f32> = (0..len).map(f32::from).collect();
            let square = |&value: &f32| f64::from(value) * f64::from(value);
            let expected = values
                .iter()
                .map(square)
                .fold(0.0, |sum, square| sum + square);
            assert_eq!(sum_of_squares(&values).to_bits(), expected.to_bits());
        }
        assert_eq!(
            sum_of_squares(&[bf16::from_f32(3.0); 40]).to_bits(),
            360.0_f64.to_bits()
        );
    }

    #[test]
    fn the_first_value_that_is_no_number_is_found_and_an_absent_one_is_not() {
        let odd = [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        for (at, value) in [0, 255, 256, 999].into_iter().zip(odd) {
            let mut values = vec![ABSENT; 1000];
            values[500] = f32::MAX;
            values[501] = f32::MIN;
            assert_eq!(first_non_finite(&values, true), None);
            assert_eq!(first_non_finite(&values, false), Some(0));
            values[at] = value;
            values[999] = f32::NAN;
            assert_eq!(first_non_finite(&values, true), Some(at));
            (values[500], values[501]) = (1.0, -1.0);
            let upper_half = |value: &f32| bf16::from_bits((value.to_bits() >> 16) as u16);
            let narrow: Vec<bf16> = values.iter().map(upper_half).collect();
            assert_eq!(first_non_finite(&narrow, true), Some(at));
        }
    }
}
