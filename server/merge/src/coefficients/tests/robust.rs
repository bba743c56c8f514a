//! What the papers promise: a bound on how far any `f` clients can move the result, and that nobody moves it when all are honest.
//!
//! A rule is `(f, κ)`-robust (Allouah et al., AISTATS 2023) if for every set `S` of `n − f` clients, whoever they are, the result is no
//! further from their mean than `√κ` times their spread: `‖F(x) − x̄_S‖² ≤ κ / |S| · Σ_{i∈S} ‖xᵢ − x̄_S‖²`.

use proptest::prelude::*;

use super::naive::subsets;
use super::*;

/// Vectors of which some are far away, or alike, or just different.
fn attacked(seed: u64, clients: usize, hostile: usize, length: usize) -> Vectors {
    let mut dice = Dice(seed);
    let mut vectors = dice.vectors(clients, length);
    let target: Vec<f64> = (0..length).map(|_| dice.number()).collect();
    let scale = [0.0, 0.5, 1.0, 3.0, 30.0, 1000.0][dice.below(6)];
    let (alike, order) = (dice.below(2) == 0, dice.order(clients));
    for &client in &order[..hostile] {
        for (value, target) in vectors[client].iter_mut().zip(&target) {
            *value = if alike {
                *target * scale
            } else {
                *value * scale
            };
        }
    }
    vectors
}

/// The largest share of the bound that is used up by any set of honest clients.
fn used(vectors: &[Vec<f64>], result: &[f64], hostile: usize, kappa: f64) -> f64 {
    let share = |honest: Vec<usize>| {
        let mean = combined(&mean_of(&honest, vectors.len()), vectors);
        let spread = honest
            .iter()
            .map(|&i| distance(&vectors[i], &mean).powi(2))
            .sum::<f64>();
        let bound = kappa * spread / number(honest.len());
        distance(result, &mean).powi(2) / bound.max(1e-12)
    };
    subsets(vectors.len(), vectors.len() - hostile)
        .into_iter()
        .map(share)
        .fold(0.0, f64::max)
}

/// Each coordinate's median.
fn medians(rows: &[Vec<f64>]) -> Vec<f64> {
    let column = |at: usize| rows.iter().map(|row| row[at]).collect::<Vec<f64>>();
    (0..rows[0].len())
        .map(|at| rank::median(&column(at)))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_few_clients_move_the_result_beyond_the_bound(
        seed: u64, clients in 3_usize..=8, length in 1_usize..=5, few: prop::sample::Index,
    ) {
        let tolerate = few.index(clients.div_ceil(2));
        let vectors = attacked(seed, clients, tolerate, length);
        let ratio = number(tolerate) / number(clients - 2 * tolerate);
        let (of_krum, of_median) = (6.0 * (1.0 + ratio), 4.0 * (1.0 + ratio).powi(2));
        let mixed = |kappa: f64| 8.0 * number(tolerate) / number(clients - tolerate) * (kappa + 1.0);
        let clipped = |kappa: f64| kappa + 2.0 * ratio;
        let (nnm, arc) = (Before::Nnm { tolerate }, Before::Arc { tolerate });
        for (before, method, kappa) in [
            (vec![], krum(tolerate), of_krum),
            (vec![], CONVERGED, of_median),
            (vec![nnm], krum(tolerate), mixed(of_krum)),
            (vec![nnm], CONVERGED, mixed(of_median)),
            (vec![arc], CONVERGED, clipped(of_median)),
            (vec![arc, nnm], CONVERGED, clipped(mixed(of_median))),
        ] {
            let result = merged(&recipe(&before, method), &vectors);
            let used = used(&vectors, &result, tolerate, kappa);
            prop_assert!(used <= 1.0 + 1e-6, "{before:?} {} uses {used}", method.name());
        }
        let result = medians(&rows(&recipe(&[nnm], PLAIN), &vectors));
        let used = used(&vectors, &result, tolerate, mixed(of_median));
        prop_assert!(used <= 1.0 + 1e-6, "nnm and the median use {used}");
    }

    #[test]
    fn minimum_diameter_averaging_stays_within_a_share_of_the_honest_diameter(
        seed: u64, clients in 3_usize..=8, length in 1_usize..=5, few: prop::sample::Index,
    ) {
        // (f, λ)-resilience with λ = 2f / (n − f) (Farhadkhani et al., ICML 2022).
        let tolerate = few.index(clients.div_ceil(2));
        let vectors = attacked(seed, clients, tolerate, length);
        let result = merged(&Recipe::of(Method::Mda { tolerate }), &vectors);
        for honest in subsets(clients, clients - tolerate) {
            let mean = combined(&mean_of(&honest, clients), &vectors);
            let pairs = honest.iter().flat_map(|&i| honest.iter().map(move |&j| (i, j)));
            let diameter = pairs.map(|(i, j)| distance(&vectors[i], &vectors[j])).fold(0.0, f64::max);
            let bound = 2.0 * number(tolerate) / number(clients - tolerate) * diameter;
            prop_assert!(distance(&result, &mean) <= bound * (1.0 + 1e-9) + 1e-9);
        }
    }

    #[test]
    fn liars_far_away_are_as_good_as_absent(seed: u64, clients in 7_usize..=16, distance_exponent in 1_i32..=5) {
        let tolerate = (clients - 3) / 4;
        let mut dice = Dice(seed);
        let mut vectors = dice.vectors(clients, 6);
        let order = dice.order(clients);
        for &client in order.iter().filter(|client| **client != 0).take(tolerate) {
            let away = 10.0_f64.powi(distance_exponent) * 30.0;
            vectors[client].iter_mut().for_each(|value| *value = value.signum() * away);
        }
        for method in sums(tolerate) {
            // One direction is all that this one looks at, and these liars are in several.
            if let Method::Dnc { .. } = method {
                continue;
            }
            // Honest vectors are shorter than √6; a mean of clipped ones, and of a short iteration from 0, is a little longer at most.
            let recipe = Recipe::of(method);
            let length = length(&merged(&recipe, &vectors));
            prop_assert!(length < 6.0, "{} is {length} long", method.name());
        }
    }

    #[test]
    fn where_nobody_may_be_hostile_filters_are_the_mean(seed: u64, clients in 2_usize..=12, length in 1_usize..=5) {
        let vectors = Dice(seed).vectors(clients, length);
        let mean = combined(&vec![1.0 / number(clients); clients], &vectors);
        let largest = vectors.iter().flatten().fold(0.0_f64, |most, value| most.max(value.abs()));
        for method in [multi_krum(0), Method::Mda { tolerate: 0 }, Method::Caf { tolerate: 0 },
            Method::Dnc { tolerate: 0, drop: 1.0 }, Method::Monna { tolerate: 0 },
            Method::CenteredClipping { radius: 1e9, iterations: 1 }] {
            let result = merged(&Recipe::of(method), &vectors);
            prop_assert!(distance(&result, &mean) <= 1e-12 * largest, "{}", method.name());
        }
        for row in rows(&recipe(&[Before::Nnm { tolerate: 0 }], PLAIN), &vectors) {
            prop_assert!(distance(&row, &mean) <= 1e-12 * largest);
        }
        prop_assert_eq!(rows(&recipe(&[Before::Arc { tolerate: 0 }], PLAIN), &vectors), vectors);
    }
}

#[test]
fn liars_who_agree_are_dropped_by_divide_and_conquer() {
    let mut dice = Dice(22);
    for turn in 0..50 {
        let mut vectors = dice.vectors(11, 5);
        let lie: Vec<f64> = (0..5).map(|_| 50.0 * dice.number()).collect();
        vectors[8..].fill(lie);
        let weights = weights(
            &Recipe::of(Method::Dnc {
                tolerate: 3,
                drop: 1.0,
            }),
            &vectors,
        );
        assert_near(
            &weights,
            &mean_of(&[0, 1, 2, 3, 4, 5, 6, 7], 11),
            0.0,
            &format!("turn {turn}"),
        );
    }
}

#[test]
fn a_client_whose_weight_is_gone_does_not_hold_up_the_filter() {
    // One is a million lengths away, and two were expected: the second is found among the rest, although the first is off by far more.
    let mut vectors = Dice(21).vectors(9, 4);
    vectors[3].iter_mut().for_each(|value| *value *= 1e6);
    vectors[5].iter_mut().for_each(|value| *value *= 10.0);
    let weights = weights(&Recipe::of(Method::Caf { tolerate: 2 }), &vectors);
    assert_eq!(weights[3].to_bits(), 0.0_f64.to_bits());
    assert!(weights[5] < 1e-3, "{weights:?}");
    let largest = |scores: &[f64], turn| caf::largest(scores, &[0.0, 0.5, 1.0], turn);
    assert_eq!(largest(&[9.0, 1.0, 3.0], 0), Some(9.0));
    assert_eq!(largest(&[9.0, 1.0, 3.0], 64), Some(3.0));
    assert_eq!(largest(&[9e6, 1.0, 3.0], 0), Some(3.0));
    assert_eq!(largest(&[9.0, 0.0, 0.0], 0), None);
}
