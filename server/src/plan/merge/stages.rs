//! `before`: the stages that weigh, bound or mix whole task vectors before they meet.

use fedmerge_merge::{Before, ClipNorm};
use toml::Spanned;

use super::{or, span};
use crate::plan::ReadPlanError;
use crate::plan::choice::{Choice, Keyed};
use crate::plan::document::Document;
use crate::plan::file::{BeforeTable, Norm};

/// Clients in a bucket, as its paper has it.
const DEFAULT_SIZE: usize = 2;

/// A stage that can be named.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    keys: &'static [&'static str],
    make: fn(&Spanned<BeforeTable>, usize, &Document) -> Result<Before, ReadPlanError>,
}

impl Keyed for Known {
    fn has_key(&self, key: &str) -> bool {
        self.keys.contains(&key)
    }
}

/// Names of stages before the method.
pub(super) const STAGES: Choice<Known> = Choice {
    what: "stage",
    known: &[
        (
            "clip",
            Known {
                keys: &["norm", "radius", "scope"],
                make: |table, _, document| clip(table, document),
            },
        ),
        (
            "arc",
            Known {
                keys: &["tolerate", "scope"],
                make: |table, tolerate, _| {
                    let tolerate = or(table.get_ref().tolerate.as_ref(), tolerate);
                    Ok(Before::Arc { tolerate })
                },
            },
        ),
        (
            "nnm",
            Known {
                keys: &["tolerate", "scope"],
                make: |table, tolerate, _| {
                    let tolerate = or(table.get_ref().tolerate.as_ref(), tolerate);
                    Ok(Before::Nnm { tolerate })
                },
            },
        ),
        (
            "bucketing",
            Known {
                keys: &["size"],
                make: |table, _, _| {
                    let size = or(table.get_ref().size.as_ref(), DEFAULT_SIZE);
                    Ok(Before::Bucketing { size })
                },
            },
        ),
    ],
    planned: &[],
};

const NORMS: Choice<ClipNorm> = Choice {
    what: "norm",
    known: &[
        ("median", ClipNorm::Median),
        ("adaptive", ClipNorm::Adaptive { start: None }),
    ],
    planned: &[],
};

/// The stage of a table; without a word of its own it tolerates as many as the whole merge.
pub(super) fn stage(
    table: &Spanned<BeforeTable>,
    tolerate: usize,
    document: &Document,
) -> Result<Before, ReadPlanError> {
    let stage = table.get_ref();
    let name = stage
        .method
        .as_ref()
        .ok_or_else(|| missing("method", table, document))?;
    let known = STAGES.choose(name, document)?;
    let written = [
        ("norm", span(stage.norm.as_ref())),
        ("radius", span(stage.radius.as_ref())),
        ("tolerate", span(stage.tolerate.as_ref())),
        ("size", span(stage.size.as_ref())),
        ("scope", span(stage.scope.as_ref())),
    ];
    STAGES.refuse_foreign_keys(name.get_ref(), &written, document)?;
    (known.make)(table, tolerate, document)
}

fn clip(table: &Spanned<BeforeTable>, document: &Document) -> Result<Before, ReadPlanError> {
    let BeforeTable { norm, radius, .. } = table.get_ref();
    let norm = norm
        .as_ref()
        .ok_or_else(|| missing("norm", table, document))?;
    let norm = match norm.get_ref() {
        Norm::Number(norm) => ClipNorm::Fixed(*norm),
        Norm::Name(name) => NORMS.choose(&Spanned::new(norm.span(), name.clone()), document)?,
    };
    let norm = match (norm, radius) {
        (ClipNorm::Adaptive { .. }, Some(radius)) => ClipNorm::Adaptive {
            start: Some(*radius.get_ref()),
        },
        (ClipNorm::Fixed(_) | ClipNorm::Median, Some(radius)) => {
            return Err(ReadPlanError::Value {
                place: document.place(radius.span()),
                key: "radius",
                fault: "is the length with which norm = \"adaptive\" begins, and this norm does not adapt",
            });
        }
        (norm, None) => norm,
    };
    Ok(Before::Clip { norm })
}

fn missing(key: &'static str, table: &Spanned<BeforeTable>, document: &Document) -> ReadPlanError {
    ReadPlanError::MissingKey {
        place: document.place(table.span()),
        key,
        example: "before = [{ method = \"clip\", norm = \"median\" }]",
    }
}
