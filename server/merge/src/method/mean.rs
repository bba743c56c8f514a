//! Weighted mean, `Σ wᵢxᵢ / Σ wᵢ`: federated averaging (McMahan et al., AISTATS 2017) on task vectors.
//!
//! Not robust: one client can move it anywhere unless norms are clipped before.
//! Terms are added in the clients' order, in `f64`.

use super::Rule;
use crate::kernel::Rows;

pub(super) fn rule(weights: &[f64]) -> Rule {
    Rule::WeightedSum {
        weights: weights.to_vec(),
        divisor: weights.iter().sum(),
    }
}

pub(super) fn combine(rows: Rows<'_>, weights: &[f64], divisor: f64, out: &mut [f64]) {
    out.fill(0.0);
    for (row, weight) in rows.iter().zip(weights) {
        for (sum, &value) in out.iter_mut().zip(row) {
            *sum += weight * f64::from(value);
        }
    }
    for sum in out {
        *sum /= divisor;
    }
}
