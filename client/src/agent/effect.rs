//! What an agent wants done, in the imperative.

use fedmerge_common::ids::RoundNumber;
use fedmerge_common::reason::Decline;
use fedmerge_common::update::UpdateHeader;

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
    /// Stop whatever is being done for the task in hand.
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
