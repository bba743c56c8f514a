//! DARE (Yu et al., "Language models are super Mario: absorbing abilities from homologous models as a free lunch", ICML 2024): keeps each
//! value by chance.
//!
//! `x̃ᵢ = mᵢ xᵢ / density` with `mᵢ ~ Bernoulli(density)`, independent for clients, tensors and coordinates. The division, which keeps the
//! expected value, is the recipe's choice. The draw is the number of the coordinate in its stream of `noise.rs`, compared as an integer.

use super::Place;
use super::magnitude::Magnitude;
use super::mass::scaled;
use crate::kernel::dispatch::vectorized;
use crate::noise::{GROUP, Stream, last_hit};
use crate::recipe::Rescale;

/// The rule with its numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Dare {
    pub(super) density: f64,
    pub(super) rescale: Rescale,
    pub(super) seed: u64,
}

impl Dare {
    /// Puts `fill` where chance says so.
    pub(super) fn apply<T: Magnitude>(&self, values: &mut [T], at: Place, fill: T) {
        let stream = Stream::of(self.seed, at.client, at.tensor);
        let last = last_hit(self.density);
        let factor = match self.rescale {
            Rescale::Nothing | Rescale::Mass => 1.0,
            Rescale::Probability => 1.0 / self.density,
        };
        vectorized(
            #[inline(always)]
            || {
                let mut words = [0_u32; 16 * GROUP];
                let mut index = at.offset;
                for values in values.chunks_mut(words.len()) {
                    let words = &mut words[..values.len()];
                    stream.fill(index, words);
                    index += values.len() as u64;
                    keep(values, words, last, factor, fill);
                }
            },
        );
    }
}

/// Keeps, times `factor`, the values whose numbers are at most `last`.
#[inline(always)]
fn keep<T: Magnitude>(values: &mut [T], words: &[u32], last: u32, factor: f64, fill: T) {
    for (value, &word) in values.iter_mut().zip(words) {
        // Both are computed, so that nothing branches on chance.
        let kept = scaled(*value, factor);
        let is_kept = (word <= last) | value.is_absent();
        *value = if is_kept { kept } else { fill };
    }
}
