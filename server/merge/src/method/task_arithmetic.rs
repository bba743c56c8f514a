//! Task arithmetic, `Σ wᵢxᵢ` (Ilharco et al., ICLR 2023): task vectors add up instead of averaging, and a negative weight subtracts.
//!
//! Weights are taken as they are: who counts examples scales them first. With `normalize` it is the weighted mean.

use super::Rule;

pub(super) fn rule(weights: Vec<f64>) -> Rule {
    Rule::WeightedSum {
        weights,
        divisor: 1.0,
    }
}
