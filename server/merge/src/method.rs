//! The rules by which the clients' values of one coordinate become one: each with its paper in its own file.
//!
//! A rule sees a block of every client and writes one `f64` for each coordinate. It must not look beyond the coordinate:
//! whatever needs whole task vectors (norms, distances, thresholds) happens before. Absent coordinates reach only the rules
//! that rank values; these leave the client out.

mod consensus;
mod magmax;
mod mean;
mod median;
mod nearest_median;
mod phocas;
mod ram;
pub(crate) mod sce;
mod sign_majority;
mod task_arithmetic;
#[cfg(test)]
mod tests;
mod ties;
mod tiles;
mod trimmed_mean;

use self::consensus::Consensus;
use self::magmax::Magmax;
use self::ram::Ram;
use self::sign_majority::SignMajority;
use crate::kernel::{Element, Ranks, Rows, Sorter, Target};
use crate::recipe::{Method, Ties};
use crate::sparsify::{Bounds, Magnitude};

/// A coordinate-wise rule with its weights worked out.
#[derive(Debug, Clone)]
pub(crate) enum Rule {
    /// `Σ wᵢxᵢ / divisor`.
    WeightedSum {
        weights: Vec<f64>,
        divisor: f64,
    },
    Median {
        tolerate: usize,
    },
    TrimmedMean {
        tolerate: usize,
    },
    /// The mean of the values nearest to the median: all but `sides` times `tolerate`.
    NearestMedian {
        tolerate: usize,
        sides: usize,
    },
    Phocas {
        tolerate: usize,
    },
    SignMajority,
    Ties {
        weights: Vec<f64>,
        ties: Ties,
        /// Between which magnitudes the values of each row are kept; nothing where all are.
        bounds: Vec<Bounds>,
    },
    Ram {
        epsilon: f64,
    },
    Magmax,
    Consensus {
        threshold: f64,
        support: usize,
    },
    /// Keeps the coordinates whose variance, as an `f32`, has bits of at least `threshold`; none are kept where there is none.
    Sce {
        weights: Vec<f64>,
        threshold: Option<u32>,
    },
}

/// What a rule came to know of its values, without looking for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finite {
    /// All are numbers.
    All,
    /// Some may be infinite, no number, or absent.
    Unknown,
}

/// Memory in which a rule works; one for each thread.
#[derive(Debug)]
pub(crate) struct Workspace<T: Element> {
    sorter: Option<Sorter<T>>,
}

impl Rule {
    /// The rule of a method for rows of these weights: the clients', or what the stages before made of them.
    ///
    /// A method of the space of inner products has found its weights there, except for Bulyan, which has found its rows. SCE
    /// takes its weights for energies, which only [`Rule::sce`] knows, and keeps all coordinates.
    pub(crate) fn of(method: Method, weights: &[f64], rows: usize) -> Self {
        let weights = || weights.iter().copied().take(rows).collect::<Vec<_>>();
        match method {
            Method::Mean | Method::TaskArithmetic { normalize: true } => mean::rule(weights()),
            Method::TaskArithmetic { normalize: false } => task_arithmetic::rule(weights()),
            Method::Median { tolerate } => Self::Median { tolerate },
            Method::TrimmedMean { tolerate } => Self::TrimmedMean { tolerate },
            Method::Meamed { tolerate } => Self::NearestMedian { tolerate, sides: 1 },
            Method::Bulyan { tolerate, .. } => Self::NearestMedian { tolerate, sides: 2 },
            Method::Phocas { tolerate } => Self::Phocas { tolerate },
            Method::SignMajority => Self::SignMajority,
            Method::Ties(ties) => Self::Ties {
                weights: weights(),
                ties,
                bounds: Vec::new(),
            },
            Method::Sce { .. } => Self::sce(&weights(), Some(0)),
            Method::Ram { epsilon } => Self::Ram { epsilon },
            Method::Magmax => Self::Magmax,
            Method::Consensus { threshold, support } => Self::Consensus { threshold, support },
            Method::Krum { .. }
            | Method::MultiKrum { .. }
            | Method::GeometricMedian { .. }
            | Method::CenteredClipping { .. }
            | Method::Mda { .. }
            | Method::Caf { .. }
            | Method::Dnc { .. }
            | Method::Fltrust
            | Method::Flame
            | Method::Monna { .. } => Self::WeightedSum {
                weights: weights(),
                divisor: 1.0,
            },
        }
    }

    /// SCE for one tensor: the clients' `‖x‖²` over the kept coordinates, and the bits of the least variance that is kept; none: nothing is.
    pub(crate) fn sce(energies: &[f64], threshold: Option<u32>) -> Self {
        sce::rule(energies, threshold)
    }

    /// The same, of values within these bounds alone, which each row has its own of; only TIES heeds them.
    pub(crate) fn within(mut self, kept: Vec<Bounds>) -> Self {
        if let Self::Ties { bounds, .. } = &mut self {
            *bounds = kept;
        }
        self
    }

    /// Merges one block, and tells what it could not help seeing of its values.
    pub(crate) fn combine<T: Magnitude>(
        &self,
        rows: Rows<'_, T>,
        workspace: &mut Workspace<T>,
        target: &mut Target<'_>,
    ) -> Finite {
        debug_assert_eq!(rows.len(), target.len(), "one result for each coordinate");
        if rows.count() == 0 {
            for at in 0..target.len() {
                target.put(at, &[0.0]);
            }
            return Finite::All;
        }
        let all_are = match *self {
            Self::WeightedSum {
                ref weights,
                divisor,
            } => {
                tiles::run(&mean::WeightedSum { weights, divisor }, rows, target);
                // What is no number in a row that weighs something is none in the sum.
                weights.iter().all(|weight| *weight != 0.0) && target.are_numbers()
            }
            Self::Median { tolerate } => {
                median::combine(rows, tolerate, workspace.sorter(self, rows), target)
            }
            Self::TrimmedMean { tolerate } => {
                trimmed_mean::combine(rows, tolerate, workspace.sorter(self, rows), target)
            }
            Self::NearestMedian { .. }
            | Self::Phocas { .. }
            | Self::SignMajority
            | Self::Ties { .. }
            | Self::Ram { .. }
            | Self::Magmax
            | Self::Consensus { .. }
            | Self::Sce { .. } => {
                self.combine_blindly(rows, workspace, target);
                false
            }
        };
        if all_are {
            Finite::All
        } else {
            Finite::Unknown
        }
    }

    /// Merges one block by a rule that does not come to know whether all values are numbers.
    fn combine_blindly<T: Magnitude>(
        &self,
        rows: Rows<'_, T>,
        workspace: &mut Workspace<T>,
        target: &mut Target<'_>,
    ) {
        match *self {
            Self::NearestMedian { tolerate, sides } => {
                nearest_median::combine(
                    rows,
                    tolerate,
                    sides,
                    workspace.sorter(self, rows),
                    target,
                );
            }
            Self::Phocas { tolerate } => {
                phocas::combine(rows, tolerate, workspace.sorter(self, rows), target);
            }
            Self::SignMajority => tiles::run(&SignMajority, rows, target),
            Self::Ties {
                ref weights,
                ties,
                ref bounds,
            } => ties::combine(weights, ties, bounds, rows, target),
            Self::Ram { epsilon } => tiles::run(&Ram { epsilon }, rows, target),
            Self::Magmax => tiles::run(&Magmax, rows, target),
            Self::Consensus { threshold, support } => {
                tiles::run(&Consensus { threshold, support }, rows, target);
            }
            Self::Sce {
                ref weights,
                threshold,
            } => {
                tiles::run(&sce::Sce { weights, threshold }, rows, target);
            }
            Self::WeightedSum { .. } | Self::Median { .. } | Self::TrimmedMean { .. } => {}
        }
    }

    /// Memory to merge so many rows by this rule.
    pub(crate) fn workspace<T: Element>(&self, rows: usize) -> Workspace<T> {
        Workspace {
            sorter: self.ranks(rows).map(|ranks| Sorter::new(rows, ranks)),
        }
    }

    /// An upper bound of what a workspace allocates; `None` when it cannot be counted.
    pub(crate) fn workspace_bytes<T: Element>(&self, rows: usize) -> Option<usize> {
        if self.ranks(rows).is_some() {
            Sorter::<T>::bytes(rows)
        } else {
            Some(0)
        }
    }

    /// What the rule must know of the order of values, if anything.
    fn ranks(&self, rows: usize) -> Option<Ranks> {
        match self {
            Self::Median { tolerate } => Some(Ranks::Middle(median::trim(*tolerate, rows))),
            Self::TrimmedMean { tolerate } => Some(Ranks::Middle(trimmed_mean::trim(*tolerate))),
            Self::NearestMedian { .. } | Self::Phocas { .. } => Some(Ranks::All),
            Self::WeightedSum { .. }
            | Self::SignMajority
            | Self::Ties { .. }
            | Self::Ram { .. }
            | Self::Magmax
            | Self::Consensus { .. }
            | Self::Sce { .. } => None,
        }
    }
}

impl<T: Element> Workspace<T> {
    /// The sorter, which is made anew only for another number of rows.
    fn sorter(&mut self, rule: &Rule, rows: Rows<'_, T>) -> &mut Sorter<T> {
        let clients = rows.count();
        let fitting = self
            .sorter
            .take()
            .filter(|sorter| sorter.clients() == clients);
        self.sorter.insert(
            fitting
                .unwrap_or_else(|| Sorter::new(clients, rule.ranks(clients).unwrap_or(Ranks::All))),
        )
    }
}
