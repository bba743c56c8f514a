//! Inputs that nobody should send: nothing, the same, numbers that are none, too few clients.

use super::*;

fn chains(tolerate: usize) -> Vec<Vec<Before>> {
    vec![
        vec![],
        vec![Before::Clip {
            norm: ClipNorm::Median,
        }],
        vec![
            Before::Clip {
                norm: ClipNorm::Adaptive { start: None },
            },
            Before::Arc { tolerate },
            Before::Nnm { tolerate },
        ],
        vec![
            Before::Nnm { tolerate },
            Before::Bucketing { size: 2 },
            Before::Clip {
                norm: ClipNorm::Fixed(1.0),
            },
        ],
    ]
}

fn methods(tolerate: usize) -> Vec<Method> {
    let mut methods = sums(tolerate);
    methods.push(PLAIN);
    methods.push(Method::Bulyan {
        tolerate,
        neighbours: Neighbours::Paper,
    });
    methods.push(Method::Bulyan {
        tolerate,
        neighbours: Neighbours::Byzfl,
    });
    methods
}

fn numbers(decision: &Decision) -> Vec<f64> {
    match decision {
        Decision::Sum(weights) => weights.clone(),
        Decision::Rows(rows) => rows.iter().copied().collect(),
    }
}

/// All decisions on these vectors, also with more hostile clients than a checked recipe would have.
fn decisions(vectors: &[Vec<f64>]) -> Vec<(Recipe, Decision)> {
    let mut all = Vec::new();
    for tolerate in [0, 1, 2, 100] {
        for before in chains(tolerate) {
            for method in methods(tolerate) {
                let recipe = recipe(&before, method);
                let decision = decided(&recipe, vectors, Some(0));
                all.push((recipe, decision));
            }
        }
    }
    all
}

#[test]
fn zeros_and_copies_make_numbers() {
    for clients in 1..=6 {
        for value in [0.0, -0.0, 1.0, 1e-30, 1e18] {
            for (recipe, decision) in decisions(&vec![vec![value; 3]; clients]) {
                assert!(
                    numbers(&decision).iter().all(|number| number.is_finite()),
                    "{clients} times {value}: {recipe:?} {decision:?}"
                );
            }
        }
    }
}

#[test]
fn zeros_among_others_make_numbers() {
    for clients in 2..=7 {
        let mut vectors = Dice(31).vectors(clients, 4);
        for zeros in 0..clients {
            vectors[zeros].fill(0.0);
            for (recipe, decision) in decisions(&vectors) {
                assert!(
                    numbers(&decision).iter().all(|number| number.is_finite()),
                    "{zeros} of {clients}: {recipe:?}"
                );
            }
        }
    }
}

#[test]
fn what_is_no_number_makes_no_panic_and_the_same_each_time() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e200] {
        for everyone in [false, true] {
            let mut vectors = Dice(32).vectors(5, 3);
            for vector in vectors.iter_mut().take(if everyone { 5 } else { 1 }) {
                vector[1] = bad;
            }
            let bits = || -> Vec<Vec<u64>> {
                let decisions = decisions(&vectors);
                decisions
                    .iter()
                    .map(|(_, decision)| {
                        numbers(decision)
                            .iter()
                            .map(|number| number.to_bits())
                            .collect()
                    })
                    .collect()
            };
            assert_eq!(bits(), bits());
        }
    }
}

#[test]
fn the_weights_of_means_and_medians_add_up_to_1() {
    let vectors = Dice(33).vectors(9, 4);
    for method in sums(1) {
        if let Method::Fltrust | Method::Flame | Method::CenteredClipping { .. } = method {
            continue;
        }
        let sum: f64 = weights(&recipe(&[Before::Nnm { tolerate: 1 }], method), &vectors)
            .iter()
            .sum();
        assert!((sum - 1.0).abs() < 1e-12, "{}: {sum}", method.name());
    }
}

#[test]
fn two_clients_are_merged_halfway_where_neither_can_be_outvoted() {
    let vectors = vec![vec![1.0, 0.0], vec![0.0, 3.0]];
    for method in [
        multi_krum(0),
        CONVERGED,
        Method::Mda { tolerate: 0 },
        Method::Caf { tolerate: 0 },
        Method::Dnc {
            tolerate: 0,
            drop: 1.0,
        },
    ] {
        assert_near(
            &merged(&Recipe::of(method), &vectors),
            &[0.5, 1.5],
            1e-9,
            method.name(),
        );
    }
    assert_near(
        &merged(&Recipe::of(krum(0)), &vectors),
        &[1.0, 0.0],
        0.0,
        "the first of two who are as good",
    );
}

#[test]
fn rows_of_others_are_left_out_by_rules_that_know_none() {
    let gram = Gram::of(5, &Dice(34).vectors(6, 4));
    for method in sums(1) {
        let context = Context {
            trusted: Some(0),
            ..Context::default()
        };
        let Decision::Sum(weights) = decide(&Recipe::of(method), &gram, &context).decision else {
            panic!("a sum");
        };
        assert_eq!(
            (weights.len(), weights[5].to_bits()),
            (6, 0.0_f64.to_bits()),
            "{}",
            method.name()
        );
    }
}
