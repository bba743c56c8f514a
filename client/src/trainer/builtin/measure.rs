//! The evaluator that comes with the program: how good a classifier is on labelled examples, as one JSON line.
//!
//! Like the trainer it is a program of its own that knows nothing of the federation.

use std::path::PathBuf;

use clap::Args;
use fedmerge_common::failure::{ExitCode, Failure};
use serde_json::{Map, Value, json};

use super::mlp::Parameters;
use super::source::DataSource;
use super::train::evaluate;
use super::{bad_examples, bad_network, contract};

/// Measure a classifier of the built-in trainer on examples: its accuracy, and its mean cross-entropy in nats as `loss`.
///
/// Inside a federation the client sets FEDMERGE_BASE; by hand, use the flag. It prints one JSON line.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  fedmerge client run --dir site --train 'fedmerge client train --data digits:1/8' \\
    --evaluate 'fedmerge client evaluate --data digits:test'
  fedmerge client evaluate --data mine.safetensors --base hub/models/10/model.safetensors")]
pub struct EvaluateArguments {
    /// Examples that nobody trains on: `digits:test`, or a safetensors file with x (n × d) and y (n)
    #[arg(long, value_name = "digits[:test|:K/N]|PATH")]
    pub data: DataSource,

    /// The model to measure
    #[arg(long, env = "FEDMERGE_BASE", value_name = "PATH")]
    pub base: Option<PathBuf>,
}

/// Runs the evaluator as a program.
///
/// # Errors
/// When the examples or the model cannot be read, or do not go together.
pub fn run(arguments: &EvaluateArguments) -> Result<(), Failure> {
    contract().json(&measure(arguments)?);
    Ok(())
}

/// The line of the contract.
fn measure(arguments: &EvaluateArguments) -> Result<Value, Failure> {
    let path = arguments.base.as_deref().ok_or_else(|| {
        Failure::new(ExitCode::Usage, "neither --base nor FEDMERGE_BASE is set").with_hint(
            "`fedmerge client run --evaluate '…'` sets FEDMERGE_BASE; by hand, give --base PATH",
        )
    })?;
    let dataset = arguments.data.load();
    let dataset = dataset.map_err(|error| bad_examples(&error))?;
    let network = Parameters::read(path).map_err(|error| bad_network(&error))?;
    let found = evaluate(&network, &dataset)
        .map_err(|error| Failure::new(ExitCode::BadData, "cannot evaluate").with_source(&error))?;
    let mut metrics = Map::new();
    // JSON has no NaN and no infinity: what a destroyed model has no number for, it does not report.
    for (name, value) in [("accuracy", found.accuracy), ("loss", found.loss)] {
        if value.is_finite() {
            metrics.insert(name.to_owned(), Value::from(value));
        }
    }
    Ok(json!({ "num_examples": dataset.len(), "metrics": metrics }))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use super::*;
    use crate::trainer::builtin::mlp::Sizes;

    const SIZES: Sizes = Sizes {
        inputs: 64,
        hidden: 8,
        classes: 10,
    };

    fn measured(network: &Parameters) -> Value {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        network.write(&path).unwrap();
        let arguments = EvaluateArguments {
            data: "digits:test".parse().unwrap(),
            base: Some(path),
        };
        measure(&arguments).unwrap()
    }

    #[test]
    fn accuracy_and_loss_are_told_with_the_number_of_examples() {
        let line = measured(&Parameters::fresh(SIZES, 1));
        assert_eq!(line["num_examples"], 359);
        let accuracy = line["metrics"]["accuracy"].as_f64().unwrap();
        assert!((0.0..0.5).contains(&accuracy), "{line}");
        assert!(line["metrics"]["loss"].as_f64().unwrap() > 1.0, "{line}");
    }

    #[test]
    fn a_destroyed_model_has_an_accuracy_and_no_loss() {
        let mut network = Parameters::fresh(SIZES, 1);
        network.values[0].fill(f32::NAN);
        assert_eq!(measured(&network)["metrics"], json!({ "accuracy": 0.0 }));
    }

    #[test]
    fn without_a_model_the_user_is_told_how_to_give_one() {
        let arguments = EvaluateArguments {
            data: "digits".parse().unwrap(),
            base: None,
        };
        let failure = measure(&arguments).unwrap_err();
        assert_eq!(failure.exit, ExitCode::Usage);
        assert!(failure.hint.unwrap().contains("--evaluate"));
    }
}
