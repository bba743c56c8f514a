//! The sum of magnitudes, which rescaling by mass restores (mergekit's `rescale`).
//!
//! `x ← x · ‖δ‖₁ / ‖masked δ‖₁` over one client's tensor. The sum is taken in a fixed order within a unit; units are added in order by the
//! caller.

use crate::kernel::Element;
use crate::kernel::dispatch::vectorized;

/// How many running sums there are: enough to hide the time an addition takes.
const SUMS: usize = 32;

/// Below this, a tensor has no mass that could be restored, as in mergekit.
const LEAST: f64 = 1e-7;

/// `Σ|x|` of a unit over what is present: 32 running sums, folded in order.
pub(crate) fn mass<T: Element>(values: &[T]) -> f64 {
    vectorized(
        #[inline(always)]
        || {
            let mut sums = [0.0_f64; SUMS];
            let (chunks, rest) = values.as_chunks::<SUMS>();
            for chunk in chunks {
                add(&mut sums, chunk);
            }
            add(&mut sums, rest);
            sums.iter().sum()
        },
    )
}

/// Adds the magnitude of each value to a sum of its own.
#[inline(always)]
fn add<T: Element>(sums: &mut [f64; SUMS], values: &[T]) {
    for (sum, &value) in sums.iter_mut().zip(values) {
        let magnitude = value.widen().abs();
        *sum += if value.is_absent() { 0.0 } else { magnitude };
    }
}

/// By what values are multiplied so that a tensor whose mass was `before` has it again; 1 where there is no such number.
pub(crate) fn mass_factor(before: f64, after: f64) -> f64 {
    let factor = before / after;
    if before >= LEAST && after >= LEAST && factor.is_finite() {
        factor
    } else {
        1.0
    }
}

/// Multiplies what is present, rounding once.
pub(crate) fn scale<T: Element>(values: &mut [T], factor: f64) {
    vectorized(
        #[inline(always)]
        || {
            for value in &mut *values {
                *value = scaled(*value, factor);
            }
        },
    );
}

/// `factor · x`, rounded once; what is absent stays so.
#[inline(always)]
pub(super) fn scaled<T: Element>(value: T, factor: f64) -> T {
    let product = T::nearest(value.widen() * factor);
    if value.is_absent() { value } else { product }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::ABSENT;

    #[test]
    fn the_mass_is_the_sum_of_magnitudes_that_are_present() {
        let values: Vec<f32> = (1_u8..=100)
            .map(|value| if value % 2 == 0 { -1.0 } else { 1.0 } * f32::from(value))
            .collect();
        assert!((mass(&values) - 5050.0).abs() < 1e-12);
        assert!((mass(&[ABSENT, -2.0, 0.5]) - 2.5).abs() < 1e-12);
        assert!(mass::<f32>(&[]).abs() < 1e-12);
    }

    #[test]
    fn rescaling_restores_the_mass_where_there_is_one() {
        let mut values = [1.0_f32, 0.0, ABSENT, -3.0];
        let factor = mass_factor(6.0, mass(&values));
        scale(&mut values, factor);
        let bits = values.map(f32::to_bits);
        assert_eq!(bits, [1.5, 0.0, ABSENT, -4.5].map(f32::to_bits));
    }

    #[test]
    fn a_mass_that_cannot_be_restored_leaves_values_alone() {
        let nan = f64::NAN;
        let infinity = f64::INFINITY;
        for (before, after) in [
            (0.0, 0.0),
            (1.0, 1e-8),
            (1e-8, 1.0),
            (nan, 1.0),
            (1.0, nan),
            (infinity, infinity),
            (infinity, 1.0),
        ] {
            assert_eq!(mass_factor(before, after).to_bits(), 1.0_f64.to_bits());
        }
    }
}
