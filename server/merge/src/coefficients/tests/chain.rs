//! How stages and a rule are put together, and what a recipe asks for.

use super::*;

#[test]
fn without_stages_a_coordinate_wise_rule_sees_every_client_as_it_is() {
    let vectors = Dice(1).vectors(4, 3);
    assert_eq!(rows(&Recipe::of(PLAIN), &vectors), vectors);
}

#[test]
fn a_recipe_asks_for_no_more_than_it_looks_at() {
    let (clip, arc) = (
        Before::Clip {
            norm: ClipNorm::Median,
        },
        Before::Arc { tolerate: 1 },
    );
    let (nnm, bucketing) = (Before::Nnm { tolerate: 1 }, Before::Bucketing { size: 2 });
    for (before, method, expected) in [
        (vec![], PLAIN, Needs::Nothing),
        (vec![clip, arc], PLAIN, Needs::Norms),
        (vec![bucketing], PLAIN, Needs::Norms),
        (vec![clip, bucketing], PLAIN, Needs::Norms),
        (vec![bucketing, clip], PLAIN, Needs::Gram),
        (vec![nnm], PLAIN, Needs::Gram),
        (vec![], Method::Flame, Needs::Gram),
        (
            vec![clip],
            Method::Bulyan {
                tolerate: 0,
                neighbours: Neighbours::Paper,
            },
            Needs::Gram,
        ),
    ] {
        assert_eq!(needs(&recipe(&before, method)), expected, "{before:?}");
    }
}

#[test]
fn lengths_alone_decide_as_the_whole_matrix_does_where_they_are_enough() {
    let vectors = Dice(2).vectors(7, 5);
    let lengths: Vec<f64> = vectors.iter().map(|vector| length(vector)).collect();
    let before = [
        Before::Clip {
            norm: ClipNorm::Adaptive { start: None },
        },
        Before::Clip {
            norm: ClipNorm::Fixed(1.0),
        },
        Before::Arc { tolerate: 2 },
        Before::Bucketing { size: 2 },
    ];
    let recipe = recipe(&before, PLAIN);
    assert_eq!(needs(&recipe), Needs::Norms);
    let decide = |gram: &Gram| decide(&recipe, gram, &Context::default());
    let (short, long) = (
        decide(&Gram::of_norms(&lengths)),
        decide(&Gram::of(7, &vectors)),
    );
    let (Decision::Rows(a), Decision::Rows(b)) = (&short.decision, &long.decision) else {
        panic!("the mean works coordinate by coordinate");
    };
    assert_eq!(a.dim(), (4, 7));
    assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12));
    assert!((short.clip_limit.unwrap() - long.clip_limit.unwrap()).abs() < 1e-12);
}

#[test]
fn a_chain_of_stages_is_what_its_stages_do_one_after_the_other() {
    let mut dice = Dice(3);
    let stages = [
        Before::Clip {
            norm: ClipNorm::Median,
        },
        Before::Nnm { tolerate: 2 },
        Before::Bucketing { size: 2 },
        Before::Arc { tolerate: 1 },
        Before::Nnm { tolerate: 1 },
    ];
    for _ in 0..20 {
        let vectors = dice.vectors(9, 6);
        let mut expected = vectors.clone();
        for (position, stage) in stages.iter().enumerate() {
            // A shuffle knows its place in the recipe: the stages before it, as if they did nothing.
            let mut before = vec![
                Before::Clip {
                    norm: ClipNorm::Fixed(1e9)
                };
                position
            ];
            before.push(*stage);
            expected = rows(&recipe(&before, PLAIN), &expected);
        }
        let actual = rows(&recipe(&stages, PLAIN), &vectors);
        assert_eq!(actual.len(), 5);
        for (actual, expected) in actual.iter().zip(&expected) {
            assert_near(actual, expected, 1e-11, "chain");
        }
        // And a rule at the end carries its weights back to the vectors as they are stored.
        for method in sums(1) {
            let sum = merged(&recipe(&stages, method), &vectors);
            assert_near(
                &sum,
                &merged(&Recipe::of(method), &expected),
                1e-7,
                method.name(),
            );
        }
    }
}

#[test]
fn centered_clipping_goes_on_from_the_step_before_whatever_became_of_the_clients() {
    let mut dice = Dice(4);
    let (mut vectors, before) = (dice.vectors(5, 4), [Before::Bucketing { size: 2 }]);
    let groups = rows(&recipe(&before, PLAIN), &vectors);
    let (radius, iterations) = (0.7, 4);
    let previous: Vec<f64> = (0..4).map(|_| dice.number()).collect();
    let mut expected = previous.clone();
    for _ in 0..iterations {
        let centre = expected.clone();
        for group in &groups {
            let factor = (radius / distance(group, &centre)).min(1.0) / 3.0;
            for (at, value) in expected.iter_mut().enumerate() {
                *value += factor * (group[at] - centre[at]);
            }
        }
    }
    vectors.push(vec![9.0; 4]);
    vectors.push(previous);
    let gram = Gram::of(5, &vectors);
    let context = Context {
        previous: Some(6),
        ..Context::default()
    };
    let recipe = recipe(&before, Method::CenteredClipping { radius, iterations });
    let Decision::Sum(weights) = decide(&recipe, &gram, &context).decision else {
        panic!("a sum");
    };
    assert_eq!(
        (weights.len(), weights[5].to_bits()),
        (7, 0.0_f64.to_bits())
    );
    assert!(weights[6] > 0.0);
    assert_near(
        &combined(&weights, &vectors),
        &expected,
        1e-12,
        "centered clipping",
    );
}

#[test]
fn bulyan_leaves_its_choice_of_mixed_vectors_to_be_merged_by_coordinates() {
    let vectors = Dice(5).vectors(11, 6);
    let nnm = [Before::Nnm { tolerate: 2 }];
    let bulyan = Method::Bulyan {
        tolerate: 2,
        neighbours: Neighbours::Paper,
    };
    let (mixed, chosen) = (
        rows(&recipe(&nnm, PLAIN), &vectors),
        rows(&recipe(&nnm, bulyan), &vectors),
    );
    assert_eq!(chosen.len(), 7);
    assert!(chosen.iter().all(|row| mixed.contains(row)));
}
