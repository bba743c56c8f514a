//! Runs the user's program that measures a model on data of the site that nobody trains on.
//!
//! The contract is that of a trainer without `FEDMERGE_OUT`: `FEDMERGE_BASE` is the model to measure. Whatever the program does
//! ends in a [`Measurement`] or in a [`Decline`] that says what happened.

use fedmerge_common::reason::Decline;
use fedmerge_common::units::Millis;
use tokio::sync::watch;

use super::program::{Role, Run};
use super::workplace::EvaluationPlace;
use super::{Measurement, Progress};

/// A user's evaluating command.
#[derive(Clone, Debug)]
pub struct EvaluatorCommand {
    /// What `sh -c` runs.
    pub command: String,
    /// Longest run.
    pub time_limit: Millis,
}

impl EvaluatorCommand {
    /// Runs the command on one model to its end.
    ///
    /// # Errors
    /// The decline for an evaluator that cannot start, fails, runs too long or says what cannot be true.
    pub async fn run(&self, place: &EvaluationPlace) -> Result<Measurement, Decline> {
        let run = Run {
            role: Role::Evaluator,
            command: &self.command,
            time_limit: self.time_limit,
            environment: vec![
                ("FEDMERGE_BASE", place.model.clone().into()),
                ("FEDMERGE_ROUND", place.round.to_string().into()),
                ("FEDMERGE_CONFIG", place.config.clone().into()),
            ],
            log: &place.log,
        };
        let (unheard, _nobody) = watch::channel(Progress::default());
        let (speech, _elapsed) = run.complete(&unheard).await?;
        Ok(Measurement {
            num_examples: speech.num_examples,
            metrics: speech.into_metrics(),
        })
    }
}

#[cfg(test)]
mod tests;
