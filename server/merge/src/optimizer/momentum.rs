//! Heavy ball, the server momentum of FedAvgM (Hsu et al., "Measuring the effects of non-identical data distribution for federated visual
//! classification", 2019): `v ← βv + Δ`, step `ηv`.

/// The step before it is scaled by the learning rate.
#[inline(always)]
pub(super) fn step(beta: f64, gradient: f64, velocity: &mut f64) -> f64 {
    *velocity = beta * *velocity + gradient;
    *velocity
}
