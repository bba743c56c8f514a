//! Centered clipping (Karimireddy, He, Jaggi, "Learning from History for Byzantine Robust Optimization", ICML 2021):
//! `v ← v + 1/n Σ (xᵢ − v) · min(1, τ / ‖xᵢ − v‖)`, so many times, from the step of the round before or from 0.
//!
//! The step before is a row of its own beside the clients': `v` is a combination of all of them.

use super::{clip, number};
use crate::gram::Gram;

/// The coefficients of all rows.
pub(super) fn coefficients(
    gram: &Gram,
    previous: Option<usize>,
    radius: f64,
    iterations: usize,
) -> Vec<f64> {
    let clients = gram.clients();
    let mut centre = vec![0.0; gram.rows()];
    if let Some(previous) = previous {
        centre[previous] = 1.0;
    }
    for _ in 0..iterations {
        let distances: Vec<f64> = (0..clients)
            .map(|i| gram.squared_distance_to(i, &centre).sqrt())
            .collect();
        let factors = clip::factors(&distances, radius);
        let left = 1.0 - factors.iter().sum::<f64>() / number(clients);
        for coefficient in &mut centre {
            *coefficient *= left;
        }
        for (coefficient, factor) in centre.iter_mut().zip(&factors) {
            *coefficient += factor / number(clients);
        }
    }
    centre
}
