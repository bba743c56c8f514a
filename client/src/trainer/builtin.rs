//! The trainer that comes with the program: a small classifier on labelled examples, for `simulate` and a first try.
//!
//! It is a program like any other trainer: it gets `FEDMERGE_BASE`, `FEDMERGE_OUT` and `FEDMERGE_ROUND`, writes the
//! fine-tuned checkpoint and prints JSON lines. It runs as a process of its own and knows nothing of the federation.

pub mod dataset;
pub mod digits;
pub mod measure;
pub mod mlp;
pub mod source;
pub mod train;

use std::path::{Path, PathBuf};

use clap::Args;
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::output::{Output, OutputFormat};
use serde_json::json;

use dataset::{Dataset, LoadDatasetError};
use mlp::{HIDDEN_UNITS, NetworkError, Parameters, Sizes};
use source::DataSource;
use train::Schedule;

/// Train the built-in classifier on a base model, or write a fresh base or the examples.
///
/// Inside a federation the client sets FEDMERGE_BASE, FEDMERGE_OUT and FEDMERGE_ROUND; by hand, use the flags.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  fedmerge client train --init base.safetensors --seed 7
  fedmerge client run --dir site --train 'fedmerge client train --data digits:1/8'
  fedmerge client train --data digits:1/8 --export ward-1.safetensors
  fedmerge client train --data mine.safetensors --base base.safetensors --out tuned.safetensors")]
pub struct TrainArguments {
    /// Examples: `digits`, the K-th of N parts of it as `digits:K/N`, or a safetensors file with x (n × d) and y (n)
    #[arg(
        long,
        value_name = "digits[:K/N]|PATH",
        required_unless_present = "init"
    )]
    pub data: Option<DataSource>,

    /// Write a fresh base model here and train nothing
    #[arg(long, value_name = "OUT", conflicts_with_all = ["base", "out"])]
    pub init: Option<PathBuf>,

    /// Write the examples here as x (n × d, F32) and y (n, I64), for trainers of your own, and train nothing
    #[arg(long, value_name = "PATH", conflicts_with_all = ["init", "base", "out"])]
    pub export: Option<PathBuf>,

    /// Units of the hidden layer of a fresh base
    #[arg(long, value_name = "N", default_value_t = HIDDEN_UNITS, requires = "init")]
    pub hidden: usize,

    /// Batches to train on
    #[arg(long, value_name = "N", default_value_t = Schedule::default().steps)]
    pub local_steps: usize,

    /// Examples in a batch
    #[arg(long, value_name = "N", default_value_t = Schedule::default().batch)]
    pub batch: usize,

    /// Step size
    #[arg(long, value_name = "RATE", default_value_t = Schedule::default().learning_rate)]
    pub learning_rate: f64,

    /// Share of the last step that goes on, 0 to below 1
    #[arg(long, value_name = "SHARE", default_value_t = Schedule::default().momentum)]
    pub momentum: f64,

    /// Fixes the order of the examples, or the fresh weights
    #[arg(long, default_value_t = 0)]
    pub seed: u64,

    /// The model to start from
    #[arg(long, env = "FEDMERGE_BASE", value_name = "PATH")]
    pub base: Option<PathBuf>,

    /// Where to write the fine-tuned model
    #[arg(long, env = "FEDMERGE_OUT", value_name = "PATH")]
    pub out: Option<PathBuf>,

    /// The round this is for; with the seed it fixes the order of the examples
    #[arg(long, env = "FEDMERGE_ROUND", default_value_t = 0)]
    pub round: u64,
}

/// What went into a training and what came out.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The base.
    pub before: Parameters,
    /// The fine-tuned network.
    pub after: Parameters,
    /// Examples trained on.
    pub num_examples: usize,
    /// Mean loss of the last tenth of the steps.
    pub loss: f64,
}

/// Runs the trainer as a program: `--init`, `--export`, or base in and fine-tuned checkpoint out.
///
/// # Errors
/// When a file cannot be read or written, or the examples do not fit the model.
pub fn run(arguments: &TrainArguments, output: &Output) -> Result<(), Failure> {
    if let Some(target) = &arguments.init {
        return initialise(arguments, target, output);
    }
    let dataset = load(arguments)?;
    if let Some(target) = &arguments.export {
        return export(&dataset, target, output);
    }
    let outcome = fine_tune(arguments, &dataset)?;
    submit(
        arguments,
        &outcome.after,
        outcome.num_examples as u64,
        outcome.loss,
    )
}

/// Reads the examples of `--data`.
///
/// # Errors
/// When there are none.
pub fn load(arguments: &TrainArguments) -> Result<Dataset, Failure> {
    let source = arguments.data.as_ref().ok_or_else(|| {
        Failure::new(ExitCode::Usage, "no examples to train on")
            .with_hint("give --data digits:1/8 or --data PATH")
    })?;
    source.load().map_err(|error| bad_examples(&error))
}

/// Reads the base model.
///
/// # Errors
/// When none is given or it cannot be read.
pub fn base(arguments: &TrainArguments) -> Result<Parameters, Failure> {
    let path = required(arguments.base.as_deref(), "--base", "FEDMERGE_BASE")?;
    Parameters::read(path).map_err(|error| bad_network(&error))
}

/// Trains on examples, telling the progress on standard output.
///
/// # Errors
/// When a setting makes no sense, the base cannot be read, or the examples do not fit it.
pub fn fine_tune(arguments: &TrainArguments, dataset: &Dataset) -> Result<Outcome, Failure> {
    let schedule = schedule(arguments)?;
    let before = base(arguments)?;
    let contract = contract();
    let tell = |done: f64, loss: f64| contract.json(&json!({ "progress": done, "loss": loss }));
    let (after, loss) = train::train(&before, dataset, &schedule, tell)
        .map_err(|error| Failure::new(ExitCode::BadData, "cannot train").with_source(&error))?;
    Ok(Outcome {
        before,
        after,
        num_examples: dataset.len(),
        loss,
    })
}

/// Writes the fine-tuned network and says how many examples it saw.
///
/// # Errors
/// When the file cannot be written.
pub fn submit(
    arguments: &TrainArguments,
    network: &Parameters,
    num_examples: u64,
    loss: f64,
) -> Result<(), Failure> {
    let out = required(arguments.out.as_deref(), "--out", "FEDMERGE_OUT")?;
    network.write(out).map_err(|error| bad_network(&error))?;
    contract().json(&json!({ "num_examples": num_examples, "metrics": { "loss": loss } }));
    Ok(())
}

fn initialise(arguments: &TrainArguments, target: &Path, output: &Output) -> Result<(), Failure> {
    const DIGITS: (usize, usize) = (64, 10);
    let (inputs, classes) = match &arguments.data {
        Some(_) => load(arguments).map(|data| (data.inputs(), data.classes()))?,
        None => DIGITS,
    };
    if arguments.hidden == 0 {
        return Err(Failure::new(
            ExitCode::Usage,
            "a network needs hidden units: --hidden is 0",
        ));
    }
    let network = Parameters::fresh(
        Sizes {
            inputs,
            hidden: arguments.hidden,
            classes,
        },
        arguments.seed,
    );
    let written = network.write(target).map_err(|error| bad_network(&error))?;
    output.line(format_args!(
        "wrote {} ({inputs}-{}-{classes}, {})",
        target.display(),
        arguments.hidden,
        written.digest
    ));
    output.json(&json!({ "path": target, "digest": written.digest, "bytes": written.bytes }));
    Ok(())
}

fn export(dataset: &Dataset, target: &Path, output: &Output) -> Result<(), Failure> {
    let (examples, inputs, classes) = (dataset.len(), dataset.inputs(), dataset.classes());
    dataset
        .write(target)
        .map_err(|error| bad_examples(&error))?;
    output.line(format_args!(
        "wrote {} ({examples} examples of {inputs} values, {classes} classes)",
        target.display()
    ));
    output.json(
        &json!({ "path": target, "examples": examples, "inputs": inputs, "classes": classes }),
    );
    Ok(())
}

fn schedule(arguments: &TrainArguments) -> Result<Schedule, Failure> {
    let refuse = |message: String| Err(Failure::new(ExitCode::Usage, message));
    if !(arguments.learning_rate.is_finite() && arguments.learning_rate > 0.0) {
        return refuse(format!(
            "--learning-rate {} must be above 0",
            arguments.learning_rate
        ));
    }
    if !(0.0..1.0).contains(&arguments.momentum) {
        return refuse(format!(
            "--momentum {} must be from 0 to below 1",
            arguments.momentum
        ));
    }
    if arguments.batch == 0 {
        return refuse("--batch 0 must be at least 1".to_owned());
    }
    Ok(Schedule {
        steps: arguments.local_steps,
        batch: arguments.batch,
        learning_rate: arguments.learning_rate,
        momentum: arguments.momentum,
        seed: arguments.seed,
        round: arguments.round,
    })
}

fn required<'a>(path: Option<&'a Path>, flag: &str, variable: &str) -> Result<&'a Path, Failure> {
    path.ok_or_else(|| {
        Failure::new(
            ExitCode::Usage,
            format!("neither {flag} nor {variable} is set"),
        )
        .with_hint(format!(
            "`fedmerge client run --train '…'` sets {variable}; by hand, give {flag} PATH"
        ))
    })
}

fn bad_examples(error: &LoadDatasetError) -> Failure {
    match error {
        LoadDatasetError::Write { .. } => {
            Failure::new(ExitCode::Unavailable, "cannot write the examples")
        }
        LoadDatasetError::Read { .. }
        | LoadDatasetError::Missing { .. }
        | LoadDatasetError::Unfit { .. }
        | LoadDatasetError::Example { .. }
        | LoadDatasetError::Empty => Failure::new(ExitCode::BadData, "cannot load the examples"),
    }
    .with_source(error)
}

fn bad_network(error: &NetworkError) -> Failure {
    Failure::new(ExitCode::BadData, "cannot use the model").with_source(error)
}

/// The lines of a trainer are JSON whatever format its caller reads.
fn contract() -> Output {
    Output {
        format: OutputFormat::Json,
        quiet: false,
        verbosity: 0,
    }
}

#[cfg(test)]
mod tests;
