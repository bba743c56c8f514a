//! `[merge]`: names and parameters become a recipe, weights and what is frozen.
//!
//! A key that would have no effect beside the chosen names is refused, because whoever wrote it expects it to have one.
//! `compat` is resolved here into arithmetic that the recipe spells out: the engine knows of no references.

mod compat;
mod methods;
mod optimizers;
mod parameters;
mod sparsifiers;
mod stages;
#[cfg(test)]
mod tests;

use std::ops::Range;

use fedmerge_merge::{Method, Recipe, Scope};
use toml::Spanned;
use wildmatch::WildMatch;

use self::methods::DEFAULT_METHOD;
pub(super) use self::methods::METHODS;
use self::parameters::Parameters;
use super::choice::{Choice, Written};
use super::document::Document;
use super::file::MergeTable;
use super::{Freeze, ReadPlanError, Weight};

/// Scale of the merged task vector.
const DEFAULT_LAMBDA: f64 = 1.0;
/// A client that claims more examples than five typical ones weighs as much as these.
const DEFAULT_MAX_WEIGHT: f64 = 5.0;

const WEIGHTS: Choice<Weight> = Choice {
    what: "weight",
    known: &[
        (Weight::Examples.as_str(), Weight::Examples),
        (Weight::Uniform.as_str(), Weight::Uniform),
    ],
    planned: &[],
};

const SCOPES: Choice<Scope> = Choice {
    what: "scope",
    known: &[("tensor", Scope::Tensor), ("model", Scope::Model)],
    planned: &[],
};

/// The recipe of the table, not yet checked against a number of clients.
pub(crate) fn recipe(table: &MergeTable, document: &Document) -> Result<Recipe, ReadPlanError> {
    let default = Spanned::new(0..0, DEFAULT_METHOD.to_owned());
    let name = table.method.as_ref().unwrap_or(&default);
    let known = METHODS.choose(name, document)?;
    let dropped = table
        .sparsify
        .as_ref()
        .map(|table| sparsifiers::choose(table, document));
    let (rule, parts) = dropped.transpose()?.unzip();
    METHODS.refuse_foreign_keys(
        name.get_ref(),
        &written(table, rule.is_some_and(|rule| rule.has_references())),
        document,
    )?;
    let compat = compat::of(
        table.compat.as_ref(),
        [known.references(), rule.map_or(&[], |rule| rule.references)],
        document,
    )?;
    let parameters = Parameters::of(table, compat, document)?;
    let method = known.method(&parameters)?;
    let sparsify = match (rule, parts) {
        (Some(rule), Some(parts)) => Some((rule.make)(&sparsifiers::Parts { compat, ..parts })),
        (Some(_) | None, _) => known.sparsify(&parameters),
    };
    let before = table.before.iter();
    let before = before.map(|stage| stages::stage(stage, table.tolerate, document));
    Ok(Recipe {
        before: before.collect::<Result<_, _>>()?,
        scope: scope(table, &method, document)?,
        sparsify,
        method,
        lambda: table.lambda.unwrap_or(DEFAULT_LAMBDA),
        optimizer: optimizers::optimizer(table.optimizer.as_ref(), document)?,
        seed: table.seed,
    })
}

/// The name of the one whom the table trusts; there is one exactly where the method needs it.
pub(crate) fn trusted<'a>(
    table: &'a MergeTable,
    recipe: &Recipe,
    document: &Document,
) -> Result<Option<&'a Spanned<String>>, ReadPlanError> {
    if recipe.method.needs_trusted() && table.trusted.is_none() {
        return Err(ReadPlanError::MissingKey {
            place: table
                .method
                .as_ref()
                .map_or_else(|| document.whole(), |name| document.place(name.span())),
            key: "trusted",
            example: "trusted = \"NAME\", of the one whose data you know to be good",
        });
    }
    Ok(table.trusted.as_ref())
}

/// How the table weighs clients.
pub(super) fn weight(table: &MergeTable, document: &Document) -> Result<Weight, ReadPlanError> {
    WEIGHTS.choose_or(Weight::default(), table.weight.as_ref(), document)
}

/// How many times the median weight a client may have.
pub(super) fn max_weight(table: &MergeTable, document: &Document) -> Result<f64, ReadPlanError> {
    let Some(most) = &table.max_weight else {
        return Ok(DEFAULT_MAX_WEIGHT);
    };
    let refusal = |fault| ReadPlanError::Value {
        place: document.place(most.span()),
        key: "max_weight",
        fault,
    };
    if weight(table, document)? == Weight::Uniform {
        return Err(refusal(
            "has no effect: with weight = \"uniform\" all weigh the same",
        ));
    }
    if *most.get_ref() >= 1.0 {
        Ok(*most.get_ref())
    } else {
        Err(refusal(
            "must be at least 1: it is a multiple of the median weight, and `inf` is no limit",
        ))
    }
}

/// The tensors that the table keeps as they are.
pub(crate) fn freeze(table: &MergeTable, document: &Document) -> Result<Freeze, ReadPlanError> {
    if let Some(empty) = table
        .freeze
        .iter()
        .find(|pattern| pattern.get_ref().is_empty())
    {
        return Err(ReadPlanError::Value {
            place: document.place(empty.span()),
            key: "freeze",
            fault: "holds an empty pattern, which no tensor matches",
        });
    }
    let patterns = table.freeze.iter();
    Ok(Freeze(
        patterns
            .map(|pattern| WildMatch::new(pattern.get_ref()))
            .collect(),
    ))
}

/// The values among which lengths and distances are taken: what the table says for a method of the Gram matrix, and what the stages
/// before it say. There is one Gram matrix, so all who say something say the same.
fn scope(table: &MergeTable, method: &Method, document: &Document) -> Result<Scope, ReadPlanError> {
    let of_the_method = table.scope.as_ref().filter(|_| method.is_of_the_gram());
    let of_stages = table.before.iter();
    let of_stages = of_stages.filter_map(|stage| stage.get_ref().scope.as_ref());
    let mut agreed = None;
    for name in of_the_method.into_iter().chain(of_stages) {
        let scope = SCOPES.choose(name, document)?;
        if agreed.is_some_and(|agreed| agreed != scope) {
            return Err(ReadPlanError::Value {
                place: document.place(name.span()),
                key: "scope",
                fault: "is not that of the rest of the merge: all its stages measure over one scope",
            });
        }
        agreed = Some(scope);
    }
    Ok(agreed.unwrap_or(Scope::Model))
}

/// The keys of the table that only some methods have. `compat` is not asked for where something else needs it.
fn written(table: &MergeTable, compat_is_needed: bool) -> [Written; 15] {
    let compat = table.compat.as_ref().filter(|_| !compat_is_needed);
    [
        ("sparsify", span(table.sparsify.as_ref())),
        ("density", span(table.density.as_ref())),
        ("scope", span(table.scope.as_ref())),
        ("elect", span(table.elect.as_ref())),
        ("normalize", span(table.normalize.as_ref())),
        ("rescale", span(table.rescale.as_ref())),
        ("gamma", span(table.gamma.as_ref())),
        ("epsilon", span(table.epsilon.as_ref())),
        ("t", span(table.t.as_ref())),
        ("nu", span(table.nu.as_ref())),
        ("iterations", span(table.iterations.as_ref())),
        ("radius", span(table.radius.as_ref())),
        ("size", span(table.size.as_ref())),
        ("compat", span(compat)),
        ("trusted", span(table.trusted.as_ref())),
    ]
}

fn span<T>(value: Option<&Spanned<T>>) -> Option<Range<usize>> {
    value.map(Spanned::span)
}

/// The value that is written, or the default.
fn or<T: Copy>(value: Option<&Spanned<T>>, default: T) -> T {
    value.map_or(default, |value| *value.get_ref())
}
