//! Numbers that did not come from this code: outputs of ByzFL through the whole engine in `f64`, and a TIES merge worked out by hand.

use serde_json::Value;

use super::fixture::{Merge, TIES, Tensors, sparsify, zeros};
use crate::{
    Before, ClipNorm, Elect, Method, Neighbours, Recipe, Rescale, Scope, SparsifyRule, Start, Ties,
};

const BYZFL: &str = include_str!("../../../../../tests/vectors/byzfl.json");

fn vector(value: &Value) -> Tensors<f64> {
    let values = value.as_array().unwrap().iter();
    vec![values.map(|value| value.as_f64().unwrap()).collect()]
}

fn vectors(value: &Value) -> Vec<Tensors<f64>> {
    value.as_array().unwrap().iter().map(vector).collect()
}

fn method(name: &str, tolerate: usize) -> Method {
    let neighbours = Neighbours::Byzfl;
    let geometric = |nu, iterations| Method::GeometricMedian {
        nu,
        iterations,
        start: Start::Zero,
    };
    match name {
        "Average" => Method::Mean,
        "Median" => Method::Median { tolerate: 0 },
        "TrMean" => Method::TrimmedMean { tolerate },
        "Meamed" => Method::Meamed { tolerate },
        "Krum" => Method::Krum {
            tolerate,
            neighbours,
        },
        "MultiKrum" => Method::MultiKrum {
            tolerate,
            neighbours,
            selected: None,
        },
        "MDA" => Method::Mda { tolerate },
        "MoNNA(idx=0)" => Method::Monna { tolerate },
        "GeometricMedian(nu=0.1,T=3)" => geometric(0.1, 3),
        "GeometricMedian(nu=1e-6,T=100)" => geometric(1e-6, 100),
        "CenteredClipping(m=0,L=1,tau=100)" => Method::CenteredClipping {
            radius: 100.0,
            iterations: 1,
        },
        "CenteredClipping(m=0,L=5,tau=1)" => Method::CenteredClipping {
            radius: 1.0,
            iterations: 5,
        },
        "CAF_exact_eig" => Method::Caf { tolerate },
        "DnC_fullD" => Method::Dnc {
            tolerate,
            drop: 1.0,
        },
        unknown => panic!("what is {unknown}?"),
    }
}

fn stage(name: &str, tolerate: usize) -> Before {
    match name {
        "NNM" => Before::Nnm { tolerate },
        "ARC" => Before::Arc { tolerate },
        "Clipping(c=2)" => Before::Clip {
            norm: ClipNorm::Fixed(2.0),
        },
        unknown => panic!("what is {unknown}?"),
    }
}

/// `ARC>NNM>Krum`: stages, and the method last.
fn recipe(chain: &str, tolerate: usize) -> Recipe {
    let mut names: Vec<&str> = chain.split('>').collect();
    let last = names.pop().unwrap();
    Recipe {
        before: names.iter().map(|name| stage(name, tolerate)).collect(),
        ..Recipe::of(method(last, tolerate))
    }
}

#[track_caller]
fn assert_near(actual: &Tensors<f64>, expected: &Tensors<f64>, what: &str) {
    assert_eq!(actual[0].len(), expected[0].len());
    for (a, b) in actual[0].iter().zip(&expected[0]) {
        assert!(
            (a - b).abs() <= 1e-9 * (1.0 + b.abs()),
            "{what}: {a} is not {b}"
        );
    }
}

#[test]
fn every_case_of_byzfl_comes_out_to_nine_digits() {
    let golden: Value = serde_json::from_str(BYZFL).unwrap();
    let mut checked = 0;
    for case in golden["cases"].as_array().unwrap() {
        let updates = vectors(&case["X"]);
        let tolerate = usize::try_from(case["f"].as_u64().unwrap()).unwrap();
        let base = zeros(&updates[0]);
        let merged = |recipe, weights| {
            Merge {
                weights,
                ..Merge::new(recipe, &base, &updates)
            }
            .model()
        };
        let equal = vec![1.0; updates.len()];
        let vectors_of = |part: &str| case[part].as_object().unwrap().clone();
        for (name, expected) in vectors_of("agg") {
            assert_near(
                &merged(recipe(&name, tolerate), equal.clone()),
                &vector(&expected),
                &name,
            );
            checked += 1;
        }
        for name in ["CAF_exact_eig", "DnC_fullD"] {
            assert_near(
                &merged(recipe(name, tolerate), equal.clone()),
                &vector(&case["ref"][name]),
                name,
            );
            checked += 1;
        }
        // A mean in which one client alone has weight is that client's vector after the stage.
        for (name, expected) in vectors_of("pre") {
            for (client, expected) in vectors(&expected).iter().enumerate() {
                let recipe = Recipe {
                    before: vec![stage(&name, tolerate)],
                    ..Recipe::of(Method::Mean)
                };
                let mut alone = vec![0.0; updates.len()];
                alone[client] = 1.0;
                assert_near(&merged(recipe, alone), expected, &name);
                checked += 1;
            }
        }
    }
    assert!(checked > 4 * 22, "{checked} results were checked");
}

#[test]
fn ties_trims_elects_and_averages_as_worked_out_by_hand() {
    // Two of five values are kept, and a third where it ties: 5 2 | -3 4 | -6 3 3.
    let updates = [
        vec![vec![5.0_f32, -1.0, 2.0, 0.5, 0.0]],
        vec![vec![-3.0, 4.0, 0.1, 1.0, 0.0]],
        vec![vec![1.0, -6.0, 3.0, 0.0, 3.0]],
    ];
    let base = vec![vec![1.0; 5]];
    let out = |elect| {
        let recipe = Recipe {
            lambda: 0.5,
            sparsify: sparsify(
                SparsifyRule::Trim { density: 0.4 },
                Scope::Tensor,
                Rescale::Nothing,
            ),
            ..Recipe::of(Method::Ties(Ties { elect, ..TIES }))
        };
        Merge {
            weights: vec![1.0, 1.0, 2.0],
            ..Merge::new(recipe, &base, &updates)
        }
        .model()
    };
    assert_near(
        &out(Elect::Mass),
        &vec![vec![3.5, -2.0, 7.0 / 3.0, 1.0, 2.5]],
        "mass",
    );
    assert_near(
        &out(Elect::Count),
        &vec![vec![1.0, 1.0, 7.0 / 3.0, 1.0, 2.5]],
        "count",
    );
}

#[test]
fn the_scope_of_the_trim_decides_among_which_values_magnitudes_are_ranked() {
    let updates = [vec![vec![10.0_f32, 9.0], vec![2.0, -3.0]]];
    let base = zeros(&updates[0]);
    let out = |scope| {
        let recipe = Recipe {
            sparsify: sparsify(SparsifyRule::Trim { density: 0.5 }, scope, Rescale::Nothing),
            ..Recipe::of(Method::Ties(TIES))
        };
        Merge::new(recipe, &base, &updates).model()
    };
    assert_eq!(out(Scope::Tensor), [[10.0, 0.0], [0.0, -3.0]]);
    assert_eq!(out(Scope::Model), [[10.0, 9.0], [0.0, 0.0]]);
}

#[test]
fn sce_selects_weighs_and_erases_as_worked_out_by_hand() {
    // Variances 4, 0, 9, 1: of three that are not 0, two thirds are kept, the first and the third.
    let updates = [
        vec![vec![4.0_f32, 1.0, 3.0, 2.0]],
        vec![vec![0.0, 1.0, -3.0, 0.0]],
    ];
    let base = zeros(&updates[0]);
    let out = Merge::new(Recipe::of(Method::Sce { density: 0.7 }), &base, &updates).model();
    // Energies 16 + 9 and 9 of the kept coordinates; the third coordinate is even, and positive wins.
    assert_eq!(out, [[4.0, 0.0, 3.0, 0.0]]);
}
