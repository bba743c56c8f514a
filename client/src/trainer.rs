//! Ways to fine-tune a base and to measure a model: any command of the user, or those that come with the program.
//!
//! A site that `fedmerge client run` serves has commands, always; no command line leads to anything else. [`Trainer::Function`] and
//! [`Evaluator::Function`] are for whoever holds clients in a process of his own: a script in Python that is its own client, or
//! a thousand of them that put a server under load.
//!
//! What such a program says is data, never trusted: counts, metrics and losses are checked and bounded where they are read.

#[cfg(feature = "program")]
pub mod builtin;
pub mod command;
pub mod evaluator;
mod group;
mod lines;
mod program;
pub mod speech;
pub mod workplace;

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use fedmerge_common::reason::Decline;
use fedmerge_common::units::Millis;
use tokio::sync::watch;

use command::TrainerCommand;
use evaluator::EvaluatorCommand;
use workplace::{EvaluationPlace, Workplace};

/// A fine-tuning under way: dropped, it stops.
pub type Training = Pin<Box<dyn Future<Output = Result<Trained, Decline>> + Send>>;

/// A measurement under way: dropped, it stops.
pub type Measuring = Pin<Box<dyn Future<Output = Result<Measurement, Decline>> + Send>>;

/// How a base is fine-tuned.
#[derive(Clone)]
pub enum Trainer {
    /// By the user's program.
    Command(TrainerCommand),
    /// In this process: writes the checkpoint where the workplace says, and tells its progress.
    Function(Arc<dyn Fn(Workplace, watch::Sender<Progress>) -> Training + Send + Sync>),
}

impl fmt::Debug for Trainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(command) => command.fmt(f),
            Self::Function(_) => f.write_str("Function"),
        }
    }
}

impl Trainer {
    /// Fine-tunes the base of `place` to the end; signs of life go to `progress`.
    ///
    /// # Errors
    /// The decline for a trainer that failed.
    pub async fn run(
        &self,
        place: &Workplace,
        progress: &watch::Sender<Progress>,
    ) -> Result<Trained, Decline> {
        match self {
            Self::Command(command) => command.run(place, progress).await,
            Self::Function(train) => train(place.clone(), progress.clone()).await,
        }
    }
}

/// How a model is measured.
#[derive(Clone)]
pub enum Evaluator {
    /// By the user's program.
    Command(EvaluatorCommand),
    /// In this process.
    Function(Arc<dyn Fn(EvaluationPlace) -> Measuring + Send + Sync>),
}

impl fmt::Debug for Evaluator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(command) => command.fmt(f),
            Self::Function(_) => f.write_str("Function"),
        }
    }
}

impl Evaluator {
    /// Measures the model of `place`.
    ///
    /// # Errors
    /// The decline for an evaluator that failed.
    pub async fn run(&self, place: &EvaluationPlace) -> Result<Measurement, Decline> {
        match self {
            Self::Command(command) => command.run(place).await,
            Self::Function(measure) => measure(place.clone()).await,
        }
    }
}

/// What a trainer that ended well said about its work.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// Training examples used, at least 1; absent when the trainer did not say.
    pub num_examples: Option<u64>,
    /// The trainer's metrics by name; the last loss it printed is `loss` unless it says otherwise.
    pub metrics: BTreeMap<String, f64>,
    /// How long it ran.
    pub elapsed: Millis,
}

/// What an evaluator that ended well said about a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    /// Examples that it measured on, at least 1; absent when it did not say.
    pub num_examples: Option<u64>,
    /// Its metrics by name.
    pub metrics: BTreeMap<String, f64>,
}

/// A sign of life from a trainer at work.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// Share of the work that is done, 0 to 1.
    pub done: f64,
    /// The last loss, where the trainer said one.
    pub loss: Option<f64>,
}
