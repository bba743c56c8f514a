//! What merge methods are made of: the numbers of the table, and the arithmetic of whom it wants to agree with.

use fedmerge_merge::{Divide, Elect, Even, Method, Neighbours, Start, Ties};

use super::SCOPES;
use super::compat::Compat;
use super::sparsifiers::Parts;
use crate::plan::ReadPlanError;
use crate::plan::choice::Choice;
use crate::plan::document::{Document, Place};
use crate::plan::file::MergeTable;

/// What the methods are made of.
#[derive(Clone, Debug)]
pub(super) struct Parameters {
    pub(super) tolerate: usize,
    normalize: Option<bool>,
    elect: Election,
    pub(super) epsilon: Option<f64>,
    pub(super) t: Option<f64>,
    nu: Option<f64>,
    iterations: Option<usize>,
    radius: Option<f64>,
    pub(super) size: Option<usize>,
    pub(super) compat: Compat,
    pub(super) parts: Parts,
    /// Where `normalize` is written.
    pub(super) normalize_at: Option<Place>,
}

/// `elect`, before it is known whose.
#[derive(Clone, Copy, Debug)]
enum Election {
    Mass,
    Count,
}

const ELECTIONS: Choice<Election> = Choice {
    what: "elect",
    known: &[("mass", Election::Mass), ("count", Election::Count)],
    planned: &[],
};

impl Parameters {
    /// The parameters that the table sets.
    pub(super) fn of(
        table: &MergeTable,
        compat: Compat,
        document: &Document,
    ) -> Result<Self, ReadPlanError> {
        let scope = table.scope.as_ref();
        let scope = scope
            .map(|scope| SCOPES.choose(scope, document))
            .transpose()?;
        let (epsilon, normalize) = (table.epsilon.as_ref(), table.normalize.as_ref());
        let epsilon = epsilon.map(|value| *value.get_ref());
        Ok(Self {
            tolerate: table.tolerate,
            normalize: normalize.map(|value| *value.get_ref()),
            elect: ELECTIONS.choose_or(Election::Mass, table.elect.as_ref(), document)?,
            epsilon,
            t: table.t.as_ref().map(|value| *value.get_ref()),
            nu: table.nu.as_ref().map(|value| *value.get_ref()),
            iterations: table.iterations.as_ref().map(|value| *value.get_ref()),
            radius: table.radius.as_ref().map(|value| *value.get_ref()),
            size: table.size.as_ref().map(|value| *value.get_ref()),
            compat,
            parts: Parts {
                density: table.density.as_ref().map(|value| *value.get_ref()),
                epsilon,
                gamma: table.gamma.as_ref().map(|value| *value.get_ref()),
                rescale: table.rescale.as_ref().map(|value| *value.get_ref()),
                scope,
                compat,
            },
            normalize_at: normalize.map(|value| document.place(value.span())),
        })
    }

    pub(super) fn sum(&self) -> Method {
        Method::TaskArithmetic {
            normalize: self.normalize.unwrap_or(false),
        }
    }

    /// An election; `mergekit_divides` is mergekit's own default of `normalize`.
    pub(super) fn ties(&self, mergekit_divides: bool) -> Method {
        let elect = match (self.elect, self.compat) {
            (Election::Count, _) => Elect::Count,
            (Election::Mass, Compat::Peft) => Elect::PlainMass,
            (Election::Mass, Compat::Paper | Compat::Mergekit | Compat::Byzfl) => Elect::Mass,
        };
        let weights = |is_divided| match is_divided {
            true => Divide::Weights,
            false => Divide::Nothing,
        };
        let (even, divide) = match self.compat {
            Compat::Paper | Compat::Byzfl => {
                (Even::Nothing, weights(self.normalize.unwrap_or(true)))
            }
            Compat::Mergekit => (
                Even::Positive,
                weights(self.normalize.unwrap_or(mergekit_divides)),
            ),
            Compat::Peft => (Even::Positive, Divide::Count),
        };
        Method::Ties(Ties {
            elect,
            even,
            divide,
        })
    }

    pub(super) fn neighbours(&self) -> Neighbours {
        match self.compat {
            Compat::Byzfl => Neighbours::Byzfl,
            Compat::Paper | Compat::Mergekit | Compat::Peft => Neighbours::Paper,
        }
    }

    /// ByzFL's few steps from zero, or the minimum itself, which the mean is a good start for.
    pub(super) fn geometric_median(&self) -> Method {
        let (start, nu, iterations) = match self.compat {
            Compat::Byzfl => (Start::Zero, 0.1, 3),
            Compat::Paper | Compat::Mergekit | Compat::Peft => (Start::Mean, 1e-6, 1000),
        };
        Method::GeometricMedian {
            nu: self.nu.unwrap_or(nu),
            iterations: self.iterations.unwrap_or(iterations),
            start,
        }
    }

    pub(super) fn centered_clipping(&self) -> Method {
        let (radius, iterations) = match self.compat {
            Compat::Byzfl => (100.0, 1),
            Compat::Paper | Compat::Mergekit | Compat::Peft => (10.0, 3),
        };
        Method::CenteredClipping {
            radius: self.radius.unwrap_or(radius),
            iterations: self.iterations.unwrap_or(iterations),
        }
    }
}
