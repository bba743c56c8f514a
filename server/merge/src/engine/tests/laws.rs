//! What every rule must obey, on random models: agreement with the reference first of all.

use proptest::prelude::*;

use super::fixture::{Case, bits, cases, merged, methods};
use crate::reference::{self, Tensors};
use crate::{Before, ClipNorm, Elect, Method, Recipe, TrimScope};

fn map(tensors: &Tensors, change: impl Fn(f32) -> f32) -> Tensors {
    tensors
        .iter()
        .map(|values| values.iter().map(|&value| change(value)).collect())
        .collect()
}

fn zeros(like: &Tensors) -> Tensors {
    map(like, |_| 0.0)
}

fn is_close(a: &Tensors, b: &Tensors) -> bool {
    a.iter()
        .flatten()
        .zip(b.iter().flatten())
        .all(|(a, b)| (a - b).abs() <= 1e-5 * (1.0 + a.abs()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_rule_agrees_with_the_reference_to_the_bit(case in cases(), lambda in -2.0_f64..2.0) {
        let Case { base, updates, weights } = case;
        let stages = [
            vec![],
            vec![Before::Clip { norm: ClipNorm::Median }],
            vec![Before::Clip { norm: ClipNorm::Fixed(40.0) }],
        ];
        for method in methods(updates.len()) {
            for before in &stages {
                let recipe = Recipe { before: before.clone(), method, lambda };
                let expected = reference::merge(&recipe, &base, &updates, &weights);
                prop_assert_eq!(bits(&merged(&recipe, &base, &updates, &weights)), bits(&expected), "{:?}", recipe);
            }
        }
    }

    #[test]
    fn the_order_of_clients_does_not_matter((case, order) in shuffled_cases()) {
        let Case { base, updates, weights } = case;
        let moved: Vec<Tensors> = order.iter().map(|&client| updates[client].clone()).collect();
        let moved_weights: Vec<f64> = order.iter().map(|&client| weights[client]).collect();
        for method in methods(updates.len()) {
            let recipe = Recipe::of(method);
            let [one, other] = [
                merged(&recipe, &base, &updates, &weights),
                merged(&recipe, &base, &moved, &moved_weights),
            ];
            // Its scaled weights are rounded; all other sums of these values are exact in any order.
            if method == (Method::TaskArithmetic { normalize: false }) {
                prop_assert!(is_close(&one, &other), "{:?}", method);
            } else {
                prop_assert_eq!(bits(&one), bits(&other), "{:?}", method);
            }
            let recipe = Recipe { before: vec![Before::Clip { norm: ClipNorm::Median }], ..recipe };
            let [one, other] = [
                merged(&recipe, &base, &updates, &weights),
                merged(&recipe, &base, &moved, &moved_weights),
            ];
            prop_assert!(is_close(&one, &other), "{:?}", recipe);
        }
    }

    #[test]
    fn what_moves_all_clients_moves_the_result(case in cases(), by in -100_i8..100) {
        let Case { updates, weights, base } = case;
        let by = f32::from(by);
        let moved: Vec<Tensors> = updates.iter().map(|update| map(update, |value| value + by)).collect();
        let equivariant = [
            Method::Mean,
            Method::Median,
            Method::TrimmedMean { tolerate: (updates.len() - 1) / 2 },
            Method::TaskArithmetic { normalize: true },
        ];
        for method in equivariant {
            let recipe = Recipe::of(method);
            let expected = map(&merged(&recipe, &zeros(&base), &updates, &weights), |value| value + by);
            prop_assert!(is_close(&expected, &merged(&recipe, &zeros(&base), &moved, &weights)), "{:?}", method);
        }
    }

    #[test]
    fn scaling_by_a_power_of_two_scales_the_result_to_the_bit(case in cases(), power in -20_i32..20) {
        let Case { updates, weights, base } = case;
        let scale = 2.0_f32.powi(power);
        let scaled: Vec<Tensors> = updates.iter().map(|update| map(update, |value| value * scale)).collect();
        for method in methods(updates.len()) {
            let recipe = Recipe { before: vec![Before::Clip { norm: ClipNorm::Median }], ..Recipe::of(method) };
            let expected = map(&merged(&recipe, &zeros(&base), &updates, &weights), |value| value * scale);
            prop_assert_eq!(bits(&expected), bits(&merged(&recipe, &zeros(&base), &scaled, &weights)), "{:?}", method);
        }
    }

    #[test]
    fn turning_every_sign_turns_the_sign_of_the_result(case in cases()) {
        let Case { updates, weights, base } = case;
        let turned: Vec<Tensors> = updates.iter().map(|update| map(update, |value| -value)).collect();
        for method in methods(updates.len()) {
            let recipe = Recipe::of(method);
            let expected = map(&merged(&recipe, &zeros(&base), &updates, &weights), |value| -value);
            // Compared as numbers, because zero has no side.
            prop_assert_eq!(expected, merged(&recipe, &zeros(&base), &turned, &weights), "{:?}", method);
        }
    }

    #[test]
    fn a_trimmed_mean_is_the_mean_when_it_drops_nothing_and_the_median_when_it_drops_all_it_can(case in cases()) {
        let Case { base, updates, .. } = case;
        let equal = vec![1.0; updates.len()];
        let of = |method| bits(&merged(&Recipe::of(method), &base, &updates, &equal));
        prop_assert_eq!(of(Method::TrimmedMean { tolerate: 0 }), of(Method::Mean));
        let tolerate = (updates.len() - 1) / 2;
        prop_assert_eq!(of(Method::TrimmedMean { tolerate }), of(Method::Median));
    }

    #[test]
    fn median_and_trimmed_mean_ignore_what_clients_claim_to_weigh(case in cases()) {
        let Case { base, updates, weights } = case;
        let equal = vec![1.0; updates.len()];
        for method in [Method::Median, Method::TrimmedMean { tolerate: (updates.len() - 1) / 4 }] {
            let of = |weights: &[f64]| bits(&merged(&Recipe::of(method), &base, &updates, weights));
            prop_assert_eq!(of(&weights), of(&equal), "{:?}", method);
        }
    }

    #[test]
    fn clients_that_agree_get_what_one_of_them_alone_would_get(case in cases()) {
        let Case { base, updates, weights } = case;
        let clients = updates.len();
        let same = vec![updates[0].clone(); clients];
        for method in methods(clients) {
            let alone = if let Method::TrimmedMean { .. } = method { Method::TrimmedMean { tolerate: 0 } } else { method };
            // A plain sum of task vectors grows with the clients; every other rule averages.
            let sum = if method == (Method::TaskArithmetic { normalize: false }) { narrow(clients) } else { 1.0 };
            let expected = map(&merged(&Recipe::of(alone), &zeros(&base), &same[..1], &[1.0]), |value| value * sum);
            let out = merged(&Recipe::of(method), &zeros(&base), &same, &weights);
            prop_assert!(is_close(&out, &expected), "{:?}", method);
        }
    }

    #[test]
    fn ties_without_a_trim_is_the_mean_where_all_signs_agree(case in cases()) {
        let Case { base, updates, weights } = case;
        let positive: Vec<Tensors> = updates.iter().map(|update| map(update, |value| value.abs() + 0.0625)).collect();
        for elect in [Elect::Mass, Elect::Count] {
            let ties = Method::Ties { density: 1.0, scope: TrimScope::Tensor, elect };
            let of = |method| bits(&merged(&Recipe::of(method), &base, &positive, &weights));
            prop_assert_eq!(of(ties), of(Method::Mean), "{:?}", elect);
        }
    }

    #[test]
    fn a_clip_bounds_the_mean_however_loud_a_client_is(case in cases(), limit in 1.0_f64..50.0, loud in 1.0_f32..1e6) {
        let Case { base, mut updates, weights } = case;
        updates[0] = map(&updates[0], |value| value * loud);
        let clip = |norm| Recipe { before: vec![Before::Clip { norm: ClipNorm::Fixed(norm) }], ..Recipe::of(Method::Mean) };
        let length = reference::norm(&merged(&clip(limit), &zeros(&base), &updates, &weights));
        prop_assert!(length <= limit * (1.0 + 1e-6), "{} > {}", length, limit);
        let longest = updates.iter().map(reference::norm).fold(0.0, f64::max).max(1.0);
        let [clipped, plain] = [clip(longest), Recipe::of(Method::Mean)]
            .map(|recipe| bits(&merged(&recipe, &base, &updates, &weights)));
        prop_assert_eq!(clipped, plain);
    }

    #[test]
    fn whatever_f_clients_send_the_robust_rules_stay_near_the_others(
        case in cases().prop_filter("few enough to list all subsets", |case| case.updates.len() <= 7),
        loud in 1.0_f32..1e6,
    ) {
        let Case { base, mut updates, weights } = case;
        let clients = updates.len();
        updates[0] = map(&updates[0], |value| value * loud);
        for tolerate in 0..=(clients - 1) / 2 {
            let (n, f) = (float(clients), float(tolerate));
            let trimmed = 6.0 * f / (n - 2.0 * f) * (1.0 + f / (n - 2.0 * f));
            let median = 4.0 * (1.0 + f / (n - 2.0 * f)).powi(2);
            for (method, kappa) in [(Method::TrimmedMean { tolerate }, trimmed), (Method::Median, median)] {
                let out = merged(&Recipe::of(method), &zeros(&base), &updates, &weights);
                for subset in 0..1_usize << clients {
                    if subset.count_ones() as usize == clients - tolerate {
                        let (error, spread) = error_and_spread(&out, &updates, subset);
                        let rounding = 1e-10 * (1.0 + out.iter().flatten().map(|v| f64::from(*v).powi(2)).sum::<f64>());
                        prop_assert!(error <= kappa * spread + rounding, "{:?}: {} > {}", method, error, kappa * spread);
                    }
                }
            }
        }
    }
}

/// A case, and its clients in another order.
fn shuffled_cases() -> impl Strategy<Value = (Case, Vec<usize>)> {
    cases().prop_flat_map(|case| {
        let order: Vec<usize> = (0..case.updates.len()).collect();
        (Just(case), Just(order).prop_shuffle())
    })
}

fn narrow(count: usize) -> f32 {
    f32::from(u16::try_from(count).unwrap())
}

fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}

/// Squared distance from the mean of a subset, and the subset's mean squared distance from its mean.
fn error_and_spread(out: &Tensors, updates: &[Tensors], subset: usize) -> (f64, f64) {
    let members: Vec<&Tensors> = (0..updates.len())
        .filter(|index| subset >> index & 1 == 1)
        .map(|i| &updates[i])
        .collect();
    let count = float(members.len());
    let (mut error, mut spread) = (0.0, 0.0);
    for (tensor, values) in out.iter().enumerate() {
        for (index, value) in values.iter().enumerate() {
            let mean = members
                .iter()
                .map(|member| f64::from(member[tensor][index]))
                .sum::<f64>()
                / count;
            error += (f64::from(*value) - mean).powi(2);
            spread += members
                .iter()
                .map(|member| (f64::from(member[tensor][index]) - mean).powi(2))
                .sum::<f64>()
                / count;
        }
    }
    (error, spread)
}
