//! Task arithmetic, `Σ wᵢxᵢ` (Ilharco et al., ICLR 2023): task vectors add up instead of averaging.
//!
//! Weights are scaled to an average of 1, so that example counts change the balance and not the length of the step.
//! With `normalize` it is the weighted mean.

use super::Rule;

#[expect(clippy::cast_precision_loss, reason = "counts of clients are small")]
pub(super) fn rule(weights: &[f64]) -> Rule {
    let average = weights.iter().sum::<f64>() / weights.len() as f64;
    Rule::WeightedSum {
        weights: weights.iter().map(|weight| weight / average).collect(),
        divisor: 1.0,
    }
}
