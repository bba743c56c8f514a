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

mod references;
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
    assert!(METHODS.names().eq(Recipe::METHOD_NAMES.iter().copied()));
    assert!(stages::STAGES.names().eq(Before::NAMES.iter().copied()));
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
    let optimizer = |text: &str| recipe_of(&format!("optimizer = {{ method = {text} }}")).optimizer;
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
