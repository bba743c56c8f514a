//! FLTrust (Cao et al., "FLTrust: Byzantine-robust Federated Learning via Trust Bootstrapping", NDSS 2021): with a trusted `g`, each other
//! client is scaled to its length and weighed by its agreement, `Σ TSᵢ (‖g‖ / ‖xᵢ‖) xᵢ / Σ TSᵢ` with `TSᵢ = max(0, cos(xᵢ, g))`.
//!
//! The trusted vector is a measure and no part of the sum. A vector without length agrees with none, and where nobody agrees there is no
//! step.

use super::lengths;
use crate::gram::Gram;

/// The weights.
pub(super) fn weights(gram: &Gram, trusted: usize) -> Vec<f64> {
    let lengths = lengths(gram);
    let trust = |client: usize| {
        let lengths = lengths[client] * lengths[trusted];
        if client == trusted || lengths <= 0.0 {
            return 0.0;
        }
        (gram.inner(trusted, client) / lengths).max(0.0)
    };
    let trusts: Vec<f64> = (0..gram.clients()).map(trust).collect();
    let sum: f64 = trusts.iter().sum();
    let weight = |(trust, length): (&f64, &f64)| {
        if *trust > 0.0 {
            trust / sum * (lengths[trusted] / length)
        } else {
            0.0
        }
    };
    trusts.iter().zip(&lengths).map(weight).collect()
}
