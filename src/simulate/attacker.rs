//! The programs of a client that lies: a trainer that trains like the others and then hands in something else, and an
//! evaluator that praises every merge.
//!
//! They are programs for `fedmerge client run`, so a lie goes through the whole wire like any update and any report.

use std::path::PathBuf;

use clap::Args;
use fedmerge_client::trainer::builtin::mlp::Parameters;
use fedmerge_client::trainer::builtin::source::DataSource;
use fedmerge_client::trainer::builtin::{self, Outcome, TrainArguments};
use fedmerge_common::digest::Digest;
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::ids::ModelVersion;
use fedmerge_common::output::{Output, OutputFormat};
use rand::{SeedableRng, rngs::ChaCha8Rng};
use serde::Deserialize;

use super::attack::forge::{Crowd, forge};
use super::attack::poison::poisoned;
use super::attack::{Attack, CLAIMED_EXAMPLES};

/// Arguments of the lying trainer: the attack, what it knows of the others, then the arguments of the built-in trainer.
#[derive(Args, Clone, Debug)]
pub(crate) struct AttackArguments {
    /// What to hand in
    #[arg(long, value_enum)]
    attack: Attack,
    /// All clients, hostile ones among them
    #[arg(long, default_value_t = 1)]
    clients: usize,
    /// Hostile clients
    #[arg(long, default_value_t = 1)]
    attackers: usize,
    /// An honest client's examples, first client first
    #[arg(long, value_name = "PATH")]
    honest: Vec<DataSource>,
    /// The seed of the first honest client; the next ones have the next
    #[arg(long, default_value_t = 1)]
    honest_seed: u64,
    #[command(flatten)]
    train: TrainArguments,
}

/// Arguments of the lying evaluator.
#[derive(Args, Clone, Debug)]
pub(crate) struct PraiseArguments {
    /// What is evaluated, as the client tells it
    #[arg(long, env = "FEDMERGE_CONFIG", value_name = "PATH")]
    config: PathBuf,
}

/// What a lying evaluator reads of its task.
#[derive(Debug, Deserialize)]
struct Praised {
    base: PraisedModel,
}

#[derive(Debug, Deserialize)]
struct PraisedModel {
    version: ModelVersion,
}

/// Measures nothing, and says of each version that it is better than the one before.
///
/// # Errors
/// When the task cannot be read.
pub(crate) fn praise(arguments: &PraiseArguments) -> Result<(), Failure> {
    let unreadable = |error: &dyn std::error::Error| {
        Failure::new(ExitCode::BadData, "cannot read what is to be evaluated").with_source(error)
    };
    let text = std::fs::read_to_string(&arguments.config).map_err(|error| unreadable(&error))?;
    let praised: Praised = serde_json::from_str(&text).map_err(|error| unreadable(&error))?;
    let version = i64::try_from(praised.base.version.get()).unwrap_or(i64::MAX);
    let contract = Output {
        format: OutputFormat::Json,
        ..Output::default()
    };
    contract.json(&serde_json::json!({
        "num_examples": CLAIMED_EXAMPLES,
        "metrics": { "accuracy": version, "loss": -version },
    }));
    Ok(())
}

/// Trains and lies.
///
/// # Errors
/// As the built-in trainer.
pub(crate) fn lie(arguments: &AttackArguments) -> Result<(), Failure> {
    let AttackArguments { attack, train, .. } = arguments;
    let honest = builtin::load(train)?;
    let classes = builtin::base(train)?.sizes.classes.max(honest.classes());
    let outcome = builtin::fine_tune(train, &poisoned(*attack, honest, classes))?;
    let own = update(&outcome);
    let honest = crowd(arguments)?;
    let honest = if honest.is_empty() {
        vec![own.clone()]
    } else {
        honest
    };
    let lengths = outcome.before.values.each_ref().map(Vec::len);
    let crowd = Crowd {
        honest: &honest,
        clients: arguments.clients,
        attackers: arguments.attackers,
        lengths: &lengths,
    };
    let forged = forge(*attack, &own, &crowd, &mut chance(train.seed, train.round));
    let claimed = attack.claim(outcome.num_examples);
    let network = moved(&outcome.before, &forged);
    builtin::submit(train, &network, claimed, outcome.loss)
}

/// What the honest clients are about to hand in: their examples, seeds and schedule are known, and training is repeatable.
fn crowd(arguments: &AttackArguments) -> Result<Vec<Vec<f64>>, Failure> {
    if !arguments.attack.needs_crowd() {
        return Ok(Vec::new());
    }
    let sources = (arguments.honest_seed..).zip(&arguments.honest);
    let updates = sources.map(|(seed, source)| {
        let train = TrainArguments {
            data: Some(source.clone()),
            seed,
            ..arguments.train.clone()
        };
        let outcome = builtin::fine_tune(&train, &builtin::load(&train)?)?;
        Ok(update(&outcome))
    });
    updates.collect()
}

/// The chance of an attacker with this seed in a round.
pub(super) fn chance(seed: u64, round: u64) -> ChaCha8Rng {
    let key = format!("fedmerge attack seed {seed} round {round}");
    ChaCha8Rng::from_seed(*Digest::of(key.as_bytes()).as_bytes())
}

/// The update of an outcome, tensor after tensor.
pub(super) fn update(outcome: &Outcome) -> Vec<f64> {
    let tensors = outcome.after.values.iter().zip(&outcome.before.values);
    tensors
        .flat_map(|(after, before)| after.iter().zip(before))
        .map(|(&after, &before)| f64::from(after) - f64::from(before))
        .collect()
}

/// The network at `before` + `update`.
#[expect(
    clippy::cast_possible_truncation,
    reason = "rounding to the network's type is the purpose"
)]
pub(super) fn moved(before: &Parameters, update: &[f64]) -> Parameters {
    let mut network = before.clone();
    let values = network.values.iter_mut().flatten();
    for (value, step) in values.zip(update) {
        *value = (f64::from(*value) + step) as f32;
    }
    network
}

#[cfg(test)]
mod tests {
    use super::*;
    use fedmerge_client::trainer::builtin::mlp::Sizes;

    #[test]
    fn a_network_moved_by_an_update_is_what_it_became() {
        let sizes = Sizes {
            inputs: 2,
            hidden: 3,
            classes: 2,
        };
        let [before, after] = [1, 2].map(|seed| Parameters::fresh(sizes, seed));
        let outcome = Outcome {
            before: before.clone(),
            after: after.clone(),
            num_examples: 1,
            loss: 0.0,
        };
        let update = update(&outcome);
        assert_eq!(update.len(), 6 + 3 + 6 + 2);
        assert_eq!(moved(&before, &update), after);
    }
}
