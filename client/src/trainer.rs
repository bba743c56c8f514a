//! Ways to fine-tune a base: any command of the user, or the trainer that comes with the program.
//!
//! What a trainer says is data, never trusted: counts, metrics and losses are checked and bounded where they are read.

pub mod builtin;
pub mod command;
mod group;
mod lines;
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

/// A sign of life from a trainer at work.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// Share of the work that is done, 0 to 1.
    pub done: f64,
    /// The last loss, where the trainer said one.
    pub loss: Option<f64>,
}
