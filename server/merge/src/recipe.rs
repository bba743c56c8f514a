//! The stages of one merge, as data: what is done to task vectors before they meet, and by which rule they meet.
//!
//! A recipe is checked against the number of clients once, when a plan is made from it; what the engine then runs cannot be wrong.
//! Refusals carry their arithmetic, because a person will read them.
//! Parsing of files and defaults that depend on a federation live with the caller.

/// How base and task vectors become a new model: `base + lambda * method(before(task vectors))`.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// Stages that weigh or bound whole task vectors, in the order in which they are applied.
    pub before: Vec<Before>,
    /// The rule that makes one task vector of many.
    pub method: Method,
    /// Scale of the merged task vector, 1 as a rule; a negative one subtracts it.
    pub lambda: f64,
}

/// A stage that acts on whole task vectors before they are merged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Before {
    /// Shortens every task vector that is longer than a limit to that limit, keeping its direction.
    Clip {
        /// The limit.
        norm: ClipNorm,
    },
}

/// The Euclidean length, over the whole model, to which task vectors are clipped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ClipNorm {
    /// This length: positive and finite.
    Fixed(f64),
    /// The median of the clients' lengths in this merge.
    Median,
}

/// A coordinate-wise merge rule; each is documented, with its paper, in its own file under `method`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// Mean weighted by the clients' weights.
    Mean,
    /// Median of each coordinate; ignores weights.
    Median,
    /// Mean of each coordinate without its lowest and highest values; ignores weights.
    TrimmedMean {
        /// How many clients may be hostile: so many values are dropped at either end.
        tolerate: usize,
    },
    /// Sum of task vectors, with weights scaled to an average of 1.
    TaskArithmetic {
        /// Divide by the sum of weights, which makes it the weighted mean.
        normalize: bool,
    },
    /// Trim, elect a sign for each coordinate, average those who agree.
    Ties {
        /// Share of the values of each task vector that survives the trim: in (0, 1].
        density: f64,
        /// The set of values among which magnitudes are ranked.
        scope: TrimScope,
        /// How the sign of a coordinate is elected.
        elect: Elect,
    },
}

/// The set of values of one client among which the trim ranks magnitudes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrimScope {
    /// Each tensor by itself, as in mergekit and PEFT.
    Tensor,
    /// The whole task vector, as in the code of the TIES paper.
    Model,
}

/// How the sign of a coordinate is elected from the trimmed values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elect {
    /// By the weighted sum of values: the larger mass wins. One client with large values can decide.
    Mass,
    /// By the number of clients on either side: every client has one vote.
    Count,
}

/// Why a recipe cannot be run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RecipeError {
    /// There is nothing to merge.
    #[error("a merge needs at least 1 client, and there are 0")]
    NoClients,
    /// The trimmed mean would have nothing left.
    #[error(
        "tolerate = {tolerate} drops 2 × {tolerate} = {} of {clients} values, and at least 1 must remain: \
         tolerate may be at most {} here",
        tolerate.saturating_mul(2),
        clients.saturating_sub(1) / 2
    )]
    TolerateTooLarge {
        /// What was asked for.
        tolerate: usize,
        /// How many clients there are.
        clients: usize,
    },
    /// The density is no share.
    #[error("density = {density} is not in (0, 1]: it is the share of values that is kept")]
    Density {
        /// What was asked for.
        density: f64,
    },
    /// The scale is no number.
    #[error("lambda = {lambda} is not finite")]
    Lambda {
        /// What was asked for.
        lambda: f64,
    },
    /// The limit of a clip is no length.
    #[error("clip to norm = {norm} is not possible: it must be positive and finite")]
    ClipNorm {
        /// What was asked for.
        norm: f64,
    },
}

impl Method {
    /// The names of all methods, as users write them, in the order of the documentation.
    pub const NAMES: &'static [&'static str] =
        &["mean", "median", "trimmed-mean", "task-arithmetic", "ties"];

    /// The name, as users write it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Median => "median",
            Self::TrimmedMean { .. } => "trimmed-mean",
            Self::TaskArithmetic { .. } => "task-arithmetic",
            Self::Ties { .. } => "ties",
        }
    }

    /// Whether the clients' weights have a say.
    ///
    /// Median and trimmed mean are bounds against clients that lie, and an example count is a claim of the client:
    /// weighting by it would give a liar as many votes as it cares to claim, and void the bound.
    pub fn is_weighted(&self) -> bool {
        match self {
            Self::Mean | Self::TaskArithmetic { .. } | Self::Ties { .. } => true,
            Self::Median | Self::TrimmedMean { .. } => false,
        }
    }
}

impl Before {
    /// The names of all stages, as users write them.
    pub const NAMES: &'static [&'static str] = &["clip"];

    fn check(&self) -> Result<(), RecipeError> {
        match *self {
            Self::Clip {
                norm: ClipNorm::Fixed(norm),
            } if !(norm.is_finite() && norm > 0.0) => Err(RecipeError::ClipNorm { norm }),
            Self::Clip { .. } => Ok(()),
        }
    }
}

impl Recipe {
    /// The plain recipe of a method: nothing before it, and lambda 1.
    pub fn of(method: Method) -> Self {
        Self {
            before: Vec::new(),
            method,
            lambda: 1.0,
        }
    }

    /// Whether the recipe can be run with so many clients.
    ///
    /// # Errors
    /// The first stage that cannot, with the arithmetic.
    pub fn check(&self, clients: usize) -> Result<(), RecipeError> {
        if clients == 0 {
            return Err(RecipeError::NoClients);
        }
        if !self.lambda.is_finite() {
            return Err(RecipeError::Lambda {
                lambda: self.lambda,
            });
        }
        self.before.iter().try_for_each(Before::check)?;
        match self.method {
            Method::TrimmedMean { tolerate } if tolerate >= clients.div_ceil(2) => {
                Err(RecipeError::TolerateTooLarge { tolerate, clients })
            }
            Method::Ties { density, .. } if !(density > 0.0 && density <= 1.0) => {
                Err(RecipeError::Density { density })
            }
            Method::Mean
            | Method::Median
            | Method::TrimmedMean { .. }
            | Method::TaskArithmetic { .. }
            | Method::Ties { .. } => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerate_is_refused_with_the_arithmetic_as_soon_as_nothing_would_remain() {
        let recipe = |tolerate| Recipe::of(Method::TrimmedMean { tolerate });
        assert_eq!(recipe(2).check(5), Ok(()));
        assert_eq!(recipe(0).check(1), Ok(()));
        let refusal = recipe(2).check(4).expect_err("2 × 2 = 4");
        assert_eq!(
            refusal.to_string(),
            "tolerate = 2 drops 2 × 2 = 4 of 4 values, and at least 1 must remain: tolerate may be at most 1 here"
        );
        assert!(recipe(usize::MAX).check(4).is_err());
    }

    #[test]
    fn numbers_without_meaning_are_refused() {
        for density in [0.0, -0.1, 1.000_1, f64::NAN, f64::INFINITY] {
            let method = Method::Ties {
                density,
                scope: TrimScope::Tensor,
                elect: Elect::Mass,
            };
            assert!(
                matches!(
                    Recipe::of(method).check(3),
                    Err(RecipeError::Density { .. })
                ),
                "{density}"
            );
        }
        for norm in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let before = vec![Before::Clip {
                norm: ClipNorm::Fixed(norm),
            }];
            assert!(
                Recipe {
                    before,
                    ..Recipe::of(Method::Mean)
                }
                .check(3)
                .is_err(),
                "{norm}"
            );
        }
        assert!(
            Recipe {
                lambda: f64::NAN,
                ..Recipe::of(Method::Mean)
            }
            .check(3)
            .is_err()
        );
        assert_eq!(
            Recipe::of(Method::Mean).check(0),
            Err(RecipeError::NoClients)
        );
    }

    #[test]
    fn every_method_has_its_name_in_the_list() {
        let methods = [
            Method::Mean,
            Method::Median,
            Method::TrimmedMean { tolerate: 1 },
            Method::TaskArithmetic { normalize: false },
            Method::Ties {
                density: 0.2,
                scope: TrimScope::Model,
                elect: Elect::Count,
            },
        ];
        assert_eq!(methods.map(|method| method.name()), Method::NAMES);
    }
}
