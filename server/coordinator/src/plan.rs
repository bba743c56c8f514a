//! The plan of a federation's rounds: sizes, times and tolerances.
//!
//! [`RoundPlan::check`] refuses a plan that could never work and shows the arithmetic. A plan is not checked again later:
//! the coordinator clamps what it must and never fails.

use crate::population::Population;
use fedmerge_common::ids::RoundNumber;
use fedmerge_common::units::Millis;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::effect::EndReason;
use crate::evaluation::{EvaluationRule, GainSummary};

/// Most clients a round may aim for: a limit on memory, far above a single server's reach.
pub const MAX_TARGET: usize = 100_000;

/// Largest factor of over-selection: more would waste most of the invited clients' work.
pub const MAX_OVER_SELECT: f64 = 10.0;

/// How many clients a round wants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cohort {
    /// Updates wanted, at least 1: the round closes when it has them.
    pub target: usize,
    /// Share of the attending clients to invite, over 0 up to 1; never fewer than `target`.
    pub fraction: f64,
    /// Invitations for each wanted update, 1 to 10: the spare ones replace clients that drop out.
    pub over_select: f64,
}

/// When a round merges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// When it has the updates of a cohort that it invited when it opened.
    #[default]
    Synchronous,
    /// When it has as many updates as it wants from whomever: a client gets a task whenever it has none, and goes on with it while
    /// rounds pass (Nguyen et al., "Federated learning with buffered asynchronous aggregation", AISTATS 2022).
    Buffered,
}

/// What becomes of an update that comes after its round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LatePolicy {
    /// It is rejected.
    #[default]
    Reject,
    /// It counts in the next round, discounted by its staleness.
    Carry,
}

/// Fewest updates in a merge: of two, each client could subtract its own and see the other's.
pub const LEAST_QUORUM: usize = 3;

/// How rounds are held.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoundPlan {
    /// Rounds to hold, abandoned ones included; 0 means until stopped.
    pub rounds: u64,
    /// Rounds after which the privacy budget is spent, whatever their number was to be; none: there is no budget.
    #[serde(default)]
    pub private_rounds: Option<u64>,
    /// How many clients a round wants.
    pub cohort: Cohort,
    /// Accepted updates needed to merge.
    pub quorum: usize,
    /// How long a round waits for updates; an evaluation for reports.
    pub deadline: Millis,
    /// How long a round waits for a client that was lost, for one that still makes progress at the deadline,
    /// and for more clients than the quorum before it opens.
    pub grace: Millis,
    /// Hostile clients the merge withstands.
    pub tolerate: usize,
    /// Of whom cohorts are samples, where that is known: it decides how much must be tolerated.
    #[serde(default)]
    pub population: Option<Population>,
    /// Seed of the choice of cohorts.
    pub seed: u64,
    /// The gate before publishing; none publishes every merge.
    pub evaluate: Option<EvaluationRule>,
    /// When a round merges.
    #[serde(default)]
    pub mode: Mode,
    /// What becomes of late updates; a buffered federation carries them always.
    #[serde(default)]
    pub late: LatePolicy,
    /// Most versions by which a round's base may be newer than the one that a late update starts from.
    #[serde(default)]
    pub max_staleness: u64,
    /// Whether fewer than [`LEAST_QUORUM`] updates may be merged.
    #[serde(default)]
    pub allow_small_quorum: bool,
}

/// Why a plan can not work.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum PlanError {
    /// A number that counts clients or time is zero.
    #[error("`{key}` is 0, it must be at least 1")]
    Zero {
        /// The key.
        key: &'static str,
    },
    /// A number is outside its range.
    #[error("`{key}` is {found}, it must be {expected}")]
    OutOfRange {
        /// The key.
        key: &'static str,
        /// What the plan says.
        found: f64,
        /// What is possible.
        expected: &'static str,
    },
    /// Rounds close before the quorum is reached.
    #[error(
        "`quorum` is {quorum}, but a round closes at its cohort's target of {target} updates: {quorum} > {target}"
    )]
    QuorumOverTarget {
        /// The quorum.
        quorum: usize,
        /// The target.
        target: usize,
    },
    /// Half of the cohort may be hostile.
    #[error(
        "`tolerate` is {tolerate}, but half of the cohort's {target} would be hostile: 2 × {tolerate} = {} >= {target}",
        .tolerate.saturating_mul(2)
    )]
    ToleranceOverCohort {
        /// Hostile clients.
        tolerate: usize,
        /// The cohort's target.
        target: usize,
    },
    /// A sampled cohort may have more hostile clients than the merge withstands.
    #[error(
        "`tolerate` is {tolerate}, but of {} clients {} may be hostile, and some cohort of {target} has more than {needed} of them with a probability over {}: {needed} must be tolerated",
        .population.clients, .population.hostile, .population.risk
    )]
    ToleranceUnderPopulation {
        /// Hostile clients that the merge withstands.
        tolerate: usize,
        /// Those that it must withstand.
        needed: usize,
        /// The cohort's target.
        target: usize,
        /// Of whom cohorts are samples.
        population: Population,
    },
    /// Cohorts are larger than all there is.
    #[error(
        "`population.clients` is {clients}, but a cohort wants {target} of them, and {hostile} hostile ones are among them"
    )]
    PopulationTooSmall {
        /// All clients.
        clients: usize,
        /// Those that may be hostile.
        hostile: usize,
        /// The cohort's target.
        target: usize,
    },
    /// Clients could see each other's updates.
    #[error(
        "`quorum` is {quorum}, but of fewer than {LEAST_QUORUM} updates a client can subtract its own and see another's: give at least {LEAST_QUORUM}, or `allow_small_quorum = true`"
    )]
    SmallQuorum {
        /// The quorum.
        quorum: usize,
    },
    /// A merge at quorum would not withstand as many hostile clients as promised.
    #[error(
        "`quorum` is {quorum}, but withstanding {tolerate} hostile clients needs 2 × {tolerate} + 1 = {} updates",
        .tolerate.saturating_mul(2).saturating_add(1)
    )]
    QuorumUnderTolerance {
        /// The quorum.
        quorum: usize,
        /// Hostile clients.
        tolerate: usize,
    },
    /// A verdict at quorum would not withstand as many lying evaluators as promised.
    #[error(
        "`quorum` is {quorum}, but leaving out the {tolerate} lowest and highest gains needs 2 × {tolerate} + 1 = {} evaluations",
        .tolerate.saturating_mul(2).saturating_add(1)
    )]
    QuorumUnderTrim {
        /// The quorum, of evaluations as of updates.
        quorum: usize,
        /// Gains left out at each end.
        tolerate: usize,
    },
}

impl RoundPlan {
    /// Refuses a plan that can not work.
    ///
    /// # Errors
    /// The first contradiction, with its arithmetic.
    pub fn check(&self) -> Result<(), PlanError> {
        self.check_ranges()?;
        let target = self.cohort.target;
        self.check_population()?;
        if self.quorum > target {
            return Err(PlanError::QuorumOverTarget {
                quorum: self.quorum,
                target,
            });
        }
        let hostile = self.tolerate.saturating_mul(2);
        if hostile >= target && self.tolerate > 0 {
            return Err(PlanError::ToleranceOverCohort {
                tolerate: self.tolerate,
                target,
            });
        }
        if self.quorum <= hostile {
            return Err(PlanError::QuorumUnderTolerance {
                quorum: self.quorum,
                tolerate: self.tolerate,
            });
        }
        if self.quorum < LEAST_QUORUM && !self.allow_small_quorum {
            return Err(PlanError::SmallQuorum {
                quorum: self.quorum,
            });
        }
        self.check_evaluation()
    }

    fn check_evaluation(&self) -> Result<(), PlanError> {
        let Some(rule) = &self.evaluate else {
            return Ok(());
        };
        range(
            rule.min_gain.is_finite(),
            "evaluate.accept.min_gain",
            rule.min_gain,
            "a finite number",
        )?;
        match rule.summary {
            GainSummary::Quantile(quantile) => range(
                (0.0..=1.0).contains(&quantile),
                "evaluate.accept.quantile",
                quantile,
                "from 0 to 1",
            ),
            GainSummary::TrimmedMean { tolerate: 0 } => Err(PlanError::Zero {
                key: "evaluate.accept.tolerate",
            }),
            GainSummary::TrimmedMean { tolerate } => {
                let quorum = self.quorum;
                if quorum <= tolerate.saturating_mul(2) {
                    return Err(PlanError::QuorumUnderTrim { quorum, tolerate });
                }
                Ok(())
            }
        }
    }

    fn check_population(&self) -> Result<(), PlanError> {
        let Some(population) = self.population else {
            return Ok(());
        };
        let Population {
            clients,
            hostile,
            risk,
        } = population;
        let target = self.cohort.target;
        range(
            clients <= MAX_TARGET,
            "population.clients",
            clients as f64,
            "at most 100000",
        )?;
        range(
            risk > 0.0 && risk < 1.0,
            "population.risk",
            risk,
            "over 0 and under 1",
        )?;
        if !population.can_give(target) {
            return Err(PlanError::PopulationTooSmall {
                clients,
                hostile,
                target,
            });
        }
        let needed = population.tolerance(target, self.rounds);
        if self.tolerate < needed {
            return Err(PlanError::ToleranceUnderPopulation {
                tolerate: self.tolerate,
                needed,
                target,
                population,
            });
        }
        Ok(())
    }

    /// Whether tasks outlive round `number`: not its last one, after which nothing would count.
    pub(crate) fn carries(&self, number: RoundNumber) -> bool {
        let carries = self.mode == Mode::Buffered || self.late == LatePolicy::Carry;
        carries && self.has_more_after(number.get())
    }

    /// Whether rounds are left to hold after so many.
    pub(crate) fn has_more_after(&self, rounds: u64) -> bool {
        (self.rounds == 0 || rounds < self.rounds) && !self.has_spent_after(rounds)
    }

    /// Whether the privacy budget is spent after so many.
    pub(crate) fn has_spent_after(&self, rounds: u64) -> bool {
        self.private_rounds.is_some_and(|most| rounds >= most)
    }

    /// Why a federation ends after so many rounds.
    pub(crate) fn end_after(&self, rounds: u64) -> EndReason {
        if self.has_spent_after(rounds) && (self.rounds == 0 || rounds < self.rounds) {
            EndReason::PrivacySpent { rounds }
        } else {
            EndReason::RoundsCompleted { rounds }
        }
    }

    fn check_ranges(&self) -> Result<(), PlanError> {
        for (key, zero) in [
            ("cohort.target", self.cohort.target == 0),
            ("quorum", self.quorum == 0),
            ("deadline", self.deadline.get() == 0),
            ("grace", self.grace.get() == 0),
        ] {
            if zero {
                return Err(PlanError::Zero { key });
            }
        }
        range(
            self.cohort.target <= MAX_TARGET,
            "cohort.target",
            self.cohort.target as f64,
            "at most 100000",
        )?;
        let fraction = self.cohort.fraction;
        range(
            fraction > 0.0 && fraction <= 1.0,
            "cohort.fraction",
            fraction,
            "over 0 and at most 1",
        )?;
        let over_select = self.cohort.over_select;
        range(
            (1.0..=MAX_OVER_SELECT).contains(&over_select),
            "cohort.over_select",
            over_select,
            "from 1 to 10",
        )?;
        Ok(())
    }
}

fn range(
    holds: bool,
    key: &'static str,
    found: f64,
    expected: &'static str,
) -> Result<(), PlanError> {
    if holds {
        Ok(())
    } else {
        Err(PlanError::OutOfRange {
            key,
            found,
            expected,
        })
    }
}
