//! Words that are read back.
#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use std::path::Path;

use super::*;
use crate::plan::FederationPlan;

/// A plan in which every method has clients enough.
fn parse(merge: &str) -> FederationPlan {
    let head = "name = \"digits\"\nbase = \"base\"\nround.cohort.target = 15\nround.quorum = 15\n";
    FederationPlan::parse(&format!("{head}{merge}"), Path::new("f.toml")).unwrap()
}

#[track_caller]
fn is_read_back(text: &str) {
    let recipe = parse(&format!("[merge]\n{text}")).recipe;
    let mut words = recipe_in_words(&recipe);
    if recipe.method.needs_trusted() {
        words["trusted"] = "ward-1".into();
    }
    let table = json!({ "merge": words });
    let written = toml::to_string(&toml::Value::try_from(table).unwrap()).unwrap();
    assert_eq!(parse(&written).recipe, recipe, "{written}");
}

#[test]
fn every_recipe_that_a_plan_can_say_is_read_back_from_its_words() {
    for name in Recipe::METHOD_NAMES {
        let trusts = ["fltrust", "moNNA"].contains(name);
        let trusted = if trusts { "\ntrusted = \"ward-1\"" } else { "" };
        is_read_back(&format!(
            "method = \"{name}\"\ntolerate = 2\nlambda = -0.5\nseed = 9{trusted}"
        ));
    }
    for (name, compat) in [
        ("ties", "mergekit"),
        ("ties", "peft"),
        ("dare-linear", "mergekit"),
        ("dare-linear", "peft"),
        ("dare-ties", "mergekit"),
        ("dare-ties", "peft"),
        ("della", "mergekit"),
        ("della-linear", "mergekit"),
        ("breadcrumbs-ties", "mergekit"),
        ("krum", "byzfl"),
        ("multi-krum", "byzfl"),
        ("bulyan", "byzfl"),
        ("geometric-median", "byzfl"),
        ("centered-clipping", "byzfl"),
    ] {
        is_read_back(&format!("method = \"{name}\"\ncompat = \"{compat}\""));
    }
}

#[test]
fn stages_sparsifiers_and_optimizers_are_read_back() {
    for text in [
        "before = [{ method = \"clip\", norm = \"adaptive\", radius = 0.5 }, { method = \"bucketing\", size = 3 }]",
        "before = [{ method = \"clip\", norm = 2.5 }, { method = \"clip\", norm = \"adaptive\" }]",
        "method = \"mean\"\nbefore = [{ method = \"arc\", tolerate = 1, scope = \"tensor\" }, { method = \"nnm\" }]",
        "method = \"krum\"\nscope = \"tensor\"\ntolerate = 1\nbefore = [{ method = \"clip\", norm = \"median\" }]",
        "method = \"median\"\nsparsify = { method = \"trim\", density = 0.3, scope = \"model\", rescale = true }",
        "method = \"task-arithmetic\"\nnormalize = true\nsparsify = { method = \"trim\" }",
        "method = \"mean\"\ncompat = \"mergekit\"\nsparsify = { method = \"della\", density = 0.6, epsilon = 0.1 }",
        "method = \"mean\"\nsparsify = { method = \"breadcrumbs\", density = 0.6, gamma = 0.1 }",
        "method = \"ties\"\nelect = \"count\"\nnormalize = false\nscope = \"model\"\nrescale = true",
        "method = \"multi-krum\"\nsize = 4",
        "optimizer = { method = \"momentum\", beta = 0.5 }",
        "optimizer = { method = \"nesterov\", learning_rate = 0.5 }",
        "optimizer = { method = \"adam\", beta1 = 0.5, beta2 = 0.75, epsilon = 0.25 }",
        "optimizer = { method = \"yogi\" }",
        "optimizer = { method = \"adagrad\", beta1 = 0.5 }",
    ] {
        is_read_back(text);
    }
}

#[test]
fn a_recipe_is_told_in_the_words_of_a_plan() {
    let text = "[merge]\nmethod = \"ties\"\ndensity = 0.25\nscope = \"model\"\nelect = \"count\"\n\
                before = [{ method = \"clip\", norm = \"median\" }]";
    assert_eq!(
        recipe_in_words(&parse(text).recipe).to_string(),
        r#"{"before":[{"method":"clip","norm":"median","scope":"model"}],"density":0.25,"elect":"count","lambda":1.0,"method":"ties","normalize":true,"rescale":false,"scope":"model","seed":0}"#
    );
    assert_eq!(
        recipe_in_words(&parse("[merge]\ntolerate = 2").recipe).to_string(),
        r#"{"before":[],"lambda":1.0,"method":"trimmed-mean","seed":0,"tolerate":2}"#
    );
}
