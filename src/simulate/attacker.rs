//! The programs of a client that lies: a trainer that trains like the others and then hands in something else, and an
//! evaluator that praises every merge.
//!
//! They are programs for `fedmerge client run`, so a lie goes through the whole wire like any update and any report.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use fedmerge_client::trainer::builtin::mlp::Parameters;
use fedmerge_client::trainer::builtin::{self, Outcome, TrainArguments};
use fedmerge_common::digest::Digest;
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::ids::ModelVersion;
use fedmerge_common::output::{Output, OutputFormat};
use rand::{SeedableRng, rngs::ChaCha8Rng};
use rand_distr::{Distribution, StandardNormal};
use serde::Deserialize;

/// A sign-flipping or scaling attacker multiplies its update by this.
const EXAGGERATION: f32 = 10.0;
/// Examples that a free rider claims to have trained on.
const CLAIMED_EXAMPLES: u64 = 1_000_000;

/// What a lying client hands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Attack {
    /// Its own update times −10
    SignFlip,
    /// Noise of standard deviation 1 in place of an update
    Gaussian,
    /// Its own update times 10
    Scale,
    /// An honest update on dishonest data: label y becomes (classes − 1 − y)
    LabelFlip,
    /// Its own update with one value that is not a number
    Nan,
    /// No update at all, and a claim of a million examples
    FreeRider,
}

impl Attack {
    /// The name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SignFlip => "sign-flip",
            Self::Gaussian => "gaussian",
            Self::Scale => "scale",
            Self::LabelFlip => "label-flip",
            Self::Nan => "nan",
            Self::FreeRider => "free-rider",
        }
    }
}

/// Arguments of the lying trainer: the attack, then those of the built-in trainer.
#[derive(Args, Clone, Debug)]
pub(crate) struct AttackArguments {
    /// What to hand in
    #[arg(long, value_enum)]
    attack: Attack,
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
    let mut dataset = builtin::load(&arguments.train)?;
    if arguments.attack == Attack::LabelFlip {
        let classes = builtin::base(&arguments.train)?
            .sizes
            .classes
            .max(dataset.classes());
        dataset = dataset.relabelled(classes, |label| classes - 1 - label);
    }
    let outcome = builtin::fine_tune(&arguments.train, &dataset)?;
    let claimed = match arguments.attack {
        Attack::FreeRider => CLAIMED_EXAMPLES,
        Attack::SignFlip | Attack::Gaussian | Attack::Scale | Attack::LabelFlip | Attack::Nan => {
            outcome.num_examples as u64
        }
    };
    let key = format!(
        "fedmerge attack seed {} round {}",
        arguments.train.seed, arguments.train.round
    );
    let mut random = ChaCha8Rng::from_seed(*Digest::of(key.as_bytes()).as_bytes());
    let forged = forge(arguments.attack, &outcome, &mut random);
    builtin::submit(&arguments.train, &forged, claimed, outcome.loss)
}

fn forge(attack: Attack, outcome: &Outcome, random: &mut ChaCha8Rng) -> Parameters {
    let mut forged = outcome.after.clone();
    for (forged, before) in forged.values.iter_mut().zip(&outcome.before.values) {
        for (value, &before) in forged.iter_mut().zip(before) {
            let update = *value - before;
            *value = match attack {
                Attack::SignFlip => before - EXAGGERATION * update,
                Attack::Scale => before + EXAGGERATION * update,
                Attack::Gaussian => {
                    before + <StandardNormal as Distribution<f32>>::sample(&StandardNormal, random)
                }
                Attack::FreeRider => before,
                Attack::LabelFlip | Attack::Nan => *value,
            };
        }
    }
    if attack == Attack::Nan {
        forged.values[0][0] = f32::NAN;
    }
    forged
}

#[cfg(test)]
mod tests {
    use super::*;
    use fedmerge_client::trainer::builtin::mlp::Sizes;

    fn forge_one(attack: Attack) -> Parameters {
        let sizes = Sizes {
            inputs: 1,
            hidden: 1,
            classes: 1,
        };
        let network = |value: f32| Parameters {
            sizes,
            values: [vec![value], vec![value], vec![value], vec![value]],
        };
        let outcome = Outcome {
            before: network(2.0),
            after: network(3.0),
            num_examples: 1,
            loss: 0.0,
        };
        forge(attack, &outcome, &mut ChaCha8Rng::seed_from_u64(1))
    }

    #[test]
    fn each_attack_does_to_the_update_what_its_help_says() {
        assert_eq!(forge_one(Attack::SignFlip).values[2], [-8.0]);
        assert_eq!(forge_one(Attack::Scale).values[2], [12.0]);
        assert_eq!(forge_one(Attack::FreeRider).values[2], [2.0]);
        assert_eq!(forge_one(Attack::LabelFlip).values[2], [3.0]);
        assert!(forge_one(Attack::Nan).values[0][0].is_nan());
        assert_eq!(forge_one(Attack::Nan).values[2], [3.0]);
        assert_ne!(forge_one(Attack::Gaussian).values[2], [3.0]);
    }

    #[test]
    fn an_attack_is_called_on_the_command_line_what_it_is_called_here() {
        for attack in Attack::value_variants() {
            let shown = attack.to_possible_value();
            assert_eq!(
                shown.as_ref().map(clap::builder::PossibleValue::get_name),
                Some(attack.name())
            );
        }
    }
}
