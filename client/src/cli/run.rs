//! `fedmerge client run`.

use std::path::PathBuf;

use clap::Args;
use fedmerge_common::failure::Failure;
use fedmerge_common::output::Output;
use fedmerge_common::units::Millis;

use crate::agent::Stay;
use crate::driver::{self, Listener};
use crate::member::{Member, Part};
use crate::settings::ClientDirectory;
use crate::telemetry;
use crate::trainer::command::TrainerCommand;
use crate::trainer::evaluator::EvaluatorCommand;
use crate::trainer::{Evaluator, Trainer};

pub(super) const EXAMPLES: &str = "\
Examples:
  fedmerge client run --dir ward-3 --train 'python train.py --data ward-3.csv'
  fedmerge client run --dir ward-3 --train 'python train.py --data ward-3.csv' \\
    --evaluate 'python evaluate.py --data ward-3-held-out.csv'

The command gets FEDMERGE_BASE, FEDMERGE_OUT, FEDMERGE_ROUND and FEDMERGE_CONFIG, reads the base,
writes the fine-tuned checkpoint, and may print JSON lines such as
{\"progress\":0.4,\"loss\":0.31} and
{\"num_examples\":1280,\"metrics\":{\"accuracy\":0.9}}.

Where the plan has an [evaluate] table, the other command gets a merged model as FEDMERGE_BASE
before it is published, and prints the second of these lines.";

/// What `client run` takes.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// The client's directory, as enrolled
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// Command that fine-tunes a base, run by `sh -c`
    #[arg(long, value_name = "COMMAND")]
    pub train: String,
    /// Longest run of the command before it is killed and the round declined
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    pub train_timeout: Millis,
    /// Command that measures a model on data of this site that nobody trains on, run by `sh -c`
    #[arg(long, value_name = "COMMAND")]
    pub evaluate: Option<String>,
    /// Longest run of that command on one model before it is killed and the evaluation declined
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "1h",
        requires = "evaluate"
    )]
    pub evaluate_timeout: Millis,
    /// Leave after one update, however it ends, and evaluate nothing
    #[arg(long, conflicts_with = "stay")]
    pub once: bool,
    /// Stay when the federation ends, in case it goes on
    #[arg(long)]
    pub stay: bool,
    /// How long to wait for another process with the same certificate to leave
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    pub identity_wait: Millis,
}

pub(super) fn run(arguments: RunArguments, output: &Output) -> Result<(), Failure> {
    let directory = ClientDirectory::new(arguments.dir);
    let stay = match (arguments.once, arguments.stay) {
        (true, _) => Stay::OneRound,
        (false, true) => Stay::Always,
        (false, false) => Stay::WhileItLasts,
    };
    let part = Part {
        trainer: Trainer::Command(TrainerCommand {
            command: arguments.train,
            time_limit: arguments.train_timeout,
        }),
        evaluator: arguments.evaluate.map(|command| {
            Evaluator::Command(EvaluatorCommand {
                command,
                time_limit: arguments.evaluate_timeout,
            })
        }),
        stay,
        identity_wait: arguments.identity_wait,
    };
    let member = Member::open(&directory, part, *output)?;
    telemetry::start(&directory, output)?;
    super::block_on(async {
        let stop = driver::asked_to_stop()?;
        member.take_part(stop, Listener::nobody()).await
    })
}
