//! Ways to fine-tune a base and to measure a model: any command of the user, or those that come with the program.
//!
//! What such a program says is data, never trusted: counts, metrics and losses are checked and bounded where they are read.

pub mod builtin;
pub mod command;
pub mod evaluator;
mod group;
mod lines;
mod program;
pub mod speech;
pub mod workplace;

use std::collections::BTreeMap;

use fedmerge_common::units::Millis;

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
