//! The rules by which the clients' values of one coordinate become one: each with its paper in its own file.
//!
//! A rule sees a block of every client and writes one `f64` for each coordinate. It must not look beyond the coordinate:
//! whatever needs whole task vectors (norms, thresholds) happens before.

mod mean;
mod median;
mod task_arithmetic;
mod ties;
mod trimmed_mean;

use crate::kernel::Rows;
use crate::kernel::sort::Sorter;
use crate::recipe::{Elect, Method};

/// A method with its weights worked out.
#[derive(Debug, Clone)]
pub(crate) enum Rule {
    /// `Σ wᵢxᵢ / divisor`.
    WeightedSum {
        weights: Vec<f64>,
        divisor: f64,
    },
    Median,
    TrimmedMean {
        tolerate: usize,
    },
    Ties {
        weights: Vec<f64>,
        elect: Elect,
    },
}

impl Rule {
    /// The rule of a method for clients of these weights; their sum is positive and finite.
    pub(crate) fn new(method: Method, weights: &[f64]) -> Self {
        match method {
            Method::Mean | Method::TaskArithmetic { normalize: true } => mean::rule(weights),
            Method::TaskArithmetic { normalize: false } => task_arithmetic::rule(weights),
            Method::Median => Self::Median,
            Method::TrimmedMean { tolerate } => Self::TrimmedMean { tolerate },
            Method::Ties { elect, .. } => Self::Ties {
                weights: weights.to_vec(),
                elect,
            },
        }
    }

    /// Merges one block.
    pub(crate) fn combine(&self, rows: Rows<'_>, sorter: &mut Option<Sorter>, out: &mut [f64]) {
        match (self, sorter) {
            (Self::WeightedSum { weights, divisor }, _) => {
                mean::combine(rows, weights, *divisor, out);
            }
            (Self::Ties { weights, elect }, _) => ties::combine(rows, weights, *elect, out),
            (Self::Median, Some(sorter)) => median::combine(rows, sorter, out),
            (Self::TrimmedMean { tolerate }, Some(sorter)) => {
                trimmed_mean::combine(rows, *tolerate, sorter, out);
            }
            (Self::Median | Self::TrimmedMean { .. }, None) => out.fill(f64::NAN),
        }
    }

    /// What the rule needs to sort, if it sorts.
    pub(crate) fn sorter(&self, clients: usize) -> Option<Sorter> {
        match self {
            Self::Median | Self::TrimmedMean { .. } => Some(Sorter::new(clients)),
            Self::WeightedSum { .. } | Self::Ties { .. } => None,
        }
    }
}
