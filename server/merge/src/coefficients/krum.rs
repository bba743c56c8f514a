//! Krum and Multi-Krum (Blanchard et al., "Machine Learning with Adversaries", NeurIPS 2017): a vector's score is the sum of its squared
//! distances to the `k` nearest others; Krum is the vector of the least score, Multi-Krum the mean of the `m` least.
//!
//! In the paper `k = n − f − 2` and `m` as many; in ByzFL `k = n − f − 1` and `m = n − f`.

use super::distances::Distances;
use super::{mean_of, rank};
use crate::gram::Gram;
use crate::recipe::Neighbours;

/// The weights: those of a mean of the best `selected`, or as the convention has it.
pub(super) fn weights(
    gram: &Gram,
    tolerate: usize,
    neighbours: Neighbours,
    selected: Option<usize>,
) -> Vec<f64> {
    let distances = Distances::of(gram);
    let clients = distances.clients();
    let as_usual = match neighbours {
        Neighbours::Paper => clients.saturating_sub(tolerate.saturating_add(2)),
        Neighbours::Byzfl => clients.saturating_sub(tolerate),
    };
    let everyone: Vec<usize> = (0..clients).collect();
    let scores = scores(
        &distances,
        &everyone,
        counted(clients, tolerate, neighbours),
    );
    let best = rank::smallest(&scores, selected.unwrap_or(as_usual).max(1));
    mean_of(&best, clients)
}

/// How many neighbours a score counts among so many: one at least, so that scores say something.
pub(super) fn counted(voters: usize, tolerate: usize, neighbours: Neighbours) -> usize {
    let left = match neighbours {
        Neighbours::Paper => voters.saturating_sub(tolerate.saturating_add(2)),
        Neighbours::Byzfl => voters.saturating_sub(tolerate.saturating_add(1)),
    };
    left.max(1)
}

/// The score of each voter among the voters, in their order.
pub(super) fn scores(distances: &Distances, voters: &[usize], counted: usize) -> Vec<f64> {
    let score = |&voter: &usize| {
        let mut squares: Vec<f64> = voters
            .iter()
            .filter(|&&other| other != voter)
            .map(|&other| distances.square(voter, other))
            .collect();
        squares.sort_by(f64::total_cmp);
        squares.iter().take(counted).sum()
    };
    voters.iter().map(score).collect()
}
