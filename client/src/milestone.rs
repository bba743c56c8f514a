//! What `client run` tells its user: one calm line a step, the same as one JSON object a step.
//!
//! The text is for people and may change; the JSON (`event` in kebab-case, and the fields below) is a contract.

use std::fmt;

use fedmerge_common::ids::{ModelVersion, RoundNumber};
use fedmerge_common::reason::{Decline, Rejection};
use fedmerge_common::units::{ByteSize, Millis};
use fedmerge_common::update::ModelRef;
use serde::Serialize;

/// A step worth a line.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Milestone {
    /// The federation waits, and for what.
    Waiting {
        /// One line.
        waiting_for: String,
    },
    /// A round this client knows of came to an end.
    LastRound {
        /// One line.
        outcome: String,
    },
    /// The round goes on where an earlier process ended.
    Resumed {
        /// The round.
        round: RoundNumber,
        /// What need not be done again.
        step: Step,
    },
    /// What an earlier process had finished is of no use any more.
    Forgotten {
        /// The round it was for.
        round: RoundNumber,
        /// Why, one line.
        reason: &'static str,
    },
    /// The base is an older model again; the federation's authority says so.
    RolledBack {
        /// The version of the base.
        base: ModelVersion,
        /// The older version.
        of: ModelVersion,
        /// Why, one line.
        reason: String,
    },
    /// The base of a round is here.
    Base {
        /// The round.
        round: RoundNumber,
        /// The base.
        base: ModelRef,
    },
    /// The trainer ended well.
    Trained {
        /// The round.
        round: RoundNumber,
        /// Training examples the update will claim.
        num_examples: u64,
        /// The trainer's loss, where it said one.
        loss: Option<f64>,
        /// How long it ran, milliseconds.
        elapsed_ms: u64,
    },
    /// The trainer never says how many examples it used.
    ExamplesUnknown,
    /// What the encodings of earlier rounds lost is not made up for any more.
    ResidualDropped {
        /// The round.
        round: RoundNumber,
        /// Why, one line.
        reason: &'static str,
    },
    /// The update counts.
    Accepted {
        /// The round.
        round: RoundNumber,
    },
    /// The update does not count.
    Rejected {
        /// The round.
        round: RoundNumber,
        /// Why.
        rejection: Rejection,
    },
    /// This client gave its invitation back.
    Declined {
        /// The round.
        round: RoundNumber,
        /// Why.
        decline: Decline,
    },
    /// The server does not wait for this client's update any more.
    Withdrawn {
        /// The round.
        round: RoundNumber,
    },
    /// A candidate was compared with its base.
    Evaluated {
        /// The round.
        round: RoundNumber,
        /// The version that the candidate would have.
        candidate: ModelVersion,
        /// The metric that the plan looks at.
        metric: String,
        /// The metric of the base.
        before: f64,
        /// The metric of the candidate.
        after: f64,
        /// Examples it was measured on; 0 when the evaluator did not say.
        num_examples: u64,
    },
    /// This client does not evaluate the round's candidate.
    EvaluationDeclined {
        /// The round.
        round: RoundNumber,
        /// Why.
        decline: Decline,
    },
    /// The server does not wait for this client's evaluation any more.
    EvaluationOver {
        /// The round.
        round: RoundNumber,
    },
    /// The federation is over.
    Ended {
        /// One line.
        reason: String,
        /// The last model, where there is one.
        last: Option<ModelRef>,
    },
}

/// A step of a task that an earlier process has finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// The training.
    Training,
    /// The update, ready to be sent.
    Update,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Training => "the training that was finished",
            Self::Update => "the update that was ready",
        })
    }
}

impl fmt::Display for Milestone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting { waiting_for } => write!(f, "waiting: {waiting_for}"),
            Self::LastRound { outcome } => write!(f, "{outcome}"),
            Self::Resumed { round, step } => write!(f, "round {round}: goes on with {step} before"),
            Self::Forgotten { round, reason } => {
                write!(
                    f,
                    "round {round}: what was finished before is dropped: {reason}"
                )
            }
            Self::RolledBack { base, of, reason } => {
                write!(f, "model {base} is model {of} again: {reason}")
            }
            Self::Base { round, base } => write!(f, "round {round}: base {}", new_base(base)),
            Self::Trained {
                round,
                num_examples,
                loss,
                elapsed_ms,
            } => {
                let loss = loss.map_or(String::new(), |loss| format!(", loss {loss:.2}"));
                let span = Millis::new(*elapsed_ms).approximate();
                let on = examples(*num_examples);
                write!(f, "round {round}: trained in {span}{on}{loss}")
            }
            Self::ExamplesUnknown => write!(
                f,
                "the trainer printed no {{\"num_examples\": …}} line; its updates count as one example"
            ),
            Self::ResidualDropped { round, reason } => write!(
                f,
                "round {round}: what the encoding of earlier updates lost is dropped: {reason}"
            ),
            Self::Accepted { round } => told(f, *round, "accepted"),
            Self::Rejected { round, rejection } => write!(
                f,
                "round {round}: rejected ({}): {}",
                rejection.code, rejection.detail
            ),
            Self::Declined { round, decline } => write!(
                f,
                "round {round}: declined ({}): {}",
                decline.kind, decline.detail
            ),
            Self::Withdrawn { round } => told(f, *round, "over before this client's update was in"),
            Self::Evaluated {
                round,
                candidate,
                metric,
                before,
                after,
                num_examples,
            } => {
                let on = examples(*num_examples);
                let values = format!("{metric} {before:.3} → {after:.3}{on}");
                write!(f, "round {round}: evaluated model {candidate}: {values}")
            }
            Self::EvaluationDeclined { round, decline } => write!(
                f,
                "round {round}: the merged model is not evaluated here ({}): {}",
                decline.kind, decline.detail
            ),
            Self::EvaluationOver { round } => told(
                f,
                *round,
                "over before this client had evaluated the merged model",
            ),
            Self::Ended { reason, last } => ended(f, reason, last.as_ref()),
        }
    }
}

fn told(f: &mut fmt::Formatter<'_>, round: RoundNumber, what: &str) -> fmt::Result {
    write!(f, "round {round}: {what}")
}

fn ended(f: &mut fmt::Formatter<'_>, reason: &str, last: Option<&ModelRef>) -> fmt::Result {
    let last = last.map(last_base).unwrap_or_default();
    write!(f, "the federation ended: {reason}{last}")
}

/// ` on 36 examples`; nothing where their number is not known.
fn examples(count: u64) -> String {
    match count {
        0 => String::new(),
        1 => " on 1 example".to_owned(),
        count => format!(" on {count} examples"),
    }
}

fn new_base(base: &ModelRef) -> String {
    let size = ByteSize::new(base.size_bytes);
    format!("{} (blake3:{}…, {size})", base.version, base.digest.short())
}

fn last_base(last: &ModelRef) -> String {
    format!(
        "; last base {} (blake3:{}…)",
        last.version,
        last.digest.short()
    )
}
