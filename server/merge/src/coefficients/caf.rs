//! Covariance-bound agnostic filter (Allouah et al., "Towards Trustworthy Federated Learning with Untrusted Participants", ICML 2025): each
//! vector has a weight `cᵢ`, 1 at first. While `Σc > n − 2f`, the weighted covariance has its largest variance `λ` along `v`, and
//! `cᵢ ← cᵢ (1 − τᵢ / τmax)` with `τᵢ = ⟨xᵢ − μ, v⟩²`. The mean `μ` of the smallest `λ` on the way is the result.
//!
//! `τmax` is the largest of all, also of those whose weight is gone, as ByzFL has it. A vector far away can hold up the others so: where
//! nobody with weight would lose a thousandth of it, and in turns after the 64th, `τmax` is the largest of those who have weight, of whom
//! each such turn takes one. Where nothing varies, the filter is done. With `f = 0` it is the mean. Directions are those of an exact
//! decomposition, not of one step of a power iteration.

use super::{number, spectrum};
use crate::gram::Gram;

/// The turns in which those without weight are heard.
const PATIENCE: usize = 64;

/// The share that somebody must lose in such a turn.
const PROGRESS: f64 = 1e-3;

/// The weights, which add up to 1.
pub(super) fn weights(gram: &Gram, tolerate: usize) -> Vec<f64> {
    let clients = gram.clients();
    let centred = gram.centred();
    let enough = number(clients.saturating_sub(2 * tolerate.min(clients)));
    let mut left = vec![1.0; clients];
    let mut best = (f64::INFINITY, vec![1.0 / number(clients); clients]);
    for turn in 0..PATIENCE + clients {
        let sum: f64 = left.iter().sum();
        if sum <= enough {
            break;
        }
        let weights: Vec<f64> = left.iter().map(|left| left / sum).collect();
        let widest = spectrum::widest(&centred, &weights);
        if widest.variance < best.0 {
            best = (widest.variance, weights);
        }
        let Some(largest) = largest(&widest.scores, &left, turn) else {
            break;
        };
        for (left, score) in left.iter_mut().zip(&widest.scores) {
            *left *= (1.0 - score / largest).max(0.0);
        }
    }
    best.1
}

/// `τmax`; none where nobody with weight is off the mean.
pub(super) fn largest(scores: &[f64], left: &[f64], turn: usize) -> Option<f64> {
    let heard = scores.iter().zip(left).filter(|(_, left)| **left > 0.0);
    let own = heard.fold(0.0, |most: f64, (score, _)| most.max(*score));
    let all = scores.iter().copied().fold(0.0, f64::max);
    let largest = if turn < PATIENCE && own >= PROGRESS * all {
        all
    } else {
        own
    };
    (own > 0.0).then_some(largest)
}
