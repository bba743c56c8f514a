//! Divide and conquer (Shejwalkar, Houmansadr, "Manipulating the Byzantine", NDSS 2021), over all coordinates: with `v` the direction of
//! the largest variance, the `⌊c·f⌋` vectors with the largest `⟨xᵢ − x̄, v⟩²` are dropped, and the others averaged.
//!
//! Liars who pull in several directions can be left after one look: the rule has no bound for the worst case. One vector is kept at
//! least. The paper looks at random subsets of coordinates to save time; inner products of all of them cost no more here.

use super::{mean_of, number, rank, spectrum};
use crate::gram::Gram;

/// The weights; `drop` is the paper's `c`.
pub(super) fn weights(gram: &Gram, tolerate: usize, drop: f64) -> Vec<f64> {
    let clients = gram.clients();
    let mean = vec![1.0 / number(clients); clients];
    let scores = spectrum::widest(&gram.centred(), &mean).scores;
    let dropped = (1..clients)
        .take_while(|&count| number(count) <= drop * number(tolerate))
        .count();
    mean_of(&rank::smallest(&scores, clients - dropped), clients)
}
