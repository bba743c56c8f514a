//! Why a plan cannot be used, and what to do about it.

use std::path::PathBuf;

use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_coordinator::PlanError;
use fedmerge_merge::RecipeError;

use super::document::{Place, ReadDocumentError};

/// Why a plan cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadPlanError {
    /// The file cannot be read or understood.
    #[error(transparent)]
    Document(#[from] ReadDocumentError),
    /// A name is not one of those that a key may have.
    #[error("{place}: unknown {what} `{name}`")]
    UnknownName {
        /// Where.
        place: Place,
        /// What the name should be a name of.
        what: &'static str,
        /// The name.
        name: String,
        /// What was probably meant.
        hint: String,
    },
    /// A key without a default is absent.
    #[error("{place}: `{key}` is missing")]
    MissingKey {
        /// Where.
        place: Place,
        /// The key.
        key: &'static str,
        /// A line that has it.
        example: &'static str,
    },
    /// A key has no meaning beside the chosen name.
    #[error(
        "{place}: `{key}` is a key of {}, and the {what} is {name}",
        in_a_row(owners)
    )]
    ForeignKey {
        /// Where.
        place: Place,
        /// The key.
        key: &'static str,
        /// What was chosen: a merge method, a stage, an optimizer.
        what: &'static str,
        /// Which.
        name: String,
        /// Those that have the key.
        owners: Vec<&'static str>,
    },
    /// A value is of the right type and still impossible.
    #[error("{place}: `{key}` {fault}")]
    Value {
        /// Where.
        place: Place,
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// A metric that is most likely better when it falls, and nothing says so.
    #[error(
        "{place}: `{metric}` looks like a metric that is better when it falls, and no `goal` says so"
    )]
    UndirectedMetric {
        /// Where.
        place: Place,
        /// The metric.
        metric: String,
    },
    /// Not one merge fits into the privacy budget.
    #[error("{place}: one merge alone costs ε = {cost:.3}, more than the budget of {budget}")]
    Budget {
        /// Where.
        place: Place,
        /// ε of one merge.
        cost: f64,
        /// The budget.
        budget: f64,
        /// The noise with which one merge costs the budget.
        noise: f64,
    },
    /// The rounds cannot work.
    #[error("{}: no round can work like this", path.display())]
    Rounds {
        /// The file.
        path: PathBuf,
        /// The arithmetic.
        #[source]
        source: PlanError,
    },
    /// The merge cannot work.
    #[error("{}: no merge can work like this", path.display())]
    Merge {
        /// The file.
        path: PathBuf,
        /// The arithmetic.
        #[source]
        source: RecipeError,
    },
}

impl From<ReadPlanError> for Failure {
    fn from(error: ReadPlanError) -> Self {
        let failure = Self::from_error(ExitCode::BadConfiguration, &error);
        match error {
            ReadPlanError::Document(error) => error.into(),
            ReadPlanError::UnknownName { hint, .. } => failure.with_hint(hint),
            ReadPlanError::MissingKey { example, .. } => {
                failure.with_hint(format!("write {example}"))
            }
            ReadPlanError::ForeignKey {
                key, what, owners, ..
            } => {
                let named_by = if what == "rule" { "rule" } else { "method" };
                failure.with_hint(match owners.as_slice() {
                    [owner] => format!("remove `{key}`, or write {named_by} = \"{owner}\""),
                    _ => format!("remove `{key}`, or choose a method that has it"),
                })
            }
            ReadPlanError::UndirectedMetric { .. } => failure.with_hint(
                "write goal = \"min\" in [evaluate] if less is better, goal = \"max\" if more is",
            ),
            ReadPlanError::Rounds { source, .. } => match way_out(&source) {
                Some(hint) => failure.with_hint(hint),
                None => failure,
            },
            ReadPlanError::Merge {
                source: RecipeError::Tolerate { .. } | RecipeError::TooFew { .. },
                ..
            } => failure.with_hint(
                "raise `quorum` in [round], with which a merge must be possible, or lower `tolerate` in [merge]",
            ),
            ReadPlanError::Budget { noise, .. } => failure.with_hint(format!(
                "one merge needs noise = {noise:.2}, and T merges √T times as much: see `fedmerge privacy --help`"
            )),
            ReadPlanError::Value { .. } | ReadPlanError::Merge { .. } => failure,
        }
    }
}

/// Names as a sentence has them: `a, b and c`.
fn in_a_row(names: &[&str]) -> String {
    match names {
        [before @ .., last] if !before.is_empty() => format!("{} and {last}", before.join(", ")),
        _ => names.concat(),
    }
}

/// Which numbers to change when they contradict each other.
fn way_out(error: &PlanError) -> Option<&'static str> {
    match error {
        PlanError::QuorumOverTarget { .. } => {
            Some("lower `quorum`, or raise `target` of the cohort, in [round]")
        }
        PlanError::ToleranceOverCohort { .. } => {
            Some("lower `tolerate` in [merge], or raise `target` of the cohort in [round]")
        }
        PlanError::QuorumUnderTolerance { .. } => {
            Some("raise `quorum` in [round], or lower `tolerate` in [merge]")
        }
        PlanError::ToleranceUnderPopulation { .. } => Some(
            "leave `tolerate` out of [merge], which then follows from `population`; raise `target` where that is too much for it",
        ),
        PlanError::PopulationTooSmall { .. } => {
            Some("count all clients that may be sampled in `clients` of `population`, in [round]")
        }
        PlanError::QuorumUnderTrim { .. } => {
            Some("raise `quorum` in [round], or lower `tolerate` of `accept` in [evaluate]")
        }
        PlanError::SmallQuorum { .. } | PlanError::Zero { .. } | PlanError::OutOfRange { .. } => {
            None
        }
    }
}
