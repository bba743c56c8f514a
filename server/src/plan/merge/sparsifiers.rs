//! `sparsify`: what is dropped of each task vector, by itself or as part of a method such as `ties`.

use fedmerge_merge::{Rescale, Scope, Sparsify, SparsifyRule};
use toml::Spanned;

use super::compat::Compat;
use super::{SCOPES, span};
use crate::plan::ReadPlanError;
use crate::plan::choice::{Choice, Keyed};
use crate::plan::document::Document;
use crate::plan::file::SparsifyTable;

/// Share that TIES keeps, as in its paper.
const TRIM_DENSITY: f64 = 0.2;
/// Share that is kept by chance; the papers go down to 0.1 with many models of one base.
const CHANCE_DENSITY: f64 = 0.5;
/// Share that Model Breadcrumbs keeps, as in its paper and the documentation of mergekit.
const BREADCRUMBS_DENSITY: f64 = 0.9;
/// mergekit keeps everything unless told otherwise.
const MERGEKIT_DENSITY: f64 = 1.0;
/// As in mergekit.
const DELLA_EPSILON: f64 = 0.15;
/// As in mergekit.
const BREADCRUMBS_GAMMA: f64 = 0.01;

/// What a rule is made of, as written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    pub(super) density: Option<f64>,
    pub(super) epsilon: Option<f64>,
    pub(super) gamma: Option<f64>,
    pub(super) rescale: Option<bool>,
    pub(super) scope: Option<Scope>,
    pub(super) compat: Compat,
}

/// A rule that can be named.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    keys: &'static [&'static str],
    /// Whose arithmetic differs from the paper's.
    pub(super) references: &'static [Compat],
    pub(super) make: fn(&Parts) -> Sparsify,
}

impl Known {
    /// Whether `compat` has an effect on it.
    pub(super) fn has_references(&self) -> bool {
        !self.references.is_empty()
    }
}

impl Keyed for Known {
    fn has_key(&self, key: &str) -> bool {
        self.keys.contains(&key)
    }
}

pub(super) const TRIM: Known = Known {
    keys: &["density", "rescale", "scope"],
    references: &[],
    make: |parts| {
        let density = parts.density(TRIM_DENSITY);
        parts.ranked(SparsifyRule::Trim { density })
    },
};

pub(super) const DARE: Known = Known {
    keys: &["density", "rescale"],
    references: &[Compat::Mergekit, Compat::Peft],
    make: |parts| {
        let density = parts.density(CHANCE_DENSITY);
        parts.by_chance(SparsifyRule::Dare { density })
    },
};

pub(super) const DELLA: Known = Known {
    keys: &["density", "epsilon", "rescale"],
    references: &[Compat::Mergekit],
    make: |parts| {
        let density = parts.density(CHANCE_DENSITY);
        let epsilon = parts.epsilon.unwrap_or(DELLA_EPSILON);
        parts.by_chance(SparsifyRule::Della { density, epsilon })
    },
};

pub(super) const BREADCRUMBS: Known = Known {
    keys: &["density", "gamma", "rescale", "scope"],
    references: &[],
    make: |parts| {
        let density = parts.density(BREADCRUMBS_DENSITY);
        let gamma = parts.gamma.unwrap_or(BREADCRUMBS_GAMMA);
        parts.ranked(SparsifyRule::Breadcrumbs { density, gamma })
    },
};

/// Names of sparsifying rules.
pub(super) const SPARSIFIERS: Choice<Known> = Choice {
    what: "sparsifying rule",
    known: &[
        ("trim", TRIM),
        ("dare", DARE),
        ("della", DELLA),
        ("breadcrumbs", BREADCRUMBS),
    ],
    planned: &[],
};

impl Parts {
    fn density(&self, of_the_paper: f64) -> f64 {
        self.density.unwrap_or(match self.compat {
            Compat::Mergekit => MERGEKIT_DENSITY,
            Compat::Paper | Compat::Peft | Compat::Byzfl => of_the_paper,
        })
    }

    /// A rule that looks at magnitudes: nothing makes up for what is dropped, unless it is asked for.
    fn ranked(&self, rule: SparsifyRule) -> Sparsify {
        let rescale = match self.rescale {
            Some(true) => Rescale::Mass,
            Some(false) | None => Rescale::Nothing,
        };
        Sparsify {
            rule,
            scope: self.scope.unwrap_or(Scope::Tensor),
            rescale,
        }
    }

    /// A rule of chance: what is kept makes up for what is dropped, unless that is unwanted.
    fn by_chance(&self, rule: SparsifyRule) -> Sparsify {
        let rescale = match (self.rescale, self.compat) {
            (Some(false), _) => Rescale::Nothing,
            (Some(true) | None, Compat::Mergekit) => Rescale::Mass,
            (Some(true) | None, Compat::Paper | Compat::Peft | Compat::Byzfl) => {
                Rescale::Probability
            }
        };
        Sparsify {
            rule,
            scope: Scope::Tensor,
            rescale,
        }
    }
}

/// The rule that the table names, and what it is to be made of once `compat` is known.
pub(super) fn choose(
    table: &Spanned<SparsifyTable>,
    document: &Document,
) -> Result<(Known, Parts), ReadPlanError> {
    let place = document.place(table.span());
    let table = table.get_ref();
    let Some(name) = &table.method else {
        return Err(ReadPlanError::MissingKey {
            place,
            key: "method",
            example: "sparsify = { method = \"trim\", density = 0.2 }",
        });
    };
    let known = SPARSIFIERS.choose(name, document)?;
    let written = [
        ("density", span(table.density.as_ref())),
        ("epsilon", span(table.epsilon.as_ref())),
        ("gamma", span(table.gamma.as_ref())),
        ("rescale", span(table.rescale.as_ref())),
        ("scope", span(table.scope.as_ref())),
    ];
    SPARSIFIERS.refuse_foreign_keys(name.get_ref(), &written, document)?;
    let scope = table.scope.as_ref();
    let parts = Parts {
        density: table.density.as_ref().map(|value| *value.get_ref()),
        epsilon: table.epsilon.as_ref().map(|value| *value.get_ref()),
        gamma: table.gamma.as_ref().map(|value| *value.get_ref()),
        rescale: table.rescale.as_ref().map(|value| *value.get_ref()),
        scope: scope
            .map(|scope| SCOPES.choose(scope, document))
            .transpose()?,
        compat: Compat::Paper,
    };
    Ok((known, parts))
}
