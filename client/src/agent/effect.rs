//! What an agent wants done, in the imperative.

use fedmerge_common::ids::RoundNumber;
use fedmerge_common::reason::Decline;
use fedmerge_common::update::{ModelRef, UpdateHeader};
use fedmerge_proto::convert::evaluation::{EvaluationReport, EvaluationRequest};

use crate::milestone::Milestone;
use crate::task::Task;
use crate::trainer::Trained;

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Get the task's base into the cache.
    Download(Task),
    /// Run the trainer on the base.
    Train(Task),
    /// Turn the fine-tuned checkpoint into an update on disk.
    Prepare(Task, Trained),
    /// Send the update and have it decided.
    Upload(UpdateHeader),
    /// Get a model of the request into the cache and run the evaluator on it.
    Measure(EvaluationRequest, ModelRef),
    /// Tell the server what came of an evaluation.
    Report(EvaluationReport),
    /// Stop whatever is being done for the task or the evaluation in hand.
    Abort,
    /// Give the invitation back.
    Decline {
        /// The round.
        round: RoundNumber,
        /// Why.
        decline: Decline,
    },
    /// Tell the user.
    Tell(Milestone),
    /// End the program, well.
    Leave,
}
