//! FedAdagrad (Reddi et al., 2021, after Duchi, Hazan and Singer, JMLR 2011).
//!
//! `m ← β₁m + (1 − β₁)Δ`, `v ← v + Δ²`, step `η m / (√v + ε)`.

use super::first_moment;
use crate::recipe::Adaptive;

/// The step before it is scaled by the learning rate.
#[inline(always)]
pub(super) fn step(adaptive: Adaptive, gradient: f64, first: &mut f64, second: &mut f64) -> f64 {
    let mean = first_moment(adaptive, gradient, first);
    *second += gradient * gradient;
    mean / (second.sqrt() + adaptive.epsilon)
}
