//! Nearest-neighbour mixing (Allouah et al., "Fixing by Mixing", AISTATS 2023): each vector becomes the mean of the `n − f` vectors
//! nearest to it, itself among them.

use ndarray::Array2;

use super::distances::Distances;
use super::number;
use crate::gram::Gram;

/// The mixing matrix.
pub(super) fn mixing(gram: &Gram, tolerate: usize) -> Array2<f64> {
    let distances = Distances::of(gram);
    let clients = distances.clients();
    let mut mixing = Array2::zeros((clients, clients));
    for client in 0..clients {
        let nearest = distances.nearest(client, clients.saturating_sub(tolerate));
        for &near in &nearest {
            mixing[[client, near]] = 1.0 / number(nearest.len());
        }
    }
    mixing
}
