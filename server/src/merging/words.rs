//! A recipe in the words of a plan's `[merge]`, so that whoever reads a model's story can write its plan.
//!
//! Invariant: a recipe that a plan can say is read back from these words as it was. All numbers are written, also those that a plan
//! may leave out; `compat` where the arithmetic is not the paper's.

use fedmerge_merge::{
    Adaptive, Before, ClipNorm, Divide, Elect, Even, Method, Neighbours, Optimizer, OptimizerRule,
    Recipe, Rescale, Scope, Sparsify, SparsifyRule, Start, Ties,
};
use serde_json::{Value, json};

use super::MergeJob;
use crate::plan::Weight;

/// The merge of a job: its recipe, and what else the plan says of it.
pub(super) fn merge_in_words(job: &MergeJob) -> Value {
    let mut words = recipe_in_words(&job.recipe);
    words["weight"] = job.weight.as_str().into();
    if job.weight == Weight::Examples && job.max_weight.is_finite() {
        words["max_weight"] = job.max_weight.into();
    }
    if job.freeze.patterns().next().is_some() {
        words["freeze"] = job.freeze.patterns().collect();
    }
    if let Some(client) = &job.trusted {
        words["trusted"] = client.as_str().into();
    }
    words
}

pub(crate) fn recipe_in_words(recipe: &Recipe) -> Value {
    let is_of_the_gram = recipe.method.is_of_the_gram();
    let scope_of_stages = Some(recipe.scope).filter(|_| !is_of_the_gram);
    let before = recipe.before.iter();
    let before: Vec<_> = before
        .map(|stage| before_in_words(stage, scope_of_stages))
        .collect();
    let mut words = json!({
        "method": recipe.method_name(),
        "before": before,
        "lambda": recipe.lambda,
        "seed": recipe.seed,
    });
    if is_of_the_gram {
        words["scope"] = scope_in_words(recipe.scope).into();
    }
    if let Some(tolerate) = recipe.method.tolerate() {
        words["tolerate"] = tolerate.into();
    }
    add_numbers(&mut words, &recipe.method);
    match (&recipe.sparsify, is_one_name(recipe)) {
        (Some(sparsify), true) => add_sparsify(&mut words, sparsify),
        (Some(sparsify), false) => {
            let mut table = json!({ "method": sparsify.rule.name() });
            add_sparsify(&mut table, sparsify);
            words["sparsify"] = table;
        }
        // An election among everything, which no plan has a name for.
        (None, true) => words["density"] = 1.0.into(),
        (None, false) => {}
    }
    if let Some(compat) = compat(recipe) {
        words["compat"] = compat.into();
    }
    if let Some(optimizer) = &recipe.optimizer {
        words["optimizer"] = optimizer_in_words(optimizer);
    }
    words
}

/// Whether the method's name says what is dropped before it.
fn is_one_name(recipe: &Recipe) -> bool {
    let is_trim = matches!(
        recipe.sparsify.map(|sparsify| sparsify.rule),
        Some(SparsifyRule::Trim { .. }) | None
    );
    match recipe.method {
        Method::Ties(_) => true,
        Method::TaskArithmetic { .. } => !is_trim,
        Method::Mean
        | Method::Median { .. }
        | Method::TrimmedMean { .. }
        | Method::Meamed { .. }
        | Method::Phocas { .. }
        | Method::SignMajority
        | Method::Sce { .. }
        | Method::Ram { .. }
        | Method::Magmax
        | Method::Consensus { .. }
        | Method::Krum { .. }
        | Method::MultiKrum { .. }
        | Method::Bulyan { .. }
        | Method::GeometricMedian { .. }
        | Method::CenteredClipping { .. }
        | Method::Mda { .. }
        | Method::Caf { .. }
        | Method::Dnc { .. }
        | Method::Fltrust
        | Method::Flame
        | Method::Monna { .. } => false,
    }
}

/// The numbers of the method itself, without `tolerate`.
fn add_numbers(words: &mut Value, method: &Method) {
    match *method {
        Method::TaskArithmetic { normalize } => words["normalize"] = normalize.into(),
        Method::Ties(ties) => add_election(words, ties),
        Method::Sce { density } => words["density"] = density.into(),
        Method::Ram { epsilon } => words["epsilon"] = epsilon.into(),
        Method::Consensus { threshold, support } => {
            words["t"] = threshold.into();
            words["size"] = support.into();
        }
        Method::MultiKrum {
            selected: Some(selected),
            ..
        } => words["size"] = selected.into(),
        Method::GeometricMedian { nu, iterations, .. } => {
            words["nu"] = nu.into();
            words["iterations"] = iterations.into();
        }
        Method::CenteredClipping { radius, iterations } => {
            words["radius"] = radius.into();
            words["iterations"] = iterations.into();
        }
        Method::Mean
        | Method::Median { .. }
        | Method::TrimmedMean { .. }
        | Method::Meamed { .. }
        | Method::Phocas { .. }
        | Method::SignMajority
        | Method::Magmax
        | Method::Krum { .. }
        | Method::MultiKrum { selected: None, .. }
        | Method::Bulyan { .. }
        | Method::Mda { .. }
        | Method::Caf { .. }
        | Method::Dnc { .. }
        | Method::Fltrust
        | Method::Flame
        | Method::Monna { .. } => {}
    }
}

fn add_election(words: &mut Value, ties: Ties) {
    words["elect"] = match ties.elect {
        Elect::Mass | Elect::PlainMass => "mass",
        Elect::Count => "count",
    }
    .into();
    match ties.divide {
        Divide::Weights => words["normalize"] = true.into(),
        Divide::Nothing => words["normalize"] = false.into(),
        Divide::Count => {}
    }
}

/// Whose arithmetic it is, where it is not the paper's.
fn compat(recipe: &Recipe) -> Option<&'static str> {
    let of_chance = recipe.sparsify.filter(|sparsify| {
        let is_by_chance = matches!(
            sparsify.rule,
            SparsifyRule::Dare { .. } | SparsifyRule::Della { .. }
        );
        is_by_chance && sparsify.rescale == Rescale::Mass
    });
    if of_chance.is_some() {
        return Some("mergekit");
    }
    match recipe.method {
        Method::Ties(Ties {
            divide: Divide::Count,
            ..
        }) => Some("peft"),
        Method::Ties(Ties {
            even: Even::Positive,
            divide: Divide::Weights | Divide::Nothing,
            ..
        }) => Some("mergekit"),
        Method::Krum { neighbours, .. }
        | Method::MultiKrum { neighbours, .. }
        | Method::Bulyan { neighbours, .. } => (neighbours == Neighbours::Byzfl).then_some("byzfl"),
        Method::GeometricMedian { start, .. } => (start == Start::Zero).then_some("byzfl"),
        Method::Mean
        | Method::Median { .. }
        | Method::TrimmedMean { .. }
        | Method::Meamed { .. }
        | Method::Phocas { .. }
        | Method::SignMajority
        | Method::TaskArithmetic { .. }
        | Method::Ties(_)
        | Method::Sce { .. }
        | Method::Ram { .. }
        | Method::Magmax
        | Method::Consensus { .. }
        | Method::CenteredClipping { .. }
        | Method::Mda { .. }
        | Method::Caf { .. }
        | Method::Dnc { .. }
        | Method::Fltrust
        | Method::Flame
        | Method::Monna { .. } => None,
    }
}

fn scope_in_words(scope: Scope) -> &'static str {
    match scope {
        Scope::Tensor => "tensor",
        Scope::Model => "model",
    }
}

fn add_sparsify(words: &mut Value, sparsify: &Sparsify) {
    words["rescale"] = (sparsify.rescale != Rescale::Nothing).into();
    match sparsify.rule {
        SparsifyRule::Trim { density } => {
            words["density"] = density.into();
            words["scope"] = scope_in_words(sparsify.scope).into();
        }
        SparsifyRule::Dare { density } => words["density"] = density.into(),
        SparsifyRule::Della { density, epsilon } => {
            words["density"] = density.into();
            words["epsilon"] = epsilon.into();
        }
        SparsifyRule::Breadcrumbs { density, gamma } => {
            words["density"] = density.into();
            words["gamma"] = gamma.into();
            words["scope"] = scope_in_words(sparsify.scope).into();
        }
    }
}

/// A stage; `scope` where the table does not say it for all.
fn before_in_words(stage: &Before, scope: Option<Scope>) -> Value {
    let mut words = json!({ "method": stage.name() });
    match *stage {
        Before::Clip { norm } => match norm {
            ClipNorm::Fixed(norm) => words["norm"] = norm.into(),
            ClipNorm::Median => words["norm"] = "median".into(),
            ClipNorm::Adaptive { start } => {
                words["norm"] = "adaptive".into();
                if let Some(start) = start {
                    words["radius"] = start.into();
                }
            }
        },
        Before::Arc { tolerate } | Before::Nnm { tolerate } => words["tolerate"] = tolerate.into(),
        Before::Bucketing { size } => words["size"] = size.into(),
    }
    let measures = !matches!(stage, Before::Bucketing { .. });
    if let Some(scope) = scope.filter(|_| measures) {
        words["scope"] = scope_in_words(scope).into();
    }
    words
}

fn optimizer_in_words(optimizer: &Optimizer) -> Value {
    let mut words = json!({
        "method": optimizer.rule.name(),
        "learning_rate": optimizer.learning_rate,
    });
    match optimizer.rule {
        OptimizerRule::Momentum { beta } | OptimizerRule::Nesterov { beta } => {
            words["beta"] = beta.into();
        }
        OptimizerRule::Adam(numbers) | OptimizerRule::Yogi(numbers) => {
            add_adaptive(&mut words, numbers);
            words["beta2"] = numbers.beta2.into();
        }
        OptimizerRule::Adagrad(numbers) => add_adaptive(&mut words, numbers),
    }
    words
}

fn add_adaptive(words: &mut Value, numbers: Adaptive) {
    words["beta1"] = numbers.beta1.into();
    words["epsilon"] = numbers.epsilon.into();
}

#[cfg(test)]
mod tests;
