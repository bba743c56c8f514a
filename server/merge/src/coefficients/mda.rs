//! Minimum diameter averaging (El Mhamdi, Guerraoui, Rouault, "The Hidden Vulnerability of Distributed Learning in Byzantium", ICML 2018,
//! after Rousseeuw): the mean of the `n − f` vectors whose largest distance from each other is least.
//!
//! Exact without looking at all `C(n, f)` subsets: a diameter of at most `t` is possible iff `f` clients or fewer are in all pairs further
//! apart than `t`, a vertex cover (`mda/cover.rs`). The least such `t` among the distances is found by halving, then the first subset in
//! lexicographic order that has it, client by client. The time can grow exponentially with `f` where distances are all about the same.

mod cover;

use cover::Conflicts;

use super::distances::Distances;
use super::mean_of;
use crate::gram::Gram;

/// The weights.
pub(super) fn weights(gram: &Gram, tolerate: usize) -> Vec<f64> {
    let distances = Distances::of(gram);
    mean_of(&chosen(&distances, tolerate), gram.clients())
}

/// The subset of the least diameter, the first in lexicographic order.
pub(super) fn chosen(distances: &Distances, tolerate: usize) -> Vec<usize> {
    let clients = distances.clients();
    let tolerate = tolerate.min(clients.saturating_sub(1));
    let mut diameters: Vec<f64> = (0..clients)
        .flat_map(|j| (0..=j).map(move |i| distances.square(i, j)))
        .collect();
    diameters.sort_by(f64::total_cmp);
    diameters.dedup();
    let is_too_small = |&diameter: &f64| {
        !Conflicts::of(clients, |i, j| distances.square(i, j) > diameter).can_be_settled(tolerate)
    };
    let least = diameters.partition_point(is_too_small);
    // With the largest of all nobody conflicts, so there is one.
    let diameter = diameters.get(least).copied().unwrap_or(f64::INFINITY);
    let mut first =
        Conflicts::of(clients, |i, j| distances.square(i, j) > diameter).first(tolerate);
    first.truncate(clients - tolerate);
    first
}
