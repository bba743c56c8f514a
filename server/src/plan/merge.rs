//! `[merge]`: names and parameters become a recipe, weights and what is frozen.
//!
//! A key that the chosen method would ignore is refused, because whoever wrote it expects it to have an effect.

use fedmerge_merge::{Before, ClipNorm, Elect, Method, Recipe, TrimScope};
use toml::Spanned;
use wildmatch::WildMatch;

use super::choice::Choice;
use super::document::Document;
use super::file::{BeforeTable, MergeTable, Norm};
use super::{Freeze, ReadPlanError, Weight};

const DEFAULT_METHOD: &str = "trimmed-mean";
/// Scale of the merged task vector.
const DEFAULT_LAMBDA: f64 = 1.0;
/// Share of the values that ties keeps, as in its paper.
const DEFAULT_DENSITY: f64 = 0.2;

/// What the methods are made of, complete.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameters {
    tolerate: usize,
    density: f64,
    scope: TrimScope,
    elect: Elect,
    normalize: bool,
}

/// Makes a method of its parameters.
type MakeMethod = fn(Parameters) -> Method;

/// Names of merge methods.
pub(super) const METHODS: Choice<MakeMethod> = Choice {
    what: "merge method",
    known: &[
        ("mean", |_| Method::Mean),
        ("median", |_| Method::Median),
        ("trimmed-mean", |parameters| Method::TrimmedMean {
            tolerate: parameters.tolerate,
        }),
        ("task-arithmetic", |parameters| Method::TaskArithmetic {
            normalize: parameters.normalize,
        }),
        ("ties", |parameters| Method::Ties {
            density: parameters.density,
            scope: parameters.scope,
            elect: parameters.elect,
        }),
    ],
    planned: &[
        "meamed",
        "phocas",
        "sign-majority",
        "dare-linear",
        "dare-ties",
        "della",
        "della-linear",
        "breadcrumbs",
        "breadcrumbs-ties",
        "sce",
        "ram",
        "magmax",
        "consensus",
        "krum",
        "multi-krum",
        "bulyan",
        "geometric-median",
        "centered-clipping",
        "mda",
        "caf",
        "dnc",
        "fltrust",
        "flame",
        "moNNA",
        "linear",
        "slerp",
        "nuslerp",
        "multislerp",
        "karcher",
        "model-stock",
        "nearswap",
        "passthrough",
        "iso-c",
        "tsv-m",
        "knots",
        "lora-stack",
        "lora-svd",
    ],
};

/// Names of stages before the method.
pub(super) const STAGES: Choice<()> = Choice {
    what: "stage",
    known: &[("clip", ())],
    planned: &["arc", "nnm", "bucketing"],
};

/// Names of optimizers of the server.
pub(super) const OPTIMIZERS: Choice<()> = Choice {
    what: "optimizer",
    known: &[("none", ())],
    planned: &["momentum", "adam", "yogi", "adagrad", "nesterov"],
};

const NORMS: Choice<ClipNorm> = Choice {
    what: "norm",
    known: &[("median", ClipNorm::Median)],
    planned: &["adaptive"],
};

const WEIGHTS: Choice<Weight> = Choice {
    what: "weight",
    known: &[
        (Weight::Examples.as_str(), Weight::Examples),
        (Weight::Uniform.as_str(), Weight::Uniform),
    ],
    planned: &[],
};

const SCOPES: Choice<TrimScope> = Choice {
    what: "scope",
    known: &[("tensor", TrimScope::Tensor), ("model", TrimScope::Model)],
    planned: &[],
};

const ELECTIONS: Choice<Elect> = Choice {
    what: "elect",
    known: &[("mass", Elect::Mass), ("count", Elect::Count)],
    planned: &[],
};

/// The recipe of the table, not yet checked against a number of clients.
pub(super) fn recipe(table: &MergeTable, document: &Document) -> Result<Recipe, ReadPlanError> {
    if let Some(optimizer) = &table.optimizer {
        let Some(method) = &optimizer.get_ref().method else {
            return Err(ReadPlanError::MissingKey {
                place: document.place(optimizer.span()),
                key: "method",
                example: "optimizer = { method = \"none\" }",
            });
        };
        OPTIMIZERS.choose(method, document)?;
    }
    Ok(Recipe {
        before: table
            .before
            .iter()
            .map(|stage| before(stage, document))
            .collect::<Result<_, _>>()?,
        method: method(table, document)?,
        lambda: table.lambda.unwrap_or(DEFAULT_LAMBDA),
    })
}

/// How the table weighs clients.
pub(super) fn weight(table: &MergeTable, document: &Document) -> Result<Weight, ReadPlanError> {
    WEIGHTS.choose_or(Weight::default(), table.weight.as_ref(), document)
}

/// The tensors that the table keeps as they are.
pub(super) fn freeze(table: &MergeTable, document: &Document) -> Result<Freeze, ReadPlanError> {
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

fn method(table: &MergeTable, document: &Document) -> Result<Method, ReadPlanError> {
    let default = Spanned::new(0..0, DEFAULT_METHOD.to_owned());
    let name = table.method.as_ref().unwrap_or(&default);
    let make = METHODS.choose(name, document)?;
    refuse_foreign_keys(table, name.get_ref(), document)?;
    let density = table.density.as_ref().map(|density| *density.get_ref());
    let normalize = table.normalize.as_ref().map(|flag| *flag.get_ref());
    Ok(make(Parameters {
        tolerate: table.tolerate,
        density: density.unwrap_or(DEFAULT_DENSITY),
        scope: SCOPES.choose_or(TrimScope::Tensor, table.scope.as_ref(), document)?,
        elect: ELECTIONS.choose_or(Elect::Mass, table.elect.as_ref(), document)?,
        normalize: normalize.unwrap_or(false),
    }))
}

fn refuse_foreign_keys(
    table: &MergeTable,
    method: &str,
    document: &Document,
) -> Result<(), ReadPlanError> {
    let keys = [
        ("density", "ties", table.density.as_ref().map(Spanned::span)),
        ("scope", "ties", table.scope.as_ref().map(Spanned::span)),
        ("elect", "ties", table.elect.as_ref().map(Spanned::span)),
        (
            "normalize",
            "task-arithmetic",
            table.normalize.as_ref().map(Spanned::span),
        ),
    ];
    for (key, owner, span) in keys {
        if let Some(span) = span.filter(|_| owner != method) {
            return Err(ReadPlanError::ForeignKey {
                place: document.place(span),
                key,
                method: method.to_owned(),
                owner,
            });
        }
    }
    Ok(())
}

fn before(stage: &Spanned<BeforeTable>, document: &Document) -> Result<Before, ReadPlanError> {
    const EXAMPLE: &str = "before = [{ method = \"clip\", norm = \"median\" }]";
    let missing = |key| ReadPlanError::MissingKey {
        place: document.place(stage.span()),
        key,
        example: EXAMPLE,
    };
    let BeforeTable { method, norm } = stage.get_ref();
    STAGES.choose(method.as_ref().ok_or_else(|| missing("method"))?, document)?;
    let norm = norm.as_ref().ok_or_else(|| missing("norm"))?;
    let norm = match norm.get_ref() {
        Norm::Number(norm) => ClipNorm::Fixed(*norm),
        Norm::Name(name) => NORMS.choose(&Spanned::new(norm.span(), name.clone()), document)?,
    };
    Ok(Before::Clip { norm })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_and_stage_of_the_engine_can_be_named_and_no_other() {
        assert!(METHODS.names().eq(Method::NAMES.iter().copied()));
        assert!(STAGES.names().eq(Before::NAMES.iter().copied()));
        let parameters = Parameters {
            tolerate: 1,
            density: 0.5,
            scope: TrimScope::Model,
            elect: Elect::Count,
            normalize: true,
        };
        for (name, make) in METHODS.known {
            assert_eq!(make(parameters).name(), *name);
            assert!(!METHODS.planned.contains(name), "{name}");
        }
    }
}
