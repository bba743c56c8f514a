//! What a recipe says, and what it may not say.
#![expect(clippy::unwrap_used, reason = "a failed test should panic")]
#![expect(clippy::float_cmp, reason = "numbers are read as they are written")]

use std::path::Path;

use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_merge::{Method, SparsifyRule};

use super::*;

fn read(text: &str) -> Result<MergeRecipe, ReadRecipeError> {
    MergeRecipe::parse(text, Path::new("recipes/r.toml"))
}

/// A recipe of two models with this `[merge]`, and this under the second model.
fn two(merge: &str, second: &str) -> Result<MergeRecipe, ReadRecipeError> {
    read(&format!(
        "base = \"b\"\n[merge]\n{merge}\n[[model]]\npath = \"x/a/\"\n[[model]]\ntask_vector = \"c.safetensors\"\n{second}"
    ))
}

/// What a person sees of a refusal.
fn refusal(recipe: Result<MergeRecipe, ReadRecipeError>) -> String {
    let failure = Failure::from(recipe.unwrap_err());
    assert_eq!(failure.exit, ExitCode::BadConfiguration);
    failure.to_string()
}

#[test]
fn paths_are_seen_from_the_recipe_and_name_their_models() {
    let recipe = two("method = \"mean\"", "weight = 2").unwrap();
    assert_eq!(recipe.base, Path::new("recipes/b"));
    let [a, c] = &recipe.models[..] else {
        panic!("two models")
    };
    assert_eq!(
        (a.name.as_str(), a.kind, a.weight),
        ("a", ModelKind::FineTuned, 1.0)
    );
    assert_eq!(
        (c.name.as_str(), c.kind, c.weight),
        ("c", ModelKind::TaskVector, 2.0)
    );
    assert_eq!(a.path, Path::new("recipes/x/a/"));
    assert_eq!(c.written_path, Path::new("c.safetensors"));
    assert_eq!(recipe.recipe.method, Method::Mean);
    assert_eq!((recipe.out_dtype, recipe.trusted), (None, None));
}

#[test]
fn a_model_may_have_parameters_of_its_own_where_something_is_dropped() {
    let recipe = two("method = \"ties\"\ndensity = 0.5", "density = 0.25").unwrap();
    assert_eq!(recipe.models[0].sparsify, None);
    let own = SparsifyRule::Trim { density: 0.25 };
    assert_eq!(recipe.models[1].sparsify, Some(own));
}

#[test]
fn a_trusted_model_is_named() {
    let recipe = two("method = \"fltrust\"\ntrusted = \"c\"", "").unwrap();
    assert_eq!(recipe.trusted, Some(1));
    let refused = refusal(two("method = \"fltrust\"\ntrusted = \"d\"", ""));
    assert!(
        refused.contains("recipes/r.toml:4: `trusted` names `d`, and no model has that name"),
        "{refused}"
    );
    let refused = refusal(two("method = \"fltrust\"", ""));
    assert!(refused.contains("`trusted` is missing"), "{refused}");
}

#[test]
fn an_output_type_is_one_of_three() {
    let recipe = read(
        "base = \"b\"\nout_dtype = \"bf16\"\nmerge.method = \"mean\"\n[[model]]\npath = \"a\"",
    );
    assert_eq!(recipe.unwrap().out_dtype, Some(Dtype::Bf16));
    let refused = refusal(read(
        "base = \"b\"\nout_dtype = \"int8\"\nmerge.method = \"mean\"\n[[model]]\npath = \"a\"",
    ));
    assert!(
        refused.contains("r.toml:2: unknown dtype `int8`"),
        "{refused}"
    );
    let refused = refusal(two("method = \"mean\"", "out_dtype = \"bf16\""));
    assert!(
        refused.contains("`out_dtype` belongs at the top, before the first [table]"),
        "{refused}"
    );
}

/// What a `[merge]` and the lines of a second model are refused with.
const REFUSALS: &[(&str, &str, &str)] = &[
    (
        "method = \"median\"",
        "weight = 2.0",
        ":8: model `c` has a weight, and median counts every model once",
    ),
    (
        "method = \"mean\"",
        "weight = -1.0",
        ":8: model `c` has the weight -1",
    ),
    (
        "method = \"task-arithmetic\"",
        "weight = nan",
        ":8: model `c` has the weight NaN",
    ),
    (
        "method = \"mean\"",
        "density = 0.5",
        ":8: model `c` has `density`, and mean drops nothing",
    ),
    (
        "method = \"ties\"",
        "gamma = 0.5",
        ":8: model `c` has `gamma`, and trim has no such parameter",
    ),
    (
        "method = \"ties\"",
        "density = 0.0",
        "model `c`: density = 0 is not possible",
    ),
    (
        "method = \"ties\"",
        "density = 1.5",
        "model `c`: density = 1.5 is not possible",
    ),
    (
        "method = \"ties\"\ndensity = 0.0",
        "",
        "density = 0 is not possible",
    ),
    (
        "method = \"mean\"",
        "name = \"a\"",
        "models 1 and 2 are both called `a`",
    ),
    (
        "method = \"mean\"",
        "path = \"d\"",
        "a model has both `path` and `task_vector`",
    ),
    (
        "method = \"mean\"",
        "[[model]]",
        "a model has neither `path` nor `task_vector`",
    ),
    (
        "method = \"mean\"\nweight = \"examples\"",
        "",
        ":4: `weight` in [merge] weighs clients by their examples",
    ),
    (
        "method = \"mean\"\noptimizer = { method = \"adam\" }",
        "",
        ":4: an optimizer remembers the rounds before",
    ),
    (
        "method = \"trimmed-mean\"\ntolerate = 1",
        "",
        "2 × 1 + 1 = 3 clients, and there are 2",
    ),
    (
        "method = \"mean\"",
        "wieght = 1.0",
        "did you mean `weight`?",
    ),
    ("metod = \"mean\"", "", "did you mean `method`?"),
    ("method = \"meen\"", "", "did you mean `mean`?"),
];

#[test]
fn what_has_no_effect_or_no_meaning_is_refused_with_its_place() {
    for (merge, second, told) in REFUSALS {
        let refused = refusal(two(merge, second));
        assert!(refused.contains(told), "{merge} {second}: {refused}");
    }
}

#[test]
fn negative_weights_subtract_where_weights_are_factors() {
    let recipe = two("method = \"task-arithmetic\"", "weight = -0.5").unwrap();
    assert_eq!(recipe.models[1].weight, -0.5);
}

#[test]
fn weights_that_are_no_shares_are_refused() {
    for (weights, told) in [
        (
            [0.0, 0.0],
            "the weights add up to 0, which cannot be divided by\nhint: give at least one model",
        ),
        (
            [1e308, 1e308],
            "the weights add up to inf, which cannot be divided by\nhint: divide all weights",
        ),
        (
            [1.0, f64::NAN],
            "has the weight NaN, which is no finite number",
        ),
        (
            [1.0, f64::INFINITY],
            "has the weight inf, which is no finite number",
        ),
        (
            [1.0, -1.0],
            "has the weight -1, and mean shares: no share is under 0",
        ),
    ] {
        let models = ["a", "b"].iter().zip(weights);
        let models: String = models
            .map(|(path, weight)| {
                format!("[[model]]\npath = \"{path}\"\nweight = {weight:?}\n").replace("NaN", "nan")
            })
            .collect();
        let refused = refusal(read(&format!(
            "base = \"b\"\nmerge.method = \"mean\"\n{models}"
        )));
        assert!(refused.contains(told), "{refused}");
    }
}

#[test]
fn too_few_models_to_tolerate_so_many_are_told_in_models() {
    let refused = refusal(two("method = \"trimmed-mean\"\ntolerate = 1", ""));
    assert!(
        refused.contains("needs at least 2 × 1 + 1 = 3 clients")
            && refused.contains("hint: give more models, or lower `tolerate` in [merge]"),
        "{refused}"
    );
}

#[test]
fn a_file_without_base_or_models_says_what_to_add() {
    let refused = refusal(read("merge.method = \"mean\""));
    assert!(refused.contains("`base` is missing"), "{refused}");
    let refused = refusal(read("base = \"b\""));
    assert!(refused.contains("there is no model to merge"), "{refused}");
}

#[test]
fn yaml_is_for_later_and_a_missing_file_is_told_where_to_begin() {
    for name in ["r.yaml", "r.yml"] {
        let refused = refusal(MergeRecipe::read(Path::new(name)));
        assert!(
            refused.contains("is YAML, and a recipe is TOML in this version"),
            "{refused}"
        );
    }
    let refused = refusal(MergeRecipe::read(Path::new("/nonexistent/r.toml")));
    assert!(
        refused.contains("`fedmerge merge --help` shows a recipe"),
        "{refused}"
    );
}
