//! `optimizer`: what makes a step of the merged task vector.

use fedmerge_merge::{Adaptive, Optimizer, OptimizerRule};
use toml::Spanned;

use super::{or, span};
use crate::plan::ReadPlanError;
use crate::plan::choice::{Choice, Keyed};
use crate::plan::document::Document;
use crate::plan::file::OptimizerTable;

/// The step is the velocity.
const DEFAULT_RATE: f64 = 1.0;
const DEFAULT_BETA: f64 = 0.9;
/// The adaptive rules make every coordinate move by about the rate: fine-tuning wants a small one. These are of Reddi et al., ICLR 2021.
const ADAPTIVE_RATE: f64 = 0.01;
const ADAPTIVE: Adaptive = Adaptive {
    beta1: 0.9,
    beta2: 0.99,
    epsilon: 1e-3,
};

/// An optimizer that can be named.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    keys: &'static [&'static str],
    make: fn(&OptimizerTable) -> Option<Optimizer>,
}

impl Keyed for Known {
    fn has_key(&self, key: &str) -> bool {
        self.keys.contains(&key)
    }
}

const ADAPTIVE_KEYS: &[&str] = &["learning_rate", "beta1", "beta2", "epsilon"];

/// Names of optimizers of the server.
pub(super) const OPTIMIZERS: Choice<Known> = Choice {
    what: "optimizer",
    known: &[
        (
            "none",
            Known {
                keys: &[],
                make: |_| None,
            },
        ),
        (
            "momentum",
            Known {
                keys: &["learning_rate", "beta"],
                make: |table| {
                    let beta = or(table.beta.as_ref(), DEFAULT_BETA);
                    of(table, DEFAULT_RATE, OptimizerRule::Momentum { beta })
                },
            },
        ),
        (
            "nesterov",
            Known {
                keys: &["learning_rate", "beta"],
                make: |table| {
                    let beta = or(table.beta.as_ref(), DEFAULT_BETA);
                    of(table, DEFAULT_RATE, OptimizerRule::Nesterov { beta })
                },
            },
        ),
        (
            "adam",
            Known {
                keys: ADAPTIVE_KEYS,
                make: |table| of(table, ADAPTIVE_RATE, OptimizerRule::Adam(adaptive(table))),
            },
        ),
        (
            "yogi",
            Known {
                keys: ADAPTIVE_KEYS,
                make: |table| of(table, ADAPTIVE_RATE, OptimizerRule::Yogi(adaptive(table))),
            },
        ),
        (
            "adagrad",
            Known {
                keys: &["learning_rate", "beta1", "epsilon"],
                make: |table| {
                    // As in the paper, without momentum unless it is asked for.
                    let beta1 = or(table.beta1.as_ref(), 0.0);
                    let adaptive = Adaptive {
                        beta1,
                        ..adaptive(table)
                    };
                    of(table, ADAPTIVE_RATE, OptimizerRule::Adagrad(adaptive))
                },
            },
        ),
    ],
    planned: &[],
};

fn adaptive(table: &OptimizerTable) -> Adaptive {
    Adaptive {
        beta1: or(table.beta1.as_ref(), ADAPTIVE.beta1),
        beta2: or(table.beta2.as_ref(), ADAPTIVE.beta2),
        epsilon: or(table.epsilon.as_ref(), ADAPTIVE.epsilon),
    }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "what makes an optimizer may make none"
)]
fn of(table: &OptimizerTable, default_rate: f64, rule: OptimizerRule) -> Option<Optimizer> {
    Some(Optimizer {
        rule,
        learning_rate: or(table.learning_rate.as_ref(), default_rate),
    })
}

/// The optimizer of the table.
pub(super) fn optimizer(
    table: Option<&Spanned<OptimizerTable>>,
    document: &Document,
) -> Result<Option<Optimizer>, ReadPlanError> {
    let Some(table) = table else {
        return Ok(None);
    };
    let place = document.place(table.span());
    let table = table.get_ref();
    let Some(name) = &table.method else {
        return Err(ReadPlanError::MissingKey {
            place,
            key: "method",
            example: "optimizer = { method = \"none\" }",
        });
    };
    let known = OPTIMIZERS.choose(name, document)?;
    let written = [
        ("learning_rate", span(table.learning_rate.as_ref())),
        ("beta", span(table.beta.as_ref())),
        ("beta1", span(table.beta1.as_ref())),
        ("beta2", span(table.beta2.as_ref())),
        ("epsilon", span(table.epsilon.as_ref())),
    ];
    OPTIMIZERS.refuse_foreign_keys(name.get_ref(), &written, document)?;
    Ok((known.make)(table))
}
