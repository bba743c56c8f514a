//! What every rule must obey, on random models.

use proptest::prelude::*;

use super::fixture::{Merge, Tensors, bits, methods, zeros};
use crate::{Before, ClipNorm, Divide, Method, Recipe, Start, Ties};

fn map(tensors: &Tensors<f64>, change: impl Fn(f64) -> f64) -> Tensors<f64> {
    let mapped = tensors
        .iter()
        .map(|values| values.iter().map(|&value| change(value)).collect());
    mapped.collect()
}

fn is_close(a: &Tensors<f64>, b: &Tensors<f64>) -> bool {
    let pairs = a.iter().flatten().zip(b.iter().flatten());
    pairs.fold(true, |close, (a, b)| {
        close && (a - b).abs() <= 1e-9 * (1.0 + b.abs())
    })
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}

/// Task vectors and weights.
type Case = (Vec<Tensors<f64>>, Vec<f64>);

/// Task vectors whose values are few enough to tie now and then, and weights.
fn cases() -> impl Strategy<Value = Case> {
    let value =
        prop_oneof![3 => -500_i16..500, 1 => Just(0)].prop_map(|value| f64::from(value) / 16.0);
    let vector = proptest::collection::vec(value, 30)
        .prop_map(|values| vec![values[..9].to_vec(), vec![], values[9..].to_vec()]);
    let clients = prop_oneof![8 => 1_usize..10, 1 => 64_usize..67];
    clients.prop_flat_map(move |clients| {
        let weights = proptest::collection::vec((1_u8..100).prop_map(f64::from), clients);
        (proptest::collection::vec(vector.clone(), clients), weights)
    })
}

fn merged(recipe: &Recipe, updates: &[Tensors<f64>], weights: &[f64]) -> Tensors<f64> {
    let base = zeros(&updates[0]);
    let merge = Merge {
        weights: weights.to_vec(),
        ..Merge::new(recipe.clone(), &base, updates)
    };
    merge.model()
}

/// Rules whose choice does not hang on who comes first where two are alike, or on who is trusted.
fn symmetric(method: &Method) -> bool {
    !matches!(
        method,
        Method::Krum { .. }
            | Method::MultiKrum { .. }
            | Method::Bulyan { .. }
            | Method::Mda { .. }
            | Method::Dnc { .. }
            | Method::Caf { .. }
            | Method::Flame
            | Method::Fltrust
            | Method::Monna { .. }
            | Method::Magmax
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_order_of_clients_does_not_matter(((updates, weights), order) in shuffled()) {
        let moved: Vec<Tensors<f64>> = order.iter().map(|&client| updates[client].clone()).collect();
        let moved_weights: Vec<f64> = order.iter().map(|&client| weights[client]).collect();
        for method in methods(updates.len()).into_iter().filter(symmetric) {
            for before in [vec![], vec![Before::Clip { norm: ClipNorm::Median }]] {
                let is_sce = matches!(method, Method::Sce { .. });
                let recipe = Recipe { before: if is_sce { vec![] } else { before }, ..Recipe::of(method) };
                let [one, other] = [merged(&recipe, &updates, &weights), merged(&recipe, &moved, &moved_weights)];
                prop_assert!(is_close(&one, &other), "{:?}", recipe);
            }
        }
    }

    #[test]
    fn what_moves_all_clients_moves_the_result((updates, weights) in cases(), by in -100_i8..100) {
        let by = f64::from(by);
        let moved: Vec<Tensors<f64>> = updates.iter().map(|update| map(update, |value| value + by)).collect();
        for method in methods(updates.len()) {
            let moves = match method {
                Method::Mean | Method::Median { .. } | Method::TrimmedMean { .. } | Method::Meamed { .. } | Method::Phocas { .. }
                | Method::TaskArithmetic { normalize: true } | Method::Krum { .. } | Method::MultiKrum { .. } | Method::Bulyan { .. }
                | Method::Mda { .. } | Method::Monna { .. } => true,
                Method::GeometricMedian { start, .. } => start == Start::Mean,
                Method::SignMajority | Method::TaskArithmetic { normalize: false } | Method::Ties(_) | Method::Sce { .. }
                | Method::Ram { .. } | Method::Magmax | Method::Consensus { .. } | Method::CenteredClipping { .. }
                // Their directions are of the covariance, where equal ones may turn.
                | Method::Caf { .. } | Method::Dnc { .. } | Method::Fltrust | Method::Flame => false,
            };
            if moves {
                let recipe = Recipe::of(method);
                let expected = map(&merged(&recipe, &updates, &weights), |value| value + by);
                prop_assert!(is_close(&merged(&recipe, &moved, &weights), &expected), "{:?}", method);
            }
        }
    }

    #[test]
    fn scaling_by_a_power_of_two_scales_the_result((updates, weights) in cases(), power in -20_i32..20) {
        let scale = 2.0_f64.powi(power);
        let scaled: Vec<Tensors<f64>> = updates.iter().map(|update| map(update, |value| value * scale)).collect();
        for method in methods(updates.len()) {
            let scales = match method {
                // These have lengths of their own.
                Method::SignMajority | Method::Ram { .. } | Method::GeometricMedian { .. } | Method::CenteredClipping { .. } => false,
                Method::Sce { .. } => power >= 0 && updates.len() > 1,
                Method::Mean | Method::Median { .. } | Method::TrimmedMean { .. } | Method::Meamed { .. } | Method::Phocas { .. }
                | Method::TaskArithmetic { .. } | Method::Ties(_) | Method::Magmax | Method::Consensus { .. } | Method::Krum { .. }
                | Method::MultiKrum { .. } | Method::Bulyan { .. } | Method::Mda { .. } | Method::Caf { .. } | Method::Dnc { .. }
                | Method::Fltrust | Method::Flame | Method::Monna { .. } => true,
            };
            if scales {
                let recipe = Recipe::of(method);
                let expected = map(&merged(&recipe, &updates, &weights), |value| value * scale);
                let actual = map(&merged(&recipe, &scaled, &weights), |value| value);
                let near = map(&actual, |value| value / scale);
                prop_assert!(is_close(&near, &map(&expected, |value| value / scale)), "{:?}", method);
            }
        }
    }

    #[test]
    fn rules_that_drop_nobody_are_the_mean((updates, weights) in cases()) {
        let equal = vec![1.0; updates.len()];
        let of = |method, weights: &[f64]| merged(&Recipe::of(method), &updates, weights);
        let mean = of(Method::Mean, &equal);
        let nobody = [
            Method::TrimmedMean { tolerate: 0 },
            Method::Meamed { tolerate: 0 },
            Method::Phocas { tolerate: 0 },
            Method::Mda { tolerate: 0 },
            Method::Caf { tolerate: 0 },
            Method::Dnc { tolerate: 0, drop: 1.0 },
            Method::Monna { tolerate: 0 },
            Method::CenteredClipping { radius: 1e9, iterations: 1 },
        ];
        for method in nobody {
            prop_assert!(is_close(&of(method, &weights), &mean), "{:?}", method);
        }
        let mixed = Recipe { before: vec![Before::Nnm { tolerate: 0 }, Before::Arc { tolerate: 0 }], ..Recipe::of(Method::Median { tolerate: 0 }) };
        prop_assert!(is_close(&merged(&mixed, &updates, &weights), &mean));
        let most = (updates.len() - 1) / 2;
        prop_assert_eq!(
            bits(&of(Method::TrimmedMean { tolerate: most }, &weights)),
            bits(&of(Method::Median { tolerate: most }, &weights))
        );
    }

    #[test]
    fn robust_rules_ignore_what_clients_claim_to_weigh((updates, weights) in cases()) {
        let equal = vec![1.0; updates.len()];
        for method in methods(updates.len()) {
            if method.weight_use() == crate::WeightUse::Ignored {
                let of = |weights: &[f64]| bits(&merged(&Recipe::of(method), &updates, weights));
                prop_assert_eq!(of(&weights), of(&equal), "{:?}", method);
            }
        }
    }

    #[test]
    fn clients_that_agree_get_what_they_agree_on((updates, weights) in cases()) {
        let clients = updates.len();
        let same = vec![updates[0].clone(); clients];
        for method in methods(clients) {
            let agreed = |change: &dyn Fn(f64) -> f64| map(&updates[0], change);
            let expected = match method {
                Method::SignMajority => agreed(&|value| if value == 0.0 { 0.0 } else { value.signum() }),
                Method::TaskArithmetic { normalize: false } => {
                    let total: f64 = weights.iter().sum();
                    agreed(&|value| value * total)
                }
                Method::Ties(Ties { divide: Divide::Count, .. }) => {
                    let mean = weights.iter().sum::<f64>() / number(clients);
                    agreed(&|value| value * mean)
                }
                Method::Consensus { support, .. } if (support..6).contains(&clients) => agreed(&|value| value * number(clients)),
                Method::Consensus { .. } => agreed(&|_| 0.0),
                // Nothing varies; and a clipped step reaches only so far.
                Method::Sce { density } if density < 1.0 => agreed(&|_| 0.0),
                Method::CenteredClipping { .. } => continue,
                Method::Mean | Method::Median { .. } | Method::TrimmedMean { .. } | Method::Meamed { .. } | Method::Phocas { .. }
                | Method::TaskArithmetic { .. } | Method::Ties(_) | Method::Sce { .. } | Method::Ram { .. } | Method::Magmax
                | Method::Krum { .. } | Method::MultiKrum { .. } | Method::Bulyan { .. } | Method::GeometricMedian { .. }
                | Method::Mda { .. } | Method::Caf { .. } | Method::Dnc { .. } | Method::Fltrust | Method::Flame
                | Method::Monna { .. } => agreed(&|value| value),
            };
            prop_assert!(is_close(&merged(&Recipe::of(method), &same, &weights), &expected), "{:?}", method);
        }
    }

    #[test]
    fn whatever_f_clients_send_the_robust_rules_stay_near_the_others(
        (updates, weights) in cases().prop_filter("few enough to list all subsets", |(updates, _)| updates.len() <= 8),
        loud in 1.0_f64..1e6,
    ) {
        let mut updates = updates;
        let clients = updates.len();
        updates[0] = map(&updates[0], |value| value * loud);
        for tolerate in 0..=(clients - 1) / 2 {
            let share = number(tolerate) / number(clients - 2 * tolerate);
            let bounds = [
                (Method::TrimmedMean { tolerate }, 6.0 * share * (1.0 + share)),
                (Method::Median { tolerate }, 4.0 * (1.0 + share).powi(2)),
                (Method::GeometricMedian { nu: 1e-9, iterations: 10_000, start: Start::Mean }, 4.0 * (1.0 + share).powi(2)),
            ];
            for (method, kappa) in bounds {
                let mixing = 8.0 * number(tolerate) / number(clients - tolerate) * (kappa + 1.0);
                let chains = [(vec![], kappa), (vec![Before::Nnm { tolerate }], mixing)];
                for (before, kappa) in chains {
                    let out = merged(&Recipe { before, ..Recipe::of(method) }, &updates, &weights);
                    let size: f64 = out.iter().flatten().map(|value| value * value).sum();
                    for subset in subsets(clients, clients - tolerate) {
                        let (error, spread) = error_and_spread(&out, &updates, subset);
                        prop_assert!(error <= kappa * spread + 1e-9 * (1.0 + size), "{:?}: {} > {} {}", method, error, kappa, spread);
                    }
                }
            }
        }
    }

    #[test]
    fn a_clip_bounds_the_mean_however_loud_a_client_is((updates, weights) in cases(), limit in 1.0_f64..50.0, loud in 1.0_f64..1e6) {
        let mut updates = updates;
        updates[0] = map(&updates[0], |value| value * loud);
        let clip = |norm| Recipe { before: vec![Before::Clip { norm: ClipNorm::Fixed(norm) }], ..Recipe::of(Method::Mean) };
        let norm = |model: &Tensors<f64>| model.iter().flatten().map(|value| value * value).sum::<f64>().sqrt();
        let length = norm(&merged(&clip(limit), &updates, &weights));
        prop_assert!(length <= limit * (1.0 + 1e-9), "{} > {}", length, limit);
        let longest = updates.iter().map(norm).fold(1.0, f64::max) * 1.001;
        prop_assert!(is_close(&merged(&clip(longest), &updates, &weights), &merged(&Recipe::of(Method::Mean), &updates, &weights)));
    }
}

/// A case, and its clients in another order.
fn shuffled() -> impl Strategy<Value = (Case, Vec<usize>)> {
    cases().prop_flat_map(|case| {
        let order: Vec<usize> = (0..case.0.len()).collect();
        (Just(case), Just(order).prop_shuffle())
    })
}

/// All sets of so many clients, as bits.
fn subsets(clients: usize, size: usize) -> impl Iterator<Item = usize> {
    (0..1_usize << clients).filter(move |subset| subset.count_ones() as usize == size)
}

/// Squared distance from the mean of a subset, and the subset's mean squared distance from its mean.
fn error_and_spread(out: &Tensors<f64>, updates: &[Tensors<f64>], subset: usize) -> (f64, f64) {
    let chosen: Vec<Vec<f64>> = (0..updates.len())
        .filter(|index| subset >> index & 1 == 1)
        .map(|index| updates[index].concat())
        .collect();
    let count = number(chosen.len());
    let (mut error, mut spread) = (0.0, 0.0);
    for (at, value) in out.iter().flatten().enumerate() {
        let mean = chosen.iter().map(|vector| vector[at]).sum::<f64>() / count;
        error += (value - mean).powi(2);
        spread += chosen
            .iter()
            .map(|vector| (vector[at] - mean).powi(2))
            .sum::<f64>()
            / count;
    }
    (error, spread)
}
