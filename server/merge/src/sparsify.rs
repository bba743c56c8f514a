//! What makes a task vector sparse before it is merged: values that are dropped, by magnitude or by chance, and what makes up for them.
//!
//! Straight line, for one client: [`Sparsifier::kept`] says which ranks must be found in a scope, a [`Search`] finds them while blocks stream
//! by, [`Sparsifier::apply`] drops values unit by unit. A rule is a file; all keep a value or replace it by `fill`, which is 0, or absent where
//! the method counts supporters. A coordinate that was absent stays so, and ranks as the smallest magnitude.
//! Invariant: whether a value is kept depends on its scope, its place in its tensor and the seed, never on blocks or threads.

mod breadcrumbs;
mod dare;
mod della;
mod magnitude;
mod mass;
mod threshold;
mod trim;

pub(crate) use della::Ranker;
pub(crate) use magnitude::{Bounds, Kept, Magnitude, share_of};
pub(crate) use mass::{mass, mass_factor, scale};
pub(crate) use threshold::{Search, sample_spans};

use crate::recipe::{Recipe, Rescale, Sparsify, SparsifyRule};

/// Where a run of values comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// What tells the client from others in the generator of chance.
    pub(crate) client: u64,
    /// What tells the tensor from others in the generator of chance.
    pub(crate) tensor: u64,
    /// The place of the first value in its tensor.
    pub(crate) offset: u64,
}

/// A stage of a recipe that drops something.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sparsifier {
    sparsify: Sparsify,
    seed: u64,
}

impl Sparsifier {
    /// The sparsifier of a recipe; none where everything is kept: a density of 1 leaves values untouched, and so unscaled.
    pub(crate) fn of(recipe: &Recipe) -> Option<Self> {
        let sparsify = recipe.sparsify?;
        let (SparsifyRule::Trim { density }
        | SparsifyRule::Dare { density }
        | SparsifyRule::Della { density, .. }
        | SparsifyRule::Breadcrumbs { density, .. }) = sparsify.rule;
        (density < 1.0).then_some(Self {
            sparsify,
            seed: recipe.seed,
        })
    }

    /// Which ranks of so many values are kept; none where no threshold decides.
    pub(crate) fn kept(&self, values: u64) -> Option<Kept> {
        match self.sparsify.rule {
            SparsifyRule::Trim { density } => Some(trim::kept(density, values)),
            SparsifyRule::Breadcrumbs { density, gamma } => {
                Some(breadcrumbs::kept(density, gamma, values))
            }
            SparsifyRule::Dare { .. } | SparsifyRule::Della { .. } => None,
        }
    }

    /// Whether it keeps values as they are, by nothing but the bounds of their scope.
    pub(crate) fn is_of_bounds(&self) -> bool {
        let ranks = matches!(
            self.sparsify.rule,
            SparsifyRule::Trim { .. } | SparsifyRule::Breadcrumbs { .. }
        );
        ranks && !self.keeps_mass()
    }

    /// Whether whole rows are needed at a time, and a [`Ranker`] of their length.
    pub(crate) fn ranks_rows(&self) -> bool {
        matches!(self.sparsify.rule, SparsifyRule::Della { .. })
    }

    /// Whether what is kept must be multiplied by [`mass_factor`] of each client and tensor.
    pub(crate) fn keeps_mass(&self) -> bool {
        self.sparsify.rescale == Rescale::Mass
    }

    /// Copies a run of values and drops what the rule drops, and divides what it keeps by the probability of that where the recipe says so. `bounds` are those of the
    /// scope, where [`Self::kept`] asks for them; `ranker` has the length of the tensor's rows, where they are ranked.
    pub(crate) fn apply<T: Magnitude>(
        &self,
        (values, out): (&[T], &mut [T]),
        at: Place,
        fill: T,
        bounds: Bounds,
        ranker: &mut Ranker,
    ) {
        let rescale = self.sparsify.rescale;
        // Copied first: the compiler fears that two slices overlap, and a loop over one is fast.
        out.copy_from_slice(values);
        match self.sparsify.rule {
            SparsifyRule::Trim { .. } | SparsifyRule::Breadcrumbs { .. } => {
                bounds.filter(out, fill);
            }
            SparsifyRule::Dare { density } => {
                let dare = dare::Dare {
                    density,
                    rescale,
                    seed: self.seed,
                };
                dare.apply(out, at, fill);
            }
            SparsifyRule::Della { density, epsilon } => {
                let della = della::Della {
                    density,
                    epsilon,
                    rescale,
                    seed: self.seed,
                };
                della.apply(out, at, fill, ranker);
            }
        }
    }
}

#[cfg(test)]
mod tests;
