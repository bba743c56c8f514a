//! Bulyan's choice (El Mhamdi, Guerraoui, Rouault, "The Hidden Vulnerability of Distributed Learning in Byzantium", ICML 2018): Krum picks
//! one of those who remain, `θ = n − 2f` times, and neighbours are counted among those who remain.
//!
//! What follows is coordinate by coordinate: the mean of the `β = θ − 2f` values of the chosen nearest to their median. The last picks
//! are among few (`2f + 1`), where the paper's count of neighbours can be 0; one is counted at least.

use super::distances::Distances;
use super::{krum, rank};
use crate::gram::Gram;
use crate::recipe::Neighbours;

/// The chosen, in the order of their indices.
pub(super) fn chosen(gram: &Gram, tolerate: usize, neighbours: Neighbours) -> Vec<usize> {
    let distances = Distances::of(gram);
    let clients = distances.clients();
    let mut remaining: Vec<usize> = (0..clients).collect();
    let mut chosen = Vec::new();
    for _ in 0..clients.saturating_sub(2 * tolerate.min(clients)).max(1) {
        let counted = krum::counted(remaining.len(), tolerate, neighbours);
        let scores = krum::scores(&distances, &remaining, counted);
        for best in rank::smallest(&scores, 1) {
            chosen.push(remaining.remove(best));
        }
    }
    chosen.sort_unstable();
    chosen
}
