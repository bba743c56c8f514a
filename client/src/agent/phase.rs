//! Where an agent is in its task or its evaluation, and what of the task that makes worth remembering.
//!
//! An evaluation leaves nothing to remember: the server asks for it again.

use fedmerge_common::digest::Digest;
use fedmerge_common::ids::RoundNumber;
use fedmerge_common::update::UpdateHeader;
use fedmerge_proto::convert::evaluation::EvaluationRequest;

use super::memory::Memory;
use crate::task::{Notice, Task};
use crate::trainer::Trained;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Phase {
    Idle,
    Downloading {
        task: Task,
        /// Present when an earlier process has finished the training.
        trained: Option<Trained>,
    },
    Training(Task),
    Preparing(Task, Trained),
    Sending(UpdateHeader),
    /// The server decides; a notice that comes meanwhile waits, so that the decision is not missed.
    Committing {
        header: UpdateHeader,
        next: Option<Notice>,
    },
    /// The server is asked what became of an update that an earlier process had ready; the newest notice waits.
    Asking {
        header: UpdateHeader,
        next: Notice,
    },
    /// A model of the request is being measured.
    Evaluating(EvaluationRequest),
    Left,
}

impl Phase {
    /// Round and base of the task in hand, if any.
    pub(super) fn task(&self) -> Option<(RoundNumber, Digest)> {
        match self {
            Self::Idle | Self::Evaluating(_) | Self::Left => None,
            Self::Downloading { task, .. } | Self::Training(task) | Self::Preparing(task, _) => {
                Some((task.round, task.base.digest))
            }
            Self::Sending(header)
            | Self::Committing { header, .. }
            | Self::Asking { header, .. } => Some((header.round, header.base)),
        }
    }

    /// What is finished of it.
    pub(super) fn memory(&self) -> Option<Memory> {
        match self {
            Self::Downloading {
                task,
                trained: Some(trained),
            }
            | Self::Preparing(task, trained) => Some(Memory::Trained {
                round: task.round,
                base: task.base.digest,
                trained: trained.clone(),
            }),
            Self::Sending(header)
            | Self::Committing { header, .. }
            | Self::Asking { header, .. } => Some(Memory::Prepared(header.clone())),
            Self::Idle
            | Self::Downloading { trained: None, .. }
            | Self::Training(_)
            | Self::Evaluating(_)
            | Self::Left => None,
        }
    }

    /// The evaluation in hand, where it is that of the round.
    pub(super) fn evaluation(&self, round: RoundNumber) -> Option<&EvaluationRequest> {
        match self {
            Self::Evaluating(request) => Some(request).filter(|request| request.round == round),
            Self::Idle
            | Self::Downloading { .. }
            | Self::Training(_)
            | Self::Preparing(..)
            | Self::Sending(_)
            | Self::Committing { .. }
            | Self::Asking { .. }
            | Self::Left => None,
        }
    }

    /// Whether a notice asks for what is in hand already.
    pub(super) fn is_about(&self, notice: &Notice) -> bool {
        match notice {
            Notice::Invited(task) => self.task() == Some((task.round, task.base.digest)),
            Notice::Evaluate(request) => self
                .evaluation(request.round)
                .is_some_and(|ours| ours.candidate == request.candidate),
            Notice::Standby { .. } | Notice::Ended { .. } => false,
        }
    }
}
