//! Nesterov's accelerated gradient as Sutskever et al. write it ("On the importance of initialization and momentum in deep learning", ICML 2013)
//! and DiLoCo uses it on the server (Douillard et al., 2023): `v ← βv + Δ`, step `η(Δ + βv)`.

/// The step before it is scaled by the learning rate.
#[inline(always)]
pub(super) fn step(beta: f64, gradient: f64, velocity: &mut f64) -> f64 {
    *velocity = beta * *velocity + gradient;
    gradient + beta * *velocity
}
