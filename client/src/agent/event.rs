//! What happens to an agent, in the past tense.

use fedmerge_common::digest::Digest;
use fedmerge_common::ids::RoundNumber;
use fedmerge_common::reason::{Decline, Rejection};

use crate::submission::Prepared;
use crate::task::Notice;
use crate::trainer::{Measurement, Trained};

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The server said what it expects.
    NoticeReceived(Notice),
    /// The stream of notices broke off; it will come back by itself.
    LinkLost,
    /// The base of a round is in the cache, verified.
    BaseDownloaded {
        /// The round.
        round: RoundNumber,
    },
    /// The trainer ended well.
    TrainingFinished {
        /// The round.
        round: RoundNumber,
        /// What it said.
        trained: Trained,
    },
    /// The update is on disk, ready to leave.
    UpdatePrepared(Prepared),
    /// Every byte of the update is durable on the server.
    UpdateSent {
        /// The round.
        round: RoundNumber,
    },
    /// The server decided about the update.
    UpdateAnswered {
        /// The round.
        round: RoundNumber,
        /// Its decision.
        answer: Answer,
    },
    /// A step of the task failed for good.
    TaskFailed {
        /// The round.
        round: RoundNumber,
        /// Why, as the server will hear it.
        decline: Decline,
    },
    /// The evaluator ended well.
    ModelMeasured {
        /// The round whose candidate is evaluated.
        round: RoundNumber,
        /// The model.
        digest: Digest,
        /// What it said.
        measurement: Measurement,
    },
    /// A model cannot be had or measured.
    EvaluationFailed {
        /// The round whose candidate is evaluated.
        round: RoundNumber,
        /// Why, as the server will hear it.
        decline: Decline,
    },
    /// A person asked the client to stop.
    StopAsked,
}

/// The server's decision about an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It counts.
    Accepted,
    /// It does not count.
    Rejected(Rejection),
}
