//! FedAdam (Reddi et al., 2021) with the bias correction of Adam (Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015).
//!
//! `m ← β₁m + (1 − β₁)Δ`, `v ← β₂v + (1 − β₂)Δ²`, step `η m̂ / (√v̂ + ε)` with `m̂ = m / (1 − β₁ᵗ)` and `v̂ = v / (1 − β₂ᵗ)`, `t` from 1.
//! So the first step is `η Δ / (|Δ| + ε)`.

use super::first_moment;
use crate::recipe::Adaptive;

/// The rule at one step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Adam {
    adaptive: Adaptive,
    /// `1 − βᵗ` of either moment.
    corrections: [f64; 2],
}

impl Adam {
    /// The rule at step `t`.
    pub(super) fn at(adaptive: Adaptive, t: u64) -> Self {
        Self {
            adaptive,
            corrections: [adaptive.beta1, adaptive.beta2].map(|beta| 1.0 - power(beta, t)),
        }
    }

    /// The step before it is scaled by the learning rate.
    #[inline(always)]
    pub(super) fn step(&self, gradient: f64, first: &mut f64, second: &mut f64) -> f64 {
        let beta2 = self.adaptive.beta2;
        let mean = first_moment(self.adaptive, gradient, first) / self.corrections[0];
        *second = beta2 * *second + (1.0 - beta2) * (gradient * gradient);
        let square = *second / self.corrections[1];
        mean / (square.sqrt() + self.adaptive.epsilon)
    }
}

/// `baseᵗ` by squaring, from the lowest bit of `t` up: the same bits on every machine, which `powi` does not promise.
fn power(base: f64, t: u64) -> f64 {
    let (mut power, mut square, mut t) = (1.0, base, t);
    while t > 0 {
        if t & 1 == 1 {
            power *= square;
        }
        square *= square;
        t >>= 1;
    }
    power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_are_those_of_repeated_multiplication() {
        let mut product = 1.0;
        for t in 0..200 {
            assert!((power(0.9, t) - product).abs() <= 1e-14 * product);
            product *= 0.9;
        }
        assert!(power(0.999, u64::MAX).abs() < f64::MIN_POSITIVE);
    }
}
