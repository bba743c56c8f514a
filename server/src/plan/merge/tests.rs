//! Every name, every key, every reference: what the table becomes, and what it is told when a key has no effect.
#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use std::path::Path;

use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_merge::{
    Adaptive, Before, ClipNorm, Divide, Elect, Even, Neighbours, Optimizer, OptimizerRule, Rescale,
    Sparsify, SparsifyRule, Start, Ties,
};

use super::*;
use crate::plan::FederationPlan;

mod refusals;

/// A plan in which every method has clients enough.
fn parse(text: &str) -> Result<FederationPlan, ReadPlanError> {
    let head = "name = \"digits\"\nbase = \"base\"\nround.cohort.target = 15\n[merge]\n";
    FederationPlan::parse(&format!("{head}{text}"), Path::new("f.toml"))
}

#[track_caller]
fn recipe_of(text: &str) -> Recipe {
    parse(text).unwrap().recipe
}

/// The line that whom-to-trust needs.
fn with_trust(name: &str) -> String {
    let trust = match name {
        "fltrust" | "moNNA" => "\ntrusted = \"ward-1\"",
        _ => "",
    };
    format!("method = \"{name}\"{trust}")
}

#[test]
fn every_name_of_the_engine_can_be_written_and_no_other() {
    assert!(
        METHODS
            .names()
            .eq(Recipe::METHOD_NAMES.iter().copied())
    );
    assert!(
        stages::STAGES
            .names()
            .eq(Before::NAMES.iter().copied())
    );
    assert!(
        sparsifiers::SPARSIFIERS
            .names()
            .eq(SparsifyRule::NAMES.iter().copied())
    );
    assert!(
        optimizers::OPTIMIZERS
            .names()
            .skip(1)
            .eq(OptimizerRule::NAMES.iter().copied())
    );
    for name in METHODS.names() {
        assert_eq!(recipe_of(&with_trust(name)).method_name(), name);
        assert!(!METHODS.planned.contains(&name), "{name}");
    }
    for name in SparsifyRule::NAMES {
        let recipe = recipe_of(&format!(
            "method = \"mean\"\nsparsify = {{ method = \"{name}\" }}"
        ));
        assert_eq!(recipe.sparsify.unwrap().rule.name(), *name);
    }
    for name in OptimizerRule::NAMES {
        let recipe = recipe_of(&format!("optimizer = {{ method = \"{name}\" }}"));
        assert_eq!(recipe.optimizer.unwrap().rule.name(), *name);
    }
}

/// A value of each key that only some methods have, other than every default.
const KEYS: &[(&str, &str)] = &[
    ("density", "0.75"),
    ("scope", "\"tensor\""),
    ("scope", "\"model\""),
    ("elect", "\"count\""),
    ("normalize", "true"),
    ("normalize", "false"),
    ("rescale", "true"),
    ("rescale", "false"),
    ("gamma", "0.125"),
    ("epsilon", "0.0625"),
    ("t", "0.75"),
    ("nu", "0.5"),
    ("iterations", "7"),
    ("radius", "0.5"),
    ("size", "3"),
    ("compat", "\"mergekit\""),
    ("compat", "\"peft\""),
    ("compat", "\"byzfl\""),
    ("sparsify", "{ method = \"trim\" }"),
];

#[test]
fn every_key_has_an_effect_on_a_method_or_is_refused() {
    for name in METHODS.names().filter(|name| *name != "sce") {
        let plain = recipe_of(&with_trust(name));
        for key in KEYS.iter().map(|(key, _)| key) {
            let values = KEYS.iter().filter(|(other, _)| other == key);
            let results: Vec<_> = values
                .map(|(_, value)| parse(&format!("{}\n{key} = {value}", with_trust(name))))
                .collect();
            let accepted: Vec<_> = results.iter().flatten().collect();
            assert!(
                accepted.is_empty() || accepted.iter().any(|plan| plan.recipe != plain),
                "{key} of {name}"
            );
            for refusal in results.into_iter().filter_map(Result::err) {
                let text = Failure::from(refusal).to_string();
                let is_told = text.contains(&format!("`{key}`"));
                assert!(is_told && text.contains("f.toml:"), "{name}: {text}");
            }
        }
    }
}

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
    let dropped = |text: &str| recipe_of(text).sparsify.unwrap();
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
        (
            "method = \"krum\"\nsparsify = { method = \"trim\", density = 0.1, scope = \"model\" }",
            SparsifyRule::Trim { density: 0.1 },
            Scope::Model,
            Rescale::Nothing,
        ),
        (
            "method = \"mean\"\nsparsify = { method = \"dare\" }\ncompat = \"mergekit\"",
            dare(1.0),
            Scope::Tensor,
            Rescale::Mass,
        ),
    ] {
        assert_eq!(dropped(text), expected(rule, scope, rescale), "{text}");
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

#[test]
fn stages_have_their_numbers_and_tolerate_what_the_merge_does() {
    let text = "method = \"mean\"\ntolerate = 3\nbefore = [\n  { method = \"clip\", norm = \"adaptive\", radius = 2 },\n  \
                { method = \"clip\", norm = 1.5 },\n  { method = \"arc\" },\n  { method = \"nnm\", tolerate = 1 },\n  \
                { method = \"bucketing\" },\n]";
    let recipe = recipe_of(text);
    let start = Some(2.0);
    assert_eq!(
        recipe.before,
        [
            Before::Clip {
                norm: ClipNorm::Adaptive { start }
            },
            Before::Clip {
                norm: ClipNorm::Fixed(1.5)
            },
            Before::Arc { tolerate: 3 },
            Before::Nnm { tolerate: 1 },
            Before::Bucketing { size: 2 },
        ]
    );
    assert_eq!(recipe.scope, Scope::Model);
}

#[test]
fn one_scope_is_that_of_the_whole_merge() {
    for (text, expected) in [
        ("method = \"krum\"", Scope::Model),
        ("method = \"krum\"\nscope = \"tensor\"", Scope::Tensor),
        (
            "before = [{ method = \"nnm\", scope = \"tensor\" }]",
            Scope::Tensor,
        ),
        (
            "method = \"krum\"\nscope = \"tensor\"\nbefore = [{ method = \"arc\", scope = \"tensor\" }]",
            Scope::Tensor,
        ),
        // A trim's scope is its own.
        (
            "method = \"ties\"\nscope = \"model\"\nbefore = [{ method = \"arc\", scope = \"tensor\" }]",
            Scope::Tensor,
        ),
    ] {
        assert_eq!(recipe_of(text).scope, expected, "{text}");
    }
}

#[test]
fn optimizers_have_their_numbers() {
    let optimizer = |text: &str| {
        recipe_of(&format!("optimizer = {{ method = {text} }}")).optimizer
    };
    let made = |learning_rate, rule| {
        Some(Optimizer {
            rule,
            learning_rate,
        })
    };
    let adaptive = Adaptive {
        beta1: 0.9,
        beta2: 0.99,
        epsilon: 1e-3,
    };
    for (text, expected) in [
        ("\"none\"", None),
        (
            "\"momentum\"",
            made(1.0, OptimizerRule::Momentum { beta: 0.9 }),
        ),
        (
            "\"nesterov\", beta = 0.5, learning_rate = 2",
            made(2.0, OptimizerRule::Nesterov { beta: 0.5 }),
        ),
        ("\"adam\"", made(0.01, OptimizerRule::Adam(adaptive))),
        (
            "\"yogi\", beta2 = 0.5",
            made(
                0.01,
                OptimizerRule::Yogi(Adaptive {
                    beta2: 0.5,
                    ..adaptive
                }),
            ),
        ),
        (
            "\"adagrad\", epsilon = 0.5",
            made(
                0.01,
                OptimizerRule::Adagrad(Adaptive {
                    beta1: 0.0,
                    epsilon: 0.5,
                    ..adaptive
                }),
            ),
        ),
    ] {
        assert_eq!(optimizer(text), expected, "{text}");
    }
}

#[test]
fn seed_and_trust_reach_the_merge() {
    let plan = parse("method = \"fltrust\"\ntrusted = \"ward-3\"\nseed = 11").unwrap();
    assert_eq!(plan.recipe.seed, 11);
    assert_eq!(plan.trusted, Some("ward-3".parse().unwrap()));
    assert_eq!(parse("method = \"flame\"").unwrap().trusted, None);
}
