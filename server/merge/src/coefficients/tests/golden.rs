//! Numbers that did not come from this code: outputs of ByzFL, and of an exact reference where ByzFL leaves things to chance.

use serde_json::Value;

use super::*;

const BYZFL: &str = include_str!("../../../../../tests/vectors/byzfl.json");

const TOLERANCE: f64 = 1e-9;

fn vector(value: &Value) -> Vec<f64> {
    let values = value.as_array().unwrap();
    values.iter().map(|value| value.as_f64().unwrap()).collect()
}

fn vectors(value: &Value) -> Vectors {
    value.as_array().unwrap().iter().map(vector).collect()
}

/// Vectors, how many of them are hostile, and what comes of them.
struct Case {
    vectors: Vectors,
    tolerate: usize,
    golden: Value,
}

fn cases() -> Vec<Case> {
    let golden: Value = serde_json::from_str(BYZFL).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() >= 4);
    let case = |golden: &Value| Case {
        vectors: vectors(&golden["X"]),
        tolerate: usize::try_from(golden["f"].as_u64().unwrap()).unwrap(),
        golden: golden.clone(),
    };
    cases.iter().map(case).collect()
}

/// Coordinate by coordinate, the mean of what is left without the `cut` lowest and highest.
fn trimmed(rows: &[Vec<f64>], cut: usize) -> Vec<f64> {
    let at = |at: usize| {
        let mut column: Vec<f64> = rows.iter().map(|row| row[at]).collect();
        column.sort_by(f64::total_cmp);
        let left = &column[cut..column.len() - cut];
        left.iter().sum::<f64>() / number(left.len())
    };
    (0..rows[0].len()).map(at).collect()
}

/// The rule of an entry; none where it is coordinate-wise.
fn method(name: &str, tolerate: usize) -> Option<Method> {
    let geometric = |nu, iterations| Method::GeometricMedian {
        nu,
        iterations,
        start: Start::Zero,
    };
    Some(match name {
        "Krum" => krum(tolerate),
        "MultiKrum" => multi_krum(tolerate),
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
        "Average" | "Median" | "TrMean" | "Meamed" => return None,
        unknown => panic!("what is {unknown}?"),
    })
}

fn before(names: &str, tolerate: usize) -> Vec<Before> {
    let stage = |name| match name {
        "NNM" => Before::Nnm { tolerate },
        "ARC" => Before::Arc { tolerate },
        unknown => panic!("what is {unknown}?"),
    };
    names
        .split('>')
        .filter(|name| !name.is_empty())
        .map(stage)
        .collect()
}

#[test]
fn rules_and_chains_are_those_of_byzfl() {
    let mut checked = 0;
    for Case {
        vectors,
        tolerate,
        golden,
    } in cases()
    {
        for (name, expected) in golden["agg"].as_object().unwrap() {
            let (stages, rule) = name.rsplit_once('>').unwrap_or(("", name));
            let before = before(stages, tolerate);
            let actual = match (method(rule, tolerate), rule) {
                (Some(method), _) => merged(&recipe(&before, method), &vectors),
                (None, "Median") => {
                    let rows = rows(&recipe(&before, PLAIN), &vectors);
                    trimmed(&rows, (rows.len() - 1) / 2)
                }
                (None, "TrMean") => trimmed(&rows(&recipe(&before, PLAIN), &vectors), tolerate),
                (None, "Average") => trimmed(&rows(&recipe(&before, PLAIN), &vectors), 0),
                (None, _) => continue,
            };
            assert_near(&actual, &vector(expected), TOLERANCE, name);
            checked += 1;
        }
    }
    assert!(checked >= 4 * 19, "{checked}");
}

#[test]
fn stages_are_those_of_byzfl() {
    for Case {
        vectors: all,
        tolerate,
        golden,
    } in cases()
    {
        let clip = Before::Clip {
            norm: ClipNorm::Fixed(2.0),
        };
        for (name, stage) in [
            ("NNM", Before::Nnm { tolerate }),
            ("ARC", Before::Arc { tolerate }),
            ("Clipping(c=2)", clip),
        ] {
            let expected = vectors(&golden["pre"][name]);
            let actual = rows(&recipe(&[stage], PLAIN), &all);
            assert_eq!(actual.len(), expected.len());
            for (actual, expected) in actual.iter().zip(&expected) {
                assert_near(actual, expected, TOLERANCE, name);
            }
        }
    }
}

#[test]
fn filters_along_the_largest_variance_are_those_of_an_exact_decomposition() {
    for Case {
        vectors,
        tolerate,
        golden,
    } in cases()
    {
        let golden = &golden["ref"];
        let caf = Recipe::of(Method::Caf { tolerate });
        let expected = vector(&golden["CAF_exact_eig_weights"]);
        assert_near(
            &weights(&caf, &vectors),
            &expected,
            TOLERANCE,
            "weights of CAF",
        );
        assert_near(
            &merged(&caf, &vectors),
            &vector(&golden["CAF_exact_eig"]),
            TOLERANCE,
            "CAF",
        );
        let dnc = Recipe::of(Method::Dnc {
            tolerate,
            drop: 1.0,
        });
        let kept: Vec<f64> = weights(&dnc, &vectors)
            .iter()
            .enumerate()
            .filter(|(_, weight)| **weight > 0.0)
            .map(|(client, _)| number(client))
            .collect();
        assert_eq!(kept, vector(&golden["DnC_fullD_keep"]));
        assert_near(
            &merged(&dnc, &vectors),
            &vector(&golden["DnC_fullD"]),
            TOLERANCE,
            "DnC",
        );
    }
}
