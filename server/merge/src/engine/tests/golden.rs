//! Numbers that did not come from this code: outputs of ByzFL, and a TIES merge worked out by hand.

use serde_json::Value;

use super::fixture::merged;
use crate::reference::Tensors;
use crate::{Before, ClipNorm, Elect, Method, Recipe, TrimScope};

const BYZFL: &str = include_str!("../../../../../tests/vectors/byzfl.json");

#[expect(
    clippy::cast_possible_truncation,
    reason = "the engine's inputs are f32"
)]
fn vector(value: &Value) -> Tensors {
    vec![
        value
            .as_array()
            .unwrap()
            .iter()
            .map(|value| value.as_f64().unwrap() as f32)
            .collect(),
    ]
}

fn vectors(value: &Value) -> Vec<Tensors> {
    value.as_array().unwrap().iter().map(vector).collect()
}

fn assert_close(actual: &Tensors, expected: &Tensors, what: &str) {
    assert_eq!(actual[0].len(), expected[0].len());
    for (a, b) in actual[0].iter().zip(&expected[0]) {
        assert!(
            (a - b).abs() <= 1e-6 * (1.0 + b.abs()),
            "{what}: {a} is not {b}"
        );
    }
}

#[test]
fn means_medians_and_clipping_are_those_of_byzfl() {
    let golden: Value = serde_json::from_str(BYZFL).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() >= 4);
    for case in cases {
        let updates = vectors(&case["X"]);
        let tolerate = usize::try_from(case["f"].as_u64().unwrap()).unwrap();
        let zero = vec![vec![0.0; updates[0][0].len()]];
        let weights = vec![1.0; updates.len()];
        let rules = [
            ("Average", Method::Mean),
            ("Median", Method::Median),
            ("TrMean", Method::TrimmedMean { tolerate }),
        ];
        for (name, method) in rules {
            let out = merged(&Recipe::of(method), &zero, &updates, &weights);
            assert_close(&out, &vector(&case["agg"][name]), name);
        }
        let before = vec![Before::Clip {
            norm: ClipNorm::Fixed(2.0),
        }];
        let recipe = Recipe {
            before,
            ..Recipe::of(Method::Mean)
        };
        for (update, clipped) in updates.iter().zip(vectors(&case["pre"]["Clipping(c=2)"])) {
            assert_close(
                &merged(&recipe, &zero, std::slice::from_ref(update), &[1.0]),
                &clipped,
                "clipping",
            );
        }
    }
}

#[test]
fn ties_trims_elects_and_averages_as_worked_out_by_hand() {
    // Two of five values are kept, and a third where it ties: 5 2 | -3 4 | -6 3 3.
    let updates = [
        vec![vec![5.0, -1.0, 2.0, 0.5, 0.0]],
        vec![vec![-3.0, 4.0, 0.1, 1.0, 0.0]],
        vec![vec![1.0, -6.0, 3.0, 0.0, 3.0]],
    ];
    let base = vec![vec![1.0; 5]];
    let out = |elect| {
        let method = Method::Ties {
            density: 0.4,
            scope: TrimScope::Tensor,
            elect,
        };
        merged(
            &Recipe {
                lambda: 0.5,
                ..Recipe::of(method)
            },
            &base,
            &updates,
            &[1.0, 1.0, 2.0],
        )
    };
    assert_eq!(out(Elect::Mass), [[3.5, -2.0, 7.0 / 3.0, 1.0, 2.5]]);
    assert_eq!(out(Elect::Count), [[1.0, 1.0, 7.0 / 3.0, 1.0, 2.5]]);
}

#[test]
fn the_scope_of_the_trim_decides_among_which_values_magnitudes_are_ranked() {
    let updates = [vec![vec![10.0, 9.0], vec![2.0, -3.0]]];
    let zero = vec![vec![0.0; 2]; 2];
    let out = |scope| {
        let method = Method::Ties {
            density: 0.5,
            scope,
            elect: Elect::Mass,
        };
        merged(&Recipe::of(method), &zero, &updates, &[1.0])
    };
    assert_eq!(out(TrimScope::Tensor), [[10.0, 0.0], [0.0, -3.0]]);
    assert_eq!(out(TrimScope::Model), [[10.0, 9.0], [0.0, 0.0]]);
}
