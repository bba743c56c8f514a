//! FLAME (Nguyen et al., "FLAME: Taming Backdoors in Federated Learning", USENIX Security 2022), without its noise: the cluster of the
//! majority by direction, its vectors clipped to the median length of all, and averaged.
//!
//! The paper's clustering is HDBSCAN over the cosine distance `1 − cos(xᵢ, xⱼ)` with clusters of `⌊n/2⌋ + 1` at least, one sample, and a
//! single cluster allowed. With one sample, a distance is never below that to the nearest neighbour, so mutual reachability is the
//! distance itself; and as no two clusters of a majority can be, the hierarchy never splits, and those remain who fall out of it last.
//! Hence exactly: with `h` the least distance at which `⌊n/2⌋ + 1` clients hang together by pairs no further apart than `h`, the cluster
//! is everyone who hangs together with them at `h`, those who join at `h` itself included.
//!
//! A vector without length has no direction: its cosine with any other is 0.

use super::{clip, lengths, number, rank};
use crate::gram::Gram;

/// The weights.
pub(super) fn weights(gram: &Gram) -> Vec<f64> {
    let lengths = lengths(gram);
    let kept = majority(gram, &lengths);
    let factors = clip::factors(&lengths, rank::median(&lengths));
    let mut weights = vec![0.0; lengths.len()];
    for &client in &kept {
        weights[client] = factors[client] / number(kept.len());
    }
    weights
}

/// `1 − cos(xᵢ, xⱼ)`, from the distance between the two, which keeps the digits of small angles.
fn cosine_distance(gram: &Gram, lengths: &[f64], i: usize, j: usize) -> f64 {
    let product = lengths[i] * lengths[j];
    if product <= 0.0 {
        return 1.0;
    }
    let longer = lengths[i] - lengths[j];
    ((gram.squared_distance(i, j) - longer * longer) / (2.0 * product)).max(0.0)
}

/// Those who hang together first.
fn majority(gram: &Gram, lengths: &[f64]) -> Vec<usize> {
    let clients = lengths.len();
    let mut pairs: Vec<(f64, usize, usize)> = (0..clients)
        .flat_map(|j| (0..j).map(move |i| (i, j)))
        .map(|(i, j)| (cosine_distance(gram, lengths, i, j), i, j))
        .collect();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut cluster: Vec<usize> = (0..clients).collect();
    for together in pairs.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq()) {
        let mut has_grown = false;
        for &(_, i, j) in together {
            let (into, from) = (cluster[i], cluster[j]);
            if into != from {
                has_grown = true;
                for client in cluster.iter_mut().filter(|client| **client == from) {
                    *client = into;
                }
            }
        }
        if has_grown && let Some(members) = large(&cluster) {
            return members;
        }
    }
    (0..clients).collect()
}

/// The members of the cluster that has a majority, if one has.
fn large(cluster: &[usize]) -> Option<Vec<usize>> {
    let members = |name| (0..cluster.len()).filter(move |&client| cluster[client] == name);
    let name = (0..cluster.len()).find(|&name| members(name).count() > cluster.len() / 2)?;
    Some(members(name).collect())
}
