//! Whether a recipe can be run with so many clients: every number in its range, every bound with its arithmetic, no two stages that
//! contradict each other.

use super::{
    Adaptive, Before, ClipNorm, Method, Neighbours, Optimizer, OptimizerRule, Recipe, Rescale,
    Scope, Sparsify, SparsifyRule,
};

/// Why a recipe cannot be run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RecipeError {
    /// There is nothing to merge.
    #[error("a merge needs at least 1 client, and there are 0")]
    NoClients,
    /// The stage could be outvoted.
    #[error(
        "{stage} with tolerate = {tolerate} needs at least {needed} {of}, and there are {clients}: tolerate may be at most {most} here"
    )]
    Tolerate {
        /// The method or stage.
        stage: &'static str,
        /// What was asked for.
        tolerate: usize,
        /// The bound, as a formula and its value: `2f + 1 = 5`.
        needed: String,
        /// What is counted: clients, or the groups that bucketing leaves.
        of: &'static str,
        /// How many there are.
        clients: usize,
        /// What would be possible.
        most: usize,
    },
    /// The stage cannot work with so few, whatever it tolerates.
    #[error("{stage} needs at least {needed} {of}, and there are {clients}")]
    TooFew {
        /// The method or stage.
        stage: &'static str,
        /// The least.
        needed: usize,
        /// What is counted: clients, or the groups that bucketing leaves.
        of: &'static str,
        /// How many there are.
        clients: usize,
    },
    /// A number is outside its range.
    #[error("{key} = {value} is not possible: {meaning}")]
    Number {
        /// Its name.
        key: &'static str,
        /// What was asked for.
        value: f64,
        /// Its range, and what it means.
        meaning: &'static str,
    },
    /// Two stages contradict each other.
    #[error("{first} and {second} cannot be combined: {reason}")]
    Combination {
        /// The one.
        first: &'static str,
        /// The other.
        second: &'static str,
        /// Why not.
        reason: &'static str,
    },
}

const DENSITY: &str = "it is the share of values that is kept, in (0, 1]";

impl Recipe {
    /// Whether the recipe can be run with so many clients.
    ///
    /// # Errors
    /// The first stage that cannot, with the arithmetic.
    pub fn check(&self, clients: usize) -> Result<(), RecipeError> {
        if clients == 0 {
            return Err(RecipeError::NoClients);
        }
        within("lambda", self.lambda, "it must be finite", f64::is_finite)?;
        let mut voters = Voters {
            count: clients,
            of: "clients",
        };
        for stage in &self.before {
            stage.check(voters)?;
            if let Before::Bucketing { size } = *stage {
                voters = Voters {
                    count: voters.count.div_ceil(size),
                    of: "groups",
                };
            }
        }
        if let Some(sparsify) = &self.sparsify {
            sparsify.check()?;
        }
        self.method.check(voters)?;
        if let Some(optimizer) = &self.optimizer {
            optimizer.check()?;
        }
        self.check_combinations()
    }

    fn check_combinations(&self) -> Result<(), RecipeError> {
        let refuse = |first, second, reason| {
            Err(RecipeError::Combination {
                first,
                second,
                reason,
            })
        };
        let mixes =
            |stage: &&Before| matches!(stage, Before::Nnm { .. } | Before::Bucketing { .. });
        let mixing = self.before.iter().find(mixes).map(Before::name);
        let method = self.method.name();
        if let Some(stage) = mixing {
            if let Some(sparsify) = &self.sparsify {
                return refuse(
                    stage,
                    sparsify.rule.name(),
                    "what is dropped is decided for each client's own task vector, and mixing brings it back",
                );
            }
            if self.method.needs_trusted() {
                return refuse(
                    stage,
                    method,
                    "after mixing there is no trusted task vector any more",
                );
            }
        }
        if let Method::Sce { .. } = self.method {
            if let Some(stage) = self.before.first() {
                return refuse(
                    stage.name(),
                    method,
                    "it weighs task vectors by the energy that the stage would change",
                );
            }
            if let Some(sparsify) = &self.sparsify {
                return refuse(
                    sparsify.rule.name(),
                    method,
                    "it chooses by itself what is kept",
                );
            }
        }
        let is_adaptive = |stage: &Before| {
            matches!(
                stage,
                Before::Clip {
                    norm: ClipNorm::Adaptive { .. }
                }
            )
        };
        let adaptive = self
            .before
            .iter()
            .filter(|stage| is_adaptive(stage))
            .count();
        if adaptive > 1 {
            return refuse("clip", "clip", "a lineage of models has one adaptive limit");
        }
        if adaptive == 1 && self.scope == Scope::Tensor {
            return refuse(
                "clip",
                "scope = \"tensor\"",
                "the adaptive limit is one length, of the whole model",
            );
        }
        Ok(())
    }
}

/// Those whose votes a stage counts.
#[derive(Clone, Copy)]
struct Voters {
    count: usize,
    of: &'static str,
}

impl Voters {
    /// Refuses a rule that scores by neighbours unless each has one, also where nobody is hostile.
    fn suffice_for_krum(
        self,
        rule: &'static str,
        tolerate: usize,
        neighbours: Neighbours,
    ) -> Result<(), RecipeError> {
        match neighbours {
            Neighbours::Paper => self.suffice(rule, tolerate, 2, 3),
            Neighbours::Byzfl => {
                self.suffice(rule, 0, 1, 2)?;
                self.suffice(rule, tolerate, 2, 1)
            }
        }
    }

    /// Refuses a stage unless there are `factor * tolerate + more` of them.
    fn suffice(
        self,
        stage: &'static str,
        tolerate: usize,
        factor: usize,
        more: usize,
    ) -> Result<(), RecipeError> {
        let needed = tolerate.saturating_mul(factor).saturating_add(more);
        if self.count >= needed {
            return Ok(());
        }
        let Some(spare) = self.count.checked_sub(more) else {
            return Err(RecipeError::TooFew {
                stage,
                needed: more,
                of: self.of,
                clients: self.count,
            });
        };
        Err(RecipeError::Tolerate {
            stage,
            tolerate,
            needed: format!("{factor} × {tolerate} + {more} = {needed}"),
            of: self.of,
            clients: self.count,
            most: spare / factor,
        })
    }
}

fn within(
    key: &'static str,
    value: f64,
    meaning: &'static str,
    is_allowed: impl Fn(f64) -> bool,
) -> Result<(), RecipeError> {
    if is_allowed(value) {
        Ok(())
    } else {
        Err(RecipeError::Number {
            key,
            value,
            meaning,
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "only 0 is refused")]
fn at_least_one(key: &'static str, value: usize) -> Result<(), RecipeError> {
    within(key, value as f64, "it must be at least 1", |_| value > 0)
}

fn is_share(value: f64) -> bool {
    value > 0.0 && value <= 1.0
}

fn is_positive(value: f64) -> bool {
    value.is_finite() && value > 0.0
}

fn lasts(value: f64) -> bool {
    (0.0..1.0).contains(&value)
}

impl Before {
    fn check(&self, voters: Voters) -> Result<(), RecipeError> {
        let length = |value| {
            within(
                "norm",
                value,
                "it is a length: positive and finite",
                is_positive,
            )
        };
        match *self {
            Self::Clip { norm } => match norm {
                ClipNorm::Fixed(length_)
                | ClipNorm::Adaptive {
                    start: Some(length_),
                } => length(length_),
                ClipNorm::Median | ClipNorm::Adaptive { start: None } => Ok(()),
            },
            Self::Arc { tolerate } | Self::Nnm { tolerate } => {
                voters.suffice(self.name(), tolerate, 2, 1)
            }
            Self::Bucketing { size } => at_least_one("size", size),
        }
    }
}

impl Sparsify {
    fn check(&self) -> Result<(), RecipeError> {
        match self.rule {
            SparsifyRule::Trim { density } | SparsifyRule::Dare { density } => {
                within("density", density, DENSITY, is_share)
            }
            SparsifyRule::Della { density, epsilon } => {
                within("density", density, DENSITY, is_share)?;
                within(
                    "epsilon",
                    epsilon,
                    "density - epsilon and density + epsilon are probabilities, in (0, 1)",
                    |epsilon| {
                        density >= 1.0 && epsilon >= 0.0
                            || epsilon >= 0.0 && density - epsilon > 0.0 && density + epsilon < 1.0
                    },
                )
            }
            SparsifyRule::Breadcrumbs { density, gamma } => {
                within("density", density, DENSITY, is_share)?;
                within(
                    "gamma",
                    gamma,
                    "it is the share of the largest values that is dropped, in [0, 1)",
                    lasts,
                )
            }
        }?;
        match (self.rule, self.rescale) {
            (
                SparsifyRule::Trim { .. } | SparsifyRule::Breadcrumbs { .. },
                Rescale::Probability,
            ) => Err(RecipeError::Combination {
                first: self.rule.name(),
                second: "rescale by probability",
                reason: "what it keeps is not left to chance",
            }),
            (
                SparsifyRule::Trim { .. }
                | SparsifyRule::Breadcrumbs { .. }
                | SparsifyRule::Dare { .. }
                | SparsifyRule::Della { .. },
                _,
            ) => Ok(()),
        }
    }
}

impl Method {
    fn check(&self, voters: Voters) -> Result<(), RecipeError> {
        let name = self.name();
        match *self {
            Self::Mean
            | Self::SignMajority
            | Self::TaskArithmetic { .. }
            | Self::Ties(_)
            | Self::Magmax
            | Self::Flame => Ok(()),
            Self::Median { tolerate }
            | Self::TrimmedMean { tolerate }
            | Self::Meamed { tolerate }
            | Self::Phocas { tolerate }
            | Self::Mda { tolerate }
            | Self::Caf { tolerate }
            | Self::Monna { tolerate } => voters.suffice(name, tolerate, 2, 1),
            Self::Dnc { tolerate, drop } => {
                within("drop", drop, "it must be positive and finite", is_positive)?;
                voters.suffice(name, tolerate, 2, 1)
            }
            Self::Krum {
                tolerate,
                neighbours,
            } => voters.suffice_for_krum(name, tolerate, neighbours),
            Self::MultiKrum {
                tolerate,
                neighbours,
                selected,
            } => {
                selected.map_or(Ok(()), |selected| at_least_one("size", selected))?;
                voters.suffice_for_krum(name, tolerate, neighbours)
            }
            Self::Bulyan { tolerate, .. } => voters.suffice(name, tolerate, 4, 3),
            Self::Sce { density } => within("density", density, DENSITY, is_share),
            Self::Ram { epsilon } => within(
                "epsilon",
                epsilon,
                "it is a magnitude: finite and at least 0",
                |epsilon| epsilon.is_finite() && epsilon >= 0.0,
            ),
            Self::Consensus { threshold, support } => {
                within("t", threshold, "it must be finite and at least 0", |t| {
                    t.is_finite() && t >= 0.0
                })?;
                at_least_one("size", support)
            }
            Self::GeometricMedian { nu, iterations, .. } => {
                within(
                    "nu",
                    nu,
                    "it is a distance: positive and finite",
                    is_positive,
                )?;
                at_least_one("iterations", iterations)
            }
            Self::CenteredClipping { radius, iterations } => {
                within(
                    "radius",
                    radius,
                    "it is a length: positive and finite",
                    is_positive,
                )?;
                at_least_one("iterations", iterations)
            }
            Self::Fltrust => voters.suffice(name, 0, 1, 2),
        }
    }
}

impl Optimizer {
    fn check(&self) -> Result<(), RecipeError> {
        const LASTS: &str = "it is the share that lasts, in [0, 1)";
        within(
            "learning_rate",
            self.learning_rate,
            "it must be positive and finite",
            is_positive,
        )?;
        match self.rule {
            OptimizerRule::Momentum { beta } | OptimizerRule::Nesterov { beta } => {
                within("beta", beta, LASTS, lasts)
            }
            OptimizerRule::Adam(adaptive)
            | OptimizerRule::Yogi(adaptive)
            | OptimizerRule::Adagrad(adaptive) => {
                let Adaptive {
                    beta1,
                    beta2,
                    epsilon,
                } = adaptive;
                within("beta1", beta1, LASTS, lasts)?;
                within("beta2", beta2, LASTS, lasts)?;
                within(
                    "epsilon",
                    epsilon,
                    "it must be positive and finite",
                    is_positive,
                )
            }
        }
    }
}

#[cfg(test)]
mod tests;
