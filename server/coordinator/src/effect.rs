//! What the shell must do, in the imperative.
//!
//! Every effect is idempotent: performed twice it changes nothing more, so it can be repeated after a crash.
//! The shell stores the coordinator's record before it performs the effects of a step, in their order.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use fedmerge_common::ids::{ClientId, ModelVersion, RoundNumber};
use fedmerge_common::reason::Rejection;
use fedmerge_common::units::Timestamp;
use fedmerge_common::update::ModelRef;
use serde::{Deserialize, Serialize};

use crate::evaluation::Score;
use crate::event::UpdateRef;
use crate::summary::RoundSummary;

/// What an invited client is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The round the update is for.
    pub round: RoundNumber,
    /// The model to start from.
    pub base: ModelRef,
    /// When the round stops waiting for a client that shows no progress.
    pub deadline: Timestamp,
}

/// What an evaluating client is to do: measure both models on its own held-out data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvaluationTask {
    /// The round that produced the candidate.
    pub round: RoundNumber,
    /// The present base.
    pub base: ModelRef,
    /// The model that may become the next base.
    pub candidate: ModelRef,
    /// The metric that the plan looks at, by the name that evaluators give it.
    pub metric: String,
    /// When reports are no longer waited for.
    pub deadline: Timestamp,
}

/// An older model that becomes the base again, as a new version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollback {
    /// The new base: the next version, with the content of the older one.
    pub model: ModelRef,
    /// The older version.
    pub of: ModelVersion,
    /// Why, as the person who asked for it said; one line.
    pub reason: String,
}

/// Why an invitation ended without an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WithdrawReason {
    /// The deadline passed and the client showed no recent progress.
    DeadlinePassed,
    /// The client lost its connection and did not come back in time.
    Absent,
    /// Other clients' updates were enough.
    EnoughUpdates,
    /// So many clients failed that the quorum could not be reached any more.
    QuorumOutOfReach,
    /// Its update would be based on a model older than the plan allows.
    TooStale,
    /// An older model became the base again.
    RolledBack,
    /// The federation is over.
    Ended,
    /// The federation was stopped.
    Stopped,
}

impl fmt::Display for WithdrawReason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::DeadlinePassed => "no update before the deadline",
            Self::Absent => "connection lost and not back in time",
            Self::EnoughUpdates => "the round had enough updates without it",
            Self::QuorumOutOfReach => "the quorum could not be reached any more",
            Self::TooStale => "its base is older than the plan allows",
            Self::RolledBack => "an older model became the base again",
            Self::Ended => "the federation is over",
            Self::Stopped => "the federation was stopped",
        })
    }
}

/// An accepted update, and how a merge counts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// The update.
    pub update: UpdateRef,
    /// The round whose task it answers.
    pub round: RoundNumber,
    /// By how many versions the merge's base is newer than the one it starts from.
    pub staleness: u64,
}

impl Counted {
    /// By what its task vector is multiplied: `1/√(1 + s)` at staleness `s` (Nguyen et al., "Federated learning with buffered
    /// asynchronous aggregation", AISTATS 2022).
    pub fn discount(&self) -> f64 {
        (1.0 + self.staleness as f64).sqrt().recip()
    }
}

/// Why a federation is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum EndReason {
    /// The plan's number of rounds has been held.
    RoundsCompleted {
        /// That number, abandoned rounds included.
        rounds: u64,
    },
    /// Another round would cost more privacy than the plan's budget.
    PrivacySpent {
        /// Rounds held, abandoned ones included.
        rounds: u64,
    },
    /// A person stopped it.
    Stopped,
}

impl fmt::Display for EndReason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RoundsCompleted { rounds: 1 } => out.write_str("the planned round is completed"),
            Self::RoundsCompleted { rounds } => {
                write!(out, "all {rounds} planned rounds are completed")
            }
            Self::PrivacySpent { rounds } => {
                write!(out, "the privacy budget is spent after {rounds} rounds")
            }
            Self::Stopped => out.write_str("the federation was stopped"),
        }
    }
}

/// Something the shell must do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Tell a client its task.
    Invite {
        /// Who.
        client: ClientId,
        /// What to do.
        task: Task,
    },
    /// Tell a client that its task is over.
    Withdraw {
        /// Who.
        client: ClientId,
        /// The round of the task.
        round: RoundNumber,
        /// Why.
        reason: WithdrawReason,
    },
    /// Answer an upload: the update counts.
    AcceptUpdate {
        /// Who sent it.
        client: ClientId,
        /// The round it is for.
        round: RoundNumber,
    },
    /// Answer an upload: the update does not count.
    RejectUpdate {
        /// Who sent it.
        client: ClientId,
        /// The round it is for.
        round: RoundNumber,
        /// Why.
        rejection: Rejection,
    },
    /// Merge these updates into a candidate; answered by `MergeFinished` or `MergeFailed`.
    StartMerge {
        /// The round.
        round: RoundNumber,
        /// The model the updates start from.
        base: ModelRef,
        /// The accepted updates by client.
        updates: BTreeMap<ClientId, Counted>,
    },
    /// Ask clients to compare base and candidate; each answers with `EvaluationReported` or `EvaluationDeclined`.
    RequestEvaluations {
        /// What to do.
        task: EvaluationTask,
        /// Who: those that have not reported yet.
        clients: BTreeSet<ClientId>,
    },
    /// Make the candidate the base, durably; answered by `ModelPublished` or `PublishFailed`.
    Publish {
        /// The round.
        round: RoundNumber,
        /// The new base.
        candidate: ModelRef,
        /// How good it is, as far as clients measured it.
        score: Option<Score>,
    },
    /// Keep the story of a round that is over.
    CloseRound {
        /// The story.
        summary: RoundSummary,
        /// Uploads and updates from this round on may still count: those of earlier rounds need not be kept.
        needed_from: RoundNumber,
        /// The oldest base that a task under way starts from: those before it serve none.
        oldest_base: ModelVersion,
    },
    /// Publish an older model's content as the new base, durably; answered by `RolledBack` or `RollbackFailed`.
    RollBack(Rollback),
    /// Answer the person who asked for a rollback last: there will be none.
    RefuseRollback {
        /// Why.
        detail: String,
    },
    /// Answer whoever asked for the rollback that is over.
    AnswerRollback {
        /// The new base, or why there is none.
        outcome: Result<ModelRef, String>,
    },
    /// The federation is over: tell everyone.
    EndFederation {
        /// Why.
        reason: EndReason,
        /// The last base.
        last: ModelRef,
    },
}
