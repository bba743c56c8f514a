//! What `compat` and the defaults become: the arithmetic of each reference.

use super::*;

fn ties(elect: Elect, even: Even, divide: Divide) -> Method {
    Method::Ties(Ties {
        elect,
        even,
        divide,
    })
}

#[test]
fn an_election_agrees_with_the_reference_that_is_named() {
    use {Divide as D, Elect as E, Even as V};
    for (text, expected) in [
        ("", ties(E::Mass, V::Nothing, D::Weights)),
        ("elect = \"count\"", ties(E::Count, V::Nothing, D::Weights)),
        ("normalize = false", ties(E::Mass, V::Nothing, D::Nothing)),
        ("compat = \"paper\"", ties(E::Mass, V::Nothing, D::Weights)),
        (
            "compat = \"mergekit\"",
            ties(E::Mass, V::Positive, D::Weights),
        ),
        (
            "compat = \"mergekit\"\nnormalize = false",
            ties(E::Mass, V::Positive, D::Nothing),
        ),
        (
            "compat = \"peft\"",
            ties(E::PlainMass, V::Positive, D::Count),
        ),
        (
            "compat = \"peft\"\nelect = \"count\"",
            ties(E::Count, V::Positive, D::Count),
        ),
    ] {
        let recipe = recipe_of(&format!("method = \"ties\"\n{text}"));
        assert_eq!(recipe.method, expected, "{text}");
    }
    // mergekit divides by default after a trim and after DELLA, and not after DARE and Breadcrumbs.
    for (name, divide) in [
        ("ties", D::Weights),
        ("della", D::Weights),
        ("dare-ties", D::Nothing),
        ("breadcrumbs-ties", D::Nothing),
    ] {
        let recipe = recipe_of(&format!("method = \"{name}\"\ncompat = \"mergekit\""));
        assert_eq!(recipe.method, ties(E::Mass, V::Positive, divide), "{name}");
        let recipe = recipe_of(&format!("method = \"{name}\""));
        assert_eq!(
            recipe.method,
            ties(E::Mass, V::Nothing, D::Weights),
            "{name}"
        );
    }
}

#[test]
fn what_is_dropped_and_what_makes_up_for_it_agrees_with_the_reference() {
    let expected = |rule, scope, rescale| Sparsify {
        rule,
        scope,
        rescale,
    };
    let dare = |density| SparsifyRule::Dare { density };
    for (text, rule, scope, rescale) in [
        (
            "method = \"ties\"",
            SparsifyRule::Trim { density: 0.2 },
            Scope::Tensor,
            Rescale::Nothing,
        ),
        (
            "method = \"ties\"\nscope = \"model\"\nrescale = true\ndensity = 0.5",
            SparsifyRule::Trim { density: 0.5 },
            Scope::Model,
            Rescale::Mass,
        ),
        (
            "method = \"dare-linear\"",
            dare(0.5),
            Scope::Tensor,
            Rescale::Probability,
        ),
        (
            "method = \"dare-linear\"\nrescale = false",
            dare(0.5),
            Scope::Tensor,
            Rescale::Nothing,
        ),
        (
            "method = \"dare-ties\"\ncompat = \"peft\"\ndensity = 0.3",
            dare(0.3),
            Scope::Tensor,
            Rescale::Probability,
        ),
        (
            "method = \"dare-ties\"\ncompat = \"mergekit\"",
            dare(1.0),
            Scope::Tensor,
            Rescale::Mass,
        ),
        (
            "method = \"della\"",
            SparsifyRule::Della {
                density: 0.5,
                epsilon: 0.15,
            },
            Scope::Tensor,
            Rescale::Probability,
        ),
        (
            "method = \"breadcrumbs\"",
            SparsifyRule::Breadcrumbs {
                density: 0.9,
                gamma: 0.01,
            },
            Scope::Tensor,
            Rescale::Nothing,
        ),
    ] {
        assert_eq!(
            recipe_of(text).sparsify.unwrap(),
            expected(rule, scope, rescale),
            "{text}"
        );
    }
}

#[test]
fn a_sparsify_table_agrees_with_the_reference_that_is_named() {
    for (text, rule, scope, rescale) in [
        (
            "method = \"krum\"\nsparsify = { method = \"trim\", density = 0.1, scope = \"model\" }",
            SparsifyRule::Trim { density: 0.1 },
            Scope::Model,
            Rescale::Nothing,
        ),
        (
            "method = \"mean\"\nsparsify = { method = \"dare\" }\ncompat = \"mergekit\"",
            SparsifyRule::Dare { density: 1.0 },
            Scope::Tensor,
            Rescale::Mass,
        ),
    ] {
        let expected = Sparsify {
            rule,
            scope,
            rescale,
        };
        assert_eq!(recipe_of(text).sparsify.unwrap(), expected, "{text}");
    }
}

#[test]
fn a_robust_rule_agrees_with_the_reference_that_is_named() {
    for (text, expected) in [
        (
            "method = \"krum\"\ntolerate = 2",
            Method::Krum {
                tolerate: 2,
                neighbours: Neighbours::Paper,
            },
        ),
        (
            "method = \"krum\"\ncompat = \"byzfl\"",
            Method::Krum {
                tolerate: 0,
                neighbours: Neighbours::Byzfl,
            },
        ),
        (
            "method = \"multi-krum\"\ntolerate = 1\nsize = 4",
            Method::MultiKrum {
                tolerate: 1,
                neighbours: Neighbours::Paper,
                selected: Some(4),
            },
        ),
        (
            "method = \"geometric-median\"",
            Method::GeometricMedian {
                nu: 1e-6,
                iterations: 1000,
                start: Start::Mean,
            },
        ),
        (
            "method = \"geometric-median\"\ncompat = \"byzfl\"",
            Method::GeometricMedian {
                nu: 0.1,
                iterations: 3,
                start: Start::Zero,
            },
        ),
        (
            "method = \"centered-clipping\"",
            Method::CenteredClipping {
                radius: 10.0,
                iterations: 3,
            },
        ),
        (
            "method = \"centered-clipping\"\ncompat = \"byzfl\"\niterations = 2",
            Method::CenteredClipping {
                radius: 100.0,
                iterations: 2,
            },
        ),
    ] {
        assert_eq!(recipe_of(text).method, expected, "{text}");
    }
}

#[test]
fn what_is_left_out_is_as_the_papers_have_it() {
    for (text, expected) in [
        (
            "method = \"consensus\"",
            Method::Consensus {
                threshold: 0.2,
                support: 2,
            },
        ),
        ("method = \"ram\"", Method::Ram { epsilon: 1e-5 }),
        ("method = \"sce\"", Method::Sce { density: 1.0 }),
        (
            "method = \"dnc\"\ntolerate = 1",
            Method::Dnc {
                tolerate: 1,
                drop: 1.0,
            },
        ),
    ] {
        assert_eq!(recipe_of(text).method, expected, "{text}");
    }
}
