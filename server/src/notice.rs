//! What a client is told: the coordinator's assignment in the words of the wire.
//!
//! A notice is the whole of what is expected of a client, never a change to an earlier one. It names no other client.

use std::collections::BTreeMap;

use fedmerge_common::ids::ModelVersion;
use fedmerge_common::rollback::Rollback;
use fedmerge_common::task_vector::Encoding;
use fedmerge_common::task_vector::encoding::Density;
use fedmerge_common::task_vector::private::LocalNoise;
use fedmerge_common::units::ByteSize;
use fedmerge_coordinator::{Assignment, EvaluationTask, Task};
use fedmerge_proto::convert::evaluation::EvaluationRequest;
use fedmerge_proto::convert::invitation::Invitation;
use fedmerge_proto::v1;
use fedmerge_proto::v1::notice::State;

use crate::plan::ByRound;

/// What the plan allows in an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Encodings, preferred first; never empty.
    pub encodings: Vec<Encoding>,
    /// Share of the values that sparse ones keep.
    pub density: Density,
    /// Largest payload.
    pub max_update: ByteSize,
    /// Noise that clients add to their updates.
    pub noise: Option<LocalNoise>,
}

/// An assignment as a client hears it; an invitation offers what the plan of its round allows, and proves that a base which is an older
/// model again is to be one.
#[must_use]
pub fn notice(
    offers: &ByRound<Offer>,
    rollbacks: &BTreeMap<ModelVersion, Rollback>,
    assignment: Assignment,
) -> v1::Notice {
    let state = match assignment {
        Assignment::Standby {
            waiting_for,
            last_round,
        } => State::Standby(v1::Standby {
            waiting_for,
            last_round,
        }),
        Assignment::Invited(task) => {
            let offer = offers.of(task.round);
            let rollback = rollbacks.get(&task.base.version).cloned();
            State::Invitation(offer.invitation(task, rollback).into())
        }
        Assignment::Ended { reason, last } => State::Ended(v1::FederationEnded {
            reason: reason.to_string(),
            last: Some(last.into()),
        }),
    };
    v1::Notice { state: Some(state) }
}

/// A request to compare a candidate with its base, as a client hears it.
#[must_use]
pub fn evaluation(task: EvaluationTask) -> v1::Notice {
    let request = EvaluationRequest {
        round: task.round,
        base: task.base,
        candidate: task.candidate,
        metric: task.metric,
        deadline: task.deadline,
    };
    v1::Notice {
        state: Some(State::Evaluation(request.into())),
    }
}

impl Offer {
    fn invitation(&self, task: Task, rollback: Option<Rollback>) -> Invitation {
        Invitation {
            round: task.round,
            base: task.base,
            deadline: task.deadline,
            encodings: self.encodings.clone(),
            density: self.density,
            max_update: self.max_update,
            rollback,
            noise: self.noise,
            endorsement: None,
        }
    }
}
