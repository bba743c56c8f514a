//! Squared distances between the clients' vectors, worked out once for a rule that looks at them again and again.

use ndarray::Array2;

use super::rank;
use crate::gram::Gram;

/// `‖xᵢ − xⱼ‖²` of all clients; never below 0, and 0 from a client to itself.
pub(super) struct Distances(Array2<f64>);

impl Distances {
    /// Those of the Gram matrix.
    pub(super) fn of(gram: &Gram) -> Self {
        let clients = gram.clients();
        let mut squares = Array2::zeros((clients, clients));
        for i in 0..clients {
            for j in 0..i {
                let square = gram.squared_distance(j, i);
                squares[[i, j]] = square;
                squares[[j, i]] = square;
            }
        }
        Self(squares)
    }

    /// How many clients there are.
    pub(super) fn clients(&self) -> usize {
        self.0.nrows()
    }

    /// `‖xᵢ − xⱼ‖²`
    pub(super) fn square(&self, i: usize, j: usize) -> f64 {
        self.0[[i, j]]
    }

    /// The `count` clients nearest to one, which is the first of them unless others are the same; at least one.
    pub(super) fn nearest(&self, client: usize, count: usize) -> Vec<usize> {
        rank::smallest(&self.0.row(client).to_vec(), count.max(1))
    }
}
