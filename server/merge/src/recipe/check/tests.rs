//! Refusals, with their arithmetic.

use super::*;
use crate::recipe::Rescale;

fn trimmed(tolerate: usize) -> Recipe {
    Recipe::of(Method::TrimmedMean { tolerate })
}

#[test]
fn tolerate_is_refused_with_the_arithmetic_as_soon_as_it_could_be_outvoted() {
    assert_eq!(trimmed(2).check(5), Ok(()));
    assert_eq!(trimmed(0).check(1), Ok(()));
    let refusal = trimmed(2).check(4).expect_err("2 × 2 + 1 = 5");
    assert_eq!(
        refusal.to_string(),
        "trimmed-mean with tolerate = 2 needs at least 2 × 2 + 1 = 5 clients, and there are 4: tolerate may be at most 1 here"
    );
    assert!(trimmed(usize::MAX).check(4).is_err());
}

#[test]
fn bulyan_and_krum_need_more_than_a_majority() {
    let neighbours = Neighbours::Paper;
    let bulyan = |tolerate| {
        Recipe::of(Method::Bulyan {
            tolerate,
            neighbours,
        })
    };
    assert_eq!(bulyan(1).check(7), Ok(()));
    assert!(bulyan(1).check(6).is_err());
    assert!(
        bulyan(0)
            .check(2)
            .expect_err("3")
            .to_string()
            .contains("at least 3 clients")
    );
    let krum = |tolerate, neighbours| {
        Recipe::of(Method::Krum {
            tolerate,
            neighbours,
        })
    };
    assert_eq!(krum(1, neighbours).check(5), Ok(()));
    assert!(krum(1, neighbours).check(4).is_err());
    assert_eq!(krum(1, Neighbours::Byzfl).check(3), Ok(()));
    assert!(krum(0, Neighbours::Byzfl).check(1).is_err());
}

#[test]
fn bucketing_leaves_groups_and_they_must_outvote_the_hostile() {
    let bucketed = |size| Recipe {
        before: vec![Before::Bucketing { size }],
        ..trimmed(2)
    };
    assert_eq!(bucketed(2).check(10), Ok(()));
    let refusal = bucketed(3).check(10).expect_err("4 groups");
    assert!(
        refusal.to_string().contains("5 groups, and there are 4"),
        "{refusal}"
    );
    assert!(bucketed(0).check(10).is_err());
}

#[test]
fn numbers_without_meaning_are_refused() {
    for density in [0.0, -0.1, 1.000_1, f64::NAN, f64::INFINITY] {
        let sparsify = Sparsify {
            rule: SparsifyRule::Trim { density },
            scope: Scope::Tensor,
            rescale: Rescale::Nothing,
        };
        let recipe = Recipe {
            sparsify: Some(sparsify),
            ..Recipe::of(Method::Mean)
        };
        assert!(
            recipe
                .check(3)
                .expect_err("no share")
                .to_string()
                .starts_with("density"),
            "{density}"
        );
    }
    for norm in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let recipe = Recipe {
            before: vec![Before::Clip {
                norm: ClipNorm::Fixed(norm),
            }],
            ..Recipe::of(Method::Mean)
        };
        assert!(recipe.check(3).is_err(), "{norm}");
    }
    let recipe = Recipe {
        lambda: f64::NAN,
        ..Recipe::of(Method::Mean)
    };
    assert!(recipe.check(3).is_err());
    assert_eq!(
        Recipe::of(Method::Mean).check(0),
        Err(RecipeError::NoClients)
    );
}

#[test]
fn della_keeps_its_probabilities_between_none_and_all() {
    let della = |density, epsilon| {
        let sparsify = Sparsify {
            rule: SparsifyRule::Della { density, epsilon },
            scope: Scope::Tensor,
            rescale: Rescale::Probability,
        };
        Recipe {
            sparsify: Some(sparsify),
            ..Recipe::of(Method::Mean)
        }
        .check(2)
    };
    assert_eq!(della(0.5, 0.15), Ok(()));
    assert_eq!(della(1.0, 0.15), Ok(()));
    for (density, epsilon) in [(0.1, 0.1), (0.9, 0.1), (0.5, -0.1), (0.5, f64::NAN)] {
        assert!(della(density, epsilon).is_err(), "{density} {epsilon}");
    }
}

#[test]
fn stages_that_contradict_each_other_are_refused_with_the_reason() {
    let mixed = Recipe {
        before: vec![Before::Nnm { tolerate: 1 }],
        ..trimmed(1)
    };
    assert_eq!(mixed.check(5), Ok(()));
    let trim = Sparsify {
        rule: SparsifyRule::Trim { density: 0.5 },
        scope: Scope::Tensor,
        rescale: Rescale::Nothing,
    };
    let refusal = Recipe {
        sparsify: Some(trim),
        ..mixed.clone()
    }
    .check(5)
    .expect_err("contradiction");
    assert!(
        refusal
            .to_string()
            .starts_with("nnm and trim cannot be combined: "),
        "{refusal}"
    );
    for method in [
        Method::Fltrust,
        Method::Monna { tolerate: 1 },
        Method::Sce { density: 0.5 },
    ] {
        let recipe = Recipe {
            method,
            ..mixed.clone()
        };
        assert!(
            matches!(recipe.check(5), Err(RecipeError::Combination { .. })),
            "{method:?}"
        );
    }
    let adaptive = Before::Clip {
        norm: ClipNorm::Adaptive { start: None },
    };
    let recipe = Recipe {
        before: vec![adaptive],
        scope: Scope::Tensor,
        ..trimmed(1)
    };
    assert!(recipe.check(5).is_err());
}
