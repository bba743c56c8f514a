//! Norm clipping: a task vector longer than a limit `C` is shortened to it, `x · min(1, C / ‖x‖)`.
//!
//! The limit is a number, or the median of the norms at hand (the lower and the upper middle averaged when even). The
//! median of honest-majority norms lies between honest norms, so clipping by it bounds what any minority can add.
//! A norm that is no number leaves its vector as it is: it is the intake's business to refuse it.

use crate::kernel::round;
use crate::recipe::{Before, ClipNorm};

/// The factor of each client after all stages, in [0, 1].
pub(crate) fn factors(norms: &[f64], stages: &[Before]) -> Vec<f64> {
    let mut factors = vec![1.0; norms.len()];
    for stage in stages {
        let Before::Clip { norm } = *stage;
        let lengths: Vec<f64> = norms
            .iter()
            .zip(&factors)
            .map(|(norm, factor)| norm * factor)
            .collect();
        let limit = match norm {
            ClipNorm::Fixed(limit) => limit,
            ClipNorm::Median => median(&lengths),
        };
        for (factor, length) in factors.iter_mut().zip(lengths) {
            if length > limit {
                *factor *= limit / length;
            }
        }
    }
    factors
}

/// Scales the values in place; the clipped task vector is a task vector again, in `f32`.
pub(crate) fn scale(values: &mut [f32], factor: f64) {
    if factor < 1.0 {
        for value in values {
            *value = round(f64::from(*value) * factor);
        }
    }
}

fn median(lengths: &[f64]) -> f64 {
    let mut sorted = lengths.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.len().saturating_sub(1) / 2, sorted.len() / 2);
    match (sorted.get(low), sorted.get(high)) {
        (Some(low), Some(high)) => low / 2.0 + high / 2.0,
        (None, _) | (_, None) => f64::INFINITY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clip(norm: ClipNorm) -> Vec<Before> {
        vec![Before::Clip { norm }]
    }

    #[test]
    fn only_what_is_longer_than_the_limit_is_shortened() {
        assert_eq!(
            factors(&[1.0, 4.0, 2.0, 0.0], &clip(ClipNorm::Fixed(2.0))),
            [1.0, 0.5, 1.0, 1.0]
        );
        assert_eq!(
            factors(&[1.0, 4.0, 8.0, 2.0], &clip(ClipNorm::Median)),
            [1.0, 0.75, 0.375, 1.0]
        );
        assert_eq!(factors(&[0.0, 0.0], &clip(ClipNorm::Median)), [1.0, 1.0]);
    }

    #[test]
    fn a_later_stage_sees_what_an_earlier_one_left() {
        let stages = [clip(ClipNorm::Fixed(4.0)), clip(ClipNorm::Median)].concat();
        // After the first, the lengths are 1, 2, 4 and 4, and their median is 3.
        assert_eq!(
            factors(&[1.0, 2.0, 8.0, 16.0], &stages),
            [1.0, 1.0, 0.375, 0.1875]
        );
    }

    #[test]
    fn norms_that_are_no_numbers_do_not_panic() {
        for stages in [clip(ClipNorm::Median), clip(ClipNorm::Fixed(1.0))] {
            assert_eq!(factors(&[f64::NAN, f64::INFINITY, 1.0], &stages).len(), 3);
        }
    }
}
