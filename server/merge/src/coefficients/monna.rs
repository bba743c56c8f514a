//! MoNNA (Farhadkhani et al., "Robust Collaborative Learning with Linear Gradient Overhead", ICML 2023): the mean of the `n − f` vectors
//! nearest to a trusted one, itself among them.

use super::distances::Distances;
use super::mean_of;
use crate::gram::Gram;

/// The weights.
pub(super) fn weights(gram: &Gram, tolerate: usize, trusted: usize) -> Vec<f64> {
    let clients = gram.clients();
    let nearest = Distances::of(gram).nearest(trusted, clients.saturating_sub(tolerate));
    mean_of(&nearest, clients)
}
