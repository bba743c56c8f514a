//! Laws that rules obey whatever the vectors: they do not care about the order of clients, the place of 0 or the unit of length.

use proptest::prelude::*;

use super::*;

/// Whether ties are the rule's daily bread, so that the order of clients decides: two who are nearest to each other have one score where
/// one neighbour is counted, and several sets can have one diameter.
fn is_often_tied(method: Method, clients: usize, tolerate: usize) -> bool {
    if let Method::Krum { neighbours, .. } | Method::MultiKrum { neighbours, .. } = method {
        return krum::counted(clients, tolerate, neighbours) == 1;
    }
    matches!(method, Method::Mda { .. }) && tolerate > 0
}

/// With its lengths in another unit.
fn scaled(method: Method, unit: f64) -> Method {
    let mut method = method;
    if let Method::GeometricMedian { nu: length, .. }
    | Method::CenteredClipping { radius: length, .. } = &mut method
    {
        *length *= unit;
    }
    method
}

/// Whether the rule looks at differences alone.
fn knows_no_zero(method: Method) -> bool {
    !matches!(
        method,
        Method::GeometricMedian {
            start: Start::Zero,
            ..
        } | Method::CenteredClipping { .. }
            | Method::Fltrust
            | Method::Flame
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_order_of_clients_does_not_matter(seed: u64, clients in 3_usize..=12, length in 2_usize..=6) {
        let mut dice = Dice(seed);
        let tolerate = (clients - 1) / 4;
        let vectors = dice.vectors(clients, length);
        // The trusted one stays where it is.
        let mut order = dice.order(clients);
        let first = order.iter().position(|&client| client == 0).unwrap();
        order.swap(0, first);
        let shuffled: Vectors = order.iter().map(|&client| vectors[client].clone()).collect();
        for method in sums(tolerate).into_iter().filter(|&method| !is_often_tied(method, clients, tolerate)) {
            for before in [vec![], vec![Before::Clip { norm: ClipNorm::Median }, Before::Arc { tolerate }]] {
                let recipe = recipe(&before, method);
                assert_near(&merged(&recipe, &shuffled), &merged(&recipe, &vectors), 1e-7, method.name());
            }
        }
        let recipe = recipe(&[Before::Arc { tolerate }, Before::Nnm { tolerate }], PLAIN);
        let (expected, mixed) = (rows(&recipe, &vectors), rows(&recipe, &shuffled));
        for (mixed, &client) in mixed.iter().zip(&order) {
            assert_near(mixed, &expected[client], 1e-9, "arc and nnm");
        }
    }

    #[test]
    fn what_is_added_to_all_is_added_to_the_result(seed: u64, clients in 3_usize..=12, length in 2_usize..=6) {
        let mut dice = Dice(seed);
        let tolerate = (clients - 1) / 4;
        let vectors = dice.vectors(clients, length);
        let added: Vec<f64> = (0..length).map(|_| 50.0 * dice.number()).collect();
        let plus = |vector: &[f64]| -> Vec<f64> { vector.iter().zip(&added).map(|(a, b)| a + b).collect() };
        let moved: Vectors = vectors.iter().map(|vector| plus(vector)).collect();
        for method in sums(tolerate).into_iter().filter(|&method| knows_no_zero(method)) {
            let recipe = Recipe::of(method);
            assert_near(&merged(&recipe, &moved), &plus(&merged(&recipe, &vectors)), 1e-7, method.name());
        }
        let recipe = recipe(&[Before::Nnm { tolerate }, Before::Bucketing { size: 2 }], PLAIN);
        for (actual, expected) in rows(&recipe, &moved).iter().zip(&rows(&recipe, &vectors)) {
            assert_near(actual, &plus(expected), 1e-9, "nnm and bucketing");
        }
    }

    #[test]
    fn the_unit_of_length_does_not_matter(seed: u64, clients in 3_usize..=12, length in 2_usize..=6, exponent in -60_i32..=60) {
        let unit = 2.0_f64.powi(exponent);
        let tolerate = (clients - 1) / 4;
        let vectors = Dice(seed).vectors(clients, length);
        let enlarged: Vectors = vectors.iter().map(|vector| vector.iter().map(|value| value * unit).collect()).collect();
        for method in sums(tolerate) {
            for before in [
                vec![Before::Clip { norm: ClipNorm::Median }, Before::Nnm { tolerate }],
                vec![Before::Arc { tolerate }, Before::Bucketing { size: 2 }],
            ] {
                // A power of two changes no digit: the weights are the same to the bit.
                let (of_plain, of_enlarged) = (
                    weights(&recipe(&before, method), &vectors),
                    weights(&recipe(&before, scaled(method, unit)), &enlarged),
                );
                prop_assert_eq!(of_plain, of_enlarged, "{}", method.name());
            }
        }
    }

    #[test]
    fn what_all_say_is_the_result(seed: u64, clients in 1_usize..=9, length in 1_usize..=5) {
        let vectors = vec![Dice(seed).vectors(1, length).remove(0); clients];
        let tolerate = (clients - 1) / 4;
        for method in sums(tolerate) {
            // From 0, clipping comes there if one step may be so long.
            let method = scaled(method, 100.0);
            for before in [vec![], vec![Before::Nnm { tolerate }], vec![Before::Arc { tolerate }, Before::Bucketing { size: 2 }]] {
                // The trusted one alone has nobody who agrees; in groups nobody is the trusted one.
                if method == Method::Fltrust && (clients == 1 || before.len() == 2) {
                    continue;
                }
                assert_near(&merged(&recipe(&before, method), &vectors), &vectors[0], 1e-9, method.name());
            }
        }
    }
}
