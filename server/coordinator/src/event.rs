//! What can happen to a federation, in the past tense.
//!
//! Events are facts the shell reports in the order it learnt them. Any event may come late, twice, or for a round that never was:
//! the coordinator answers or ignores it, but never fails.

use std::collections::BTreeMap;

use fedmerge_common::digest::Digest;
use fedmerge_common::ids::{ClientId, ModelVersion, RoundNumber};
use fedmerge_common::reason::{Decline, Rejection};
use fedmerge_common::update::ModelRef;
use serde::{Deserialize, Serialize};

/// An update that passed intake, by reference: the bytes stay with the shell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateRef {
    /// Digest of the payload.
    pub payload: Digest,
    /// Training examples, as the client declared them.
    pub num_examples: u64,
    /// Size of the payload, bytes.
    pub bytes: u64,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A client took its place; said again after a reconnect.
    ClientArrived {
        /// Who.
        client: ClientId,
    },
    /// A client's connection is gone.
    ClientLeft {
        /// Who.
        client: ClientId,
    },
    /// A client showed that it still works on its task: training goes on, or bytes arrive.
    ProgressReported {
        /// Who.
        client: ClientId,
        /// The round of the task.
        round: RoundNumber,
    },
    /// Intake found an update sound; whether it counts is decided here.
    UpdateValidated {
        /// Who sent it.
        client: ClientId,
        /// The round it is for.
        round: RoundNumber,
        /// The update.
        update: UpdateRef,
    },
    /// Intake refused an update.
    UpdateRejected {
        /// Who sent it.
        client: ClientId,
        /// The round it is for.
        round: RoundNumber,
        /// Why.
        rejection: Rejection,
    },
    /// A client gave its invitation back.
    ClientDeclined {
        /// Who.
        client: ClientId,
        /// The round of the invitation.
        round: RoundNumber,
        /// Why.
        decline: Decline,
    },
    /// The merge produced a candidate for the next base.
    MergeFinished {
        /// The round.
        round: RoundNumber,
        /// The candidate, stored but not published.
        candidate: ModelRef,
    },
    /// The merge found accepted updates gone or damaged; the others were not merged.
    UpdatesLost {
        /// The round.
        round: RoundNumber,
        /// Whose, and what was found.
        lost: BTreeMap<ClientId, String>,
    },
    /// The merge could not be completed.
    MergeFailed {
        /// The round.
        round: RoundNumber,
        /// What happened.
        detail: String,
    },
    /// A client measured the base and the candidate on its own held-out data.
    EvaluationReported {
        /// Who.
        client: ClientId,
        /// The round.
        round: RoundNumber,
        /// The metric with the base.
        before: f64,
        /// The metric with the candidate.
        after: f64,
        /// Held-out examples, as the client declared them; 0 where it did not say.
        num_examples: u64,
    },
    /// A client gave the request to evaluate back.
    EvaluationDeclined {
        /// Who.
        client: ClientId,
        /// The round.
        round: RoundNumber,
        /// Why.
        decline: Decline,
    },
    /// The candidate is the base now: a durable fact.
    ModelPublished {
        /// The round.
        round: RoundNumber,
        /// The new base.
        model: ModelRef,
    },
    /// The candidate could not be made the base.
    PublishFailed {
        /// The round.
        round: RoundNumber,
        /// What happened.
        detail: String,
    },
    /// A person wants an older model to be the base again.
    RollbackAsked {
        /// The older model: published and still stored.
        to: ModelRef,
        /// Why, as the person says; one line.
        reason: String,
        /// A version that clients know: the new one is higher. That of the base, unless the server was set back by a backup.
        above: ModelVersion,
    },
    /// The content of an older model is the base now: a durable fact.
    RolledBack {
        /// The new version of it.
        model: ModelRef,
    },
    /// The content of an older model could not be made the base.
    RollbackFailed {
        /// The version that it would have become.
        model: ModelRef,
        /// What happened.
        detail: String,
    },
    /// Nothing happened but time; due at [`crate::Coordinator::wake_at`].
    TimePassed,
    /// A person ended the federation.
    Stopped,
}
