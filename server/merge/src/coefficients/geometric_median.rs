//! The geometric median (Pillutla, Kakade, Harchaoui, "Robust Aggregation for Federated Learning", IEEE TSP 2022): the `z` of the least
//! `Σ ‖xᵢ − z‖`, by the smoothed iteration of Weiszfeld `βᵢ = 1 / max(‖xᵢ − z‖, ν)`, `z ← Σβᵢxᵢ / Σβᵢ`.
//!
//! The iteration moves coefficients alone: with `Σa = 1`, `‖xᵢ − Σaⱼxⱼ‖² = Kᵢᵢ − 2(Ka)ᵢ + aᵀKa`. It ends early when no coefficient moves
//! by `1e-12`. ByzFL begins at 0, where the distances are the lengths.

use ndarray::{Array1, Array2};

use super::number;
use crate::gram::Gram;
use crate::recipe::Start;

/// A change of coefficients that is none.
const AT_REST: f64 = 1e-12;

/// The weights, which add up to 1.
pub(super) fn weights(gram: &Gram, nu: f64, iterations: usize, start: Start) -> Vec<f64> {
    let centred = gram.centred();
    let clients = gram.clients();
    let mut weights = Array1::from_elem(clients, 1.0 / number(clients));
    for iteration in 0..iterations {
        let squares: Vec<f64> = match start {
            Start::Zero if iteration == 0 => (0..clients).map(|i| gram.squared_norm(i)).collect(),
            Start::Zero | Start::Mean => squared_distances(&centred, &weights),
        };
        let next = pulls(&squares, nu);
        let moved = next
            .iter()
            .zip(&weights)
            .map(|(next, weight)| (next - weight).abs())
            .fold(0.0, f64::max);
        weights = next;
        // At the zero of a first step, the weights before it are nobody's.
        if moved < AT_REST && iteration > 0 {
            break;
        }
    }
    weights.to_vec()
}

/// The share of each in `Σβ`. Pulls are relative to the strongest, so that none is infinite.
fn pulls(squares: &[f64], nu: f64) -> Array1<f64> {
    let distances: Array1<f64> = squares.iter().map(|square| square.sqrt().max(nu)).collect();
    let least = distances.iter().copied().fold(f64::INFINITY, f64::min);
    let pulls = distances.mapv(|distance| least / distance);
    let sum = pulls.sum();
    pulls / sum
}

/// `‖xᵢ − Σaⱼxⱼ‖²` for `Σa = 1`.
fn squared_distances(centred: &Array2<f64>, weights: &Array1<f64>) -> Vec<f64> {
    let pulled = centred.dot(weights);
    let square = weights.dot(&pulled);
    let from = |i: usize| (centred[[i, i]] - 2.0 * pulled[i] + square).max(0.0);
    (0..weights.len()).map(from).collect()
}
