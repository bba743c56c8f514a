//! Norm clipping: a vector longer than a limit `C` is shortened to it, `x · min(1, C / ‖x‖)`.
//!
//! The limit is a number, the median of the lengths at hand, or one that follows the median from merge to merge (Andrew et al.,
//! "Differentially Private Learning with Adaptive Clipping", NeurIPS 2021): this merge clips at `C`, and the next at
//! `C · exp(−0.2 (b̄ − 0.5))`, where `b̄` is the share of clients with `‖x‖ ≤ C`; where privacy asks for it, noise is added to their number. A first merge without a limit begins at the median of
//! its lengths; where that is 0 there is nothing to follow, and the next merge begins anew.
//!
//! The median of the lengths of an honest majority lies between honest lengths, so clipping by it bounds what any minority can add.

use ndarray::{Array1, Array2};

use super::{Context, lengths, number, rank};
use crate::gram::Gram;
use crate::recipe::ClipNorm;

/// How fast the adaptive limit moves (`η_C`) and the share of clients that it shall leave as they are (`γ`).
const RATE: f64 = 0.2;
const SHARE: f64 = 0.5;

/// The mixing matrix, and the limit of the next merge if it is an adaptive one.
pub(super) fn mixing(gram: &Gram, norm: ClipNorm, context: &Context) -> (Array2<f64>, Option<f64>) {
    let lengths = lengths(gram);
    let (limit, next) = match norm {
        ClipNorm::Fixed(limit) => (limit, None),
        ClipNorm::Median => (rank::median(&lengths), None),
        ClipNorm::Adaptive { start } => {
            let limit = context.clip_limit.or(start);
            let limit = limit.unwrap_or_else(|| rank::median(&lengths));
            let can_be_followed = limit.is_finite() && limit > 0.0;
            let next = || followed(limit, &lengths, context.count_noise);
            (limit, can_be_followed.then(next))
        }
    };
    (at(&lengths, limit), next)
}

/// The mixing matrix that shortens vectors of these lengths to a limit.
pub(super) fn at(lengths: &[f64], limit: f64) -> Array2<f64> {
    Array2::from_diag(&Array1::from(factors(lengths, limit)))
}

/// `min(1, C / ‖x‖)` of each length.
pub(super) fn factors(lengths: &[f64], limit: f64) -> Vec<f64> {
    let factor = |&length: &f64| {
        if length > limit { limit / length } else { 1.0 }
    };
    lengths.iter().map(factor).collect()
}

/// The limit of the next merge.
fn followed(limit: f64, lengths: &[f64], noise: f64) -> f64 {
    let within = lengths.iter().filter(|&&length| length <= limit).count();
    let share = (number(within) + noise) / number(lengths.len());
    // Noise may make a share of less than nobody or more than all.
    limit * exponential(-RATE * (share.clamp(0.0, 1.0) - SHARE))
}

/// `exp(x)` of a small `x`, to the last digits: its series, because libraries' functions differ from machine to machine.
fn exponential(x: f64) -> f64 {
    debug_assert!(
        x.abs() <= RATE * SHARE,
        "the terms left out are below 1e-23"
    );
    (1..=12_u8)
        .rev()
        .fold(1.0, |sum, k| 1.0 + x / f64::from(k) * sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_near(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-9 * b.abs()
    }

    fn clip(norm: ClipNorm, lengths: &[f64]) -> (Vec<f64>, Option<f64>) {
        let (mixing, next) = mixing(&Gram::of_norms(lengths), norm, &Context::default());
        (mixing.diag().to_vec(), next)
    }

    fn after(clip_limit: Option<f64>) -> Context {
        Context {
            clip_limit,
            ..Context::default()
        }
    }

    #[test]
    fn noise_moves_the_limit_by_a_client_or_two_and_never_out_of_bounds() {
        let gram = Gram::of_norms(&[0.5, 1.0, 2.0, 4.0]);
        let adaptive = ClipNorm::Adaptive { start: Some(1.0) };
        let with = |count_noise| {
            let context = Context {
                count_noise,
                ..Context::default()
            };
            mixing(&gram, adaptive, &context).1
        };
        // Two of four are within; with a third the limit falls, with one of them gone it rises.
        for (noise, exponent) in [
            (0.0, 0.0),
            (1.0, -0.05),
            (-1.0, 0.05),
            (1e9, -0.1),
            (-1e9, 0.1_f64),
        ] {
            assert!(
                with(noise).is_some_and(|limit| is_near(limit, exponent.exp())),
                "{noise}"
            );
        }
    }

    #[test]
    fn only_what_is_longer_than_the_limit_is_shortened() {
        let (fixed, next) = clip(ClipNorm::Fixed(2.0), &[1.0, 4.0, 2.0, 0.0]);
        assert_eq!((fixed, next), (vec![1.0, 0.5, 1.0, 1.0], None));
        let (median, _) = clip(ClipNorm::Median, &[1.0, 4.0, 8.0, 2.0]);
        assert_eq!(median, [1.0, 0.75, 0.375, 1.0]);
        assert_eq!(clip(ClipNorm::Median, &[0.0, 0.0]).0, [1.0, 1.0]);
        assert_eq!(clip(ClipNorm::Median, &[0.0, 0.0, 5.0]).0, [1.0, 1.0, 0.0]);
    }

    #[test]
    fn the_adaptive_limit_goes_the_way_that_was_worked_out() {
        let gram = Gram::of_norms(&[0.5, 1.0, 2.0, 4.0]);
        let adaptive = ClipNorm::Adaptive { start: Some(0.1) };
        let mut limits = vec![];
        for _ in 0..400 {
            limits.extend(mixing(&gram, adaptive, &after(limits.last().copied())).1);
        }
        for (after, limit) in [
            (1, 0.110_517_091_8),
            (5, 0.164_872_127_1),
            (12, 0.332_011_692_3),
        ] {
            assert!(is_near(limits[after - 1], limit), "after {after}");
        }
        // Half of the lengths are at most the limit: it has come to rest.
        assert!((1.0..2.0).contains(&limits[399]) && is_near(limits[399], limits[398]));
    }

    #[test]
    fn this_merge_clips_by_the_limit_it_came_with() {
        let gram = Gram::of_norms(&[1.0, 8.0]);
        let adaptive = ClipNorm::Adaptive { start: Some(4.0) };
        assert_eq!(
            mixing(&gram, adaptive, &after(Some(2.0))).0.diag().to_vec(),
            [1.0, 0.25]
        );
        assert_eq!(
            mixing(&gram, adaptive, &after(None)).0.diag().to_vec(),
            [1.0, 0.5]
        );
    }

    #[test]
    fn an_adaptive_limit_without_a_start_begins_at_the_median_unless_that_is_0() {
        let adaptive = ClipNorm::Adaptive { start: None };
        assert_eq!(
            clip(adaptive, &[1.0, 2.0, 3.0, 8.0]),
            (vec![1.0, 1.0, 2.5 / 3.0, 2.5 / 8.0], Some(2.5))
        );
        assert_eq!(clip(adaptive, &[0.0, 0.0, 1.0]).1, None);
    }

    #[test]
    fn the_exponential_has_all_its_digits() {
        for x in [-0.1, -0.033, 0.0, 1e-9, 0.05, 0.1_f64] {
            assert!((exponential(x) - x.exp()).abs() <= 2.0 * f64::EPSILON);
        }
    }

    #[test]
    fn lengths_that_are_no_numbers_do_not_panic() {
        for norm in [
            ClipNorm::Median,
            ClipNorm::Fixed(1.0),
            ClipNorm::Adaptive { start: None },
        ] {
            assert_eq!(clip(norm, &[f64::NAN, f64::INFINITY, 1.0]).0.len(), 3);
        }
    }
}
