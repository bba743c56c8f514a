//! FedYogi (Reddi et al., 2021, after Zaheer et al., "Adaptive methods for nonconvex optimization", NeurIPS 2018).
//!
//! `m ← β₁m + (1 − β₁)Δ`, `v ← v − (1 − β₂)Δ² sign(v − Δ²)`, step `η m / (√v + ε)`; no bias correction. `v` moves by at most `(1 − β₂)Δ²`, so
//! one small pseudo-gradient does not let the step grow at once.

use super::first_moment;
use crate::recipe::Adaptive;

/// The step before it is scaled by the learning rate.
#[inline(always)]
pub(super) fn step(adaptive: Adaptive, gradient: f64, first: &mut f64, second: &mut f64) -> f64 {
    let mean = first_moment(adaptive, gradient, first);
    let square = gradient * gradient;
    let change = (1.0 - adaptive.beta2) * square;
    if *second > square {
        *second -= change;
    } else if *second < square {
        *second += change;
    }
    mean / (second.sqrt() + adaptive.epsilon)
}
