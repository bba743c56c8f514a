//! The straight line, first step: runs the user's program on the base and obtains a fine-tuned checkpoint.
//!
//! Whatever the program does ends in [`Trained`] or in a [`Decline`] that says what happened: a bad trainer costs a round, never
//! the client. The checkpoint itself is judged by `submission`, not here.

use fedmerge_common::reason::Decline;
use fedmerge_common::units::Millis;
use tokio::sync::watch;

use super::program::{Role, Run};
use super::workplace::Workplace;
use super::{Progress, Trained};

/// A user's training command.
#[derive(Clone, Debug)]
pub struct TrainerCommand {
    /// What `sh -c` runs.
    pub command: String,
    /// Longest run.
    pub time_limit: Millis,
}

impl TrainerCommand {
    /// Runs the command to its end; signs of life go to `progress`.
    ///
    /// # Errors
    /// The decline for a trainer that cannot start, fails, runs too long or says what cannot be true.
    pub async fn run(
        &self,
        place: &Workplace,
        progress: &watch::Sender<Progress>,
    ) -> Result<Trained, Decline> {
        let run = Run {
            role: Role::Trainer,
            command: &self.command,
            time_limit: self.time_limit,
            environment: vec![
                ("FEDMERGE_BASE", place.base.clone().into()),
                ("FEDMERGE_OUT", place.out.clone().into()),
                ("FEDMERGE_ROUND", place.round.to_string().into()),
                ("FEDMERGE_CONFIG", place.config.clone().into()),
            ],
            log: &place.log,
        };
        let (speech, elapsed) = run.complete(progress).await?;
        Ok(Trained {
            num_examples: speech.num_examples,
            metrics: speech.into_metrics(),
            elapsed,
        })
    }
}

#[cfg(test)]
mod tests;
