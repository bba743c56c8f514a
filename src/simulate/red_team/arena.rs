//! One federation in memory: real training, the real engine, no processes; what a grid of hundreds of runs can afford.
//!
//! It does what the processes of a simulation do, with the same seeds: the same batches, the same forged updates, the same recipe.
//! Only the order of summation differs (clients here, digests there), which may cost the last bit.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use fedmerge_client::trainer::builtin::Outcome;
use fedmerge_client::trainer::builtin::dataset::Dataset;
use fedmerge_client::trainer::builtin::mlp::{Parameters, TENSORS};
use fedmerge_client::trainer::builtin::train::{Schedule, TrainError, evaluate, train};
use fedmerge_merge::{
    BlockError, BlockSink, BlockSource, Contribution, Control, Detail, History, Inputs, MergeError,
    MergePlan, OptimizerHistory, OptimizerSinks, Outputs, PlanError, Resources, TensorExtent,
    Values, merge,
};
use fedmerge_server::plan::FederationPlan;

use super::grid::average;
use crate::simulate::attack::Attack;
use crate::simulate::attack::forge::{Crowd, forge};
use crate::simulate::attack::poison::{poisoned, trap};
use crate::simulate::attacker::{chance, moved, update};
use crate::simulate::stage::client_name;

/// Small models: the bound never matters.
const RESOURCES: Resources = Resources {
    threads: 1,
    memory_bytes: 1 << 30,
};

/// Rounds at the end whose accuracies are averaged: one round's on a small test set is a matter of chance.
const LAST_ROUNDS: u64 = 5;

/// Who takes part with which examples: all that a seed fixes.
#[derive(Debug)]
pub(super) struct Field {
    /// Each client's examples; the hostile ones are the last.
    pub(super) parts: Vec<Dataset>,
    /// The first base.
    pub(super) base: Parameters,
    /// Nobody trains on it.
    pub(super) test: Dataset,
    /// How many lie, where somebody does.
    pub(super) attackers: usize,
    /// Rounds to hold.
    pub(super) rounds: u64,
    /// Batches of a local training.
    pub(super) local_steps: usize,
    /// The seed of the first client; the next ones have the next.
    pub(super) first_seed: u64,
}

/// What became of a federation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fate {
    /// On the test examples, 0 to 1: the mean over the last five rounds.
    pub(super) accuracy: f64,
    /// The share of triggered examples that the last base takes for the attacker's class.
    pub(super) backdoor: f64,
}

/// Why a federation could not be played.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlayError {
    /// Model and examples do not go together.
    #[error("a client cannot train")]
    Train(#[from] TrainError),
    /// The recipe does not work with those who are left.
    #[error("the merge cannot be planned")]
    Plan(#[from] PlanError),
    /// The engine failed.
    #[error("the merge failed")]
    Merge(#[from] MergeError),
}

/// What a client hands in.
struct Submission {
    client: usize,
    values: Network,
    claimed: u64,
}

/// A network's values as the engine reads them.
struct Network(Vec<Vec<f32>>);

impl BlockSource for Network {
    fn read<'a>(
        &'a self,
        tensor: usize,
        offset: usize,
        len: usize,
        _buffer: &'a mut [f32],
    ) -> Result<Values<'a>, BlockError> {
        Ok(Values::F32(&self.0[tensor][offset..offset + len]))
    }
}

/// A network that the engine writes.
struct Target(Vec<Mutex<Vec<f32>>>);

impl Target {
    /// Room for a network of the same sizes.
    fn like(network: &Parameters) -> Self {
        let tensors = network.values.iter();
        Self(
            tensors
                .map(|values| Mutex::new(vec![0.0; values.len()]))
                .collect(),
        )
    }

    fn written(self) -> Network {
        let tensors = self.0.into_iter();
        Network(
            tensors
                .map(|tensor| tensor.into_inner().expect("no writer has panicked"))
                .collect(),
        )
    }
}

impl BlockSink for Target {
    #[expect(clippy::cast_possible_truncation, reason = "rounding is the purpose")]
    fn write(&self, tensor: usize, offset: usize, values: &[f64]) -> Result<(), BlockError> {
        let tensor = self.0[tensor].lock();
        let mut tensor = tensor.map_err(|_| BlockError::new("a writer panicked"))?;
        for (slot, value) in tensor[offset..].iter_mut().zip(values) {
            *slot = *value as f32;
        }
        Ok(())
    }
}

/// What one merge leaves to the next.
#[derive(Default)]
struct Memory {
    step: Option<Network>,
    clip_limit: Option<f64>,
    moments: Option<Moments>,
}

/// An optimizer's memory. Where its rule has no second moment, that is 0.
struct Moments {
    steps: u64,
    first: Network,
    second: Network,
}

impl Field {
    /// Holds all rounds.
    ///
    /// # Errors
    /// When training or a merge fails.
    pub(super) fn play(
        &self,
        plan: &FederationPlan,
        attack: Option<Attack>,
    ) -> Result<Fate, PlayError> {
        let mut base = self.base.clone();
        let mut memory = Memory::default();
        let mut last = Vec::new();
        for round in 1..=self.rounds {
            let submissions = self.submissions(&base, attack, round)?;
            base = merged(plan, &base, &submissions, &mut memory)?;
            if round + LAST_ROUNDS > self.rounds {
                last.push(evaluate(&base, &self.test)?.accuracy);
            }
        }
        let backdoor = match trap(&self.test) {
            Some(trap) => evaluate(&base, &trap)?.accuracy,
            None => 0.0,
        };
        Ok(Fate {
            accuracy: average(&last),
            backdoor,
        })
    }

    fn submissions(
        &self,
        base: &Parameters,
        attack: Option<Attack>,
        round: u64,
    ) -> Result<Vec<Submission>, PlayError> {
        let clients = self.parts.len();
        let attackers = attack.map_or(0, |_| self.attackers);
        let mut updates = Vec::new();
        for (client, part) in self.parts[..clients - attackers].iter().enumerate() {
            updates.push(update(&self.train(base, client, part, round)?));
        }
        let lengths = base.values.each_ref().map(Vec::len);
        let crowd = updates.clone();
        let crowd = Crowd {
            honest: &crowd,
            clients,
            attackers,
            lengths: &lengths,
        };
        for client in clients - attackers..clients {
            let Some(attack) = attack else { break };
            let examples = poisoned(attack, self.parts[client].clone(), base.sizes.classes);
            // Who computes its update from those of others need not train.
            let own = if attack.needs_crowd() {
                Vec::new()
            } else {
                update(&self.train(base, client, &examples, round)?)
            };
            let mut chance = chance(self.seed(client), round);
            updates.push(forge(attack, &own, &crowd, &mut chance));
        }
        let honest = clients - attackers;
        let submissions = updates.iter().enumerate().map(|(client, update)| {
            let examples = self.parts[client].len();
            let lie = attack.filter(|_| client >= honest);
            Submission {
                client,
                values: difference(&moved(base, update), base),
                claimed: lie.map_or(examples as u64, |attack| attack.claim(examples)),
            }
        });
        // What is no number is turned away at the door, as by a server.
        let is_sound = |submission: &Submission| {
            let mut values = submission.values.0.iter().flatten();
            values.all(|value| value.is_finite())
        };
        Ok(submissions.filter(is_sound).collect())
    }

    fn train(
        &self,
        base: &Parameters,
        client: usize,
        examples: &Dataset,
        round: u64,
    ) -> Result<Outcome, TrainError> {
        let schedule = Schedule {
            steps: self.local_steps,
            seed: self.seed(client),
            round,
            ..Schedule::default()
        };
        let (after, loss) = train(base, examples, &schedule, |_, _| ())?;
        Ok(Outcome {
            before: base.clone(),
            after,
            num_examples: examples.len(),
            loss,
        })
    }

    fn seed(&self, client: usize) -> u64 {
        self.first_seed.wrapping_add(client as u64)
    }
}

fn difference(left: &Parameters, right: &Parameters) -> Network {
    let tensors = left.values.iter().zip(&right.values);
    let differences = tensors.map(|(left, right)| {
        let values = left.iter().zip(right);
        values.map(|(left, right)| left - right).collect()
    });
    Network(differences.collect())
}

fn merged(
    plan: &FederationPlan,
    base: &Parameters,
    submissions: &[Submission],
    memory: &mut Memory,
) -> Result<Parameters, PlayError> {
    let tensors = TENSORS.iter().zip(base.sizes.shapes());
    let tensors = tensors.map(|(name, shape)| {
        let extent = TensorExtent::new(*name, shape.iter().product());
        extent.in_rows_of(shape.last().copied().unwrap_or(1))
    });
    let clients = submissions.len();
    let recipe = plan.recipe.clone();
    let merging = MergePlan::new(recipe, tensors.collect(), clients, RESOURCES, Detail::Brief)?;
    let claims: Vec<u64> = submissions.iter().map(|one| one.claimed).collect();
    let weights = plan.weight.of(&claims, plan.max_weight);
    let contributions: Vec<Contribution<'_>> = submissions
        .iter()
        .zip(weights)
        .map(|(submission, weight)| Contribution::new(&submission.values, weight))
        .collect();
    let source = Network(base.values.to_vec());
    let trusted = plan.trusted.as_ref().and_then(|trusted| {
        let is_trusted = |of: &Submission| client_name(of.client + 1) == trusted.as_str();
        submissions.iter().position(is_trusted)
    });
    let inputs = Inputs {
        base: &source,
        updates: &contributions,
        trusted,
        history: History {
            step: memory.step.as_ref().map(|step| step as &dyn BlockSource),
            clip_limit: memory.clip_limit,
            count_noise: 0.0,
            optimizer: memory.moments.as_ref().map(|moments| OptimizerHistory {
                steps: moments.steps,
                first: &moments.first,
                second: Some(&moments.second),
            }),
        },
    };
    let [target, first, second] = [(); 3].map(|()| Target::like(base));
    let outputs = Outputs {
        model: &target,
        optimizer: plan.recipe.optimizer.map(|_| OptimizerSinks {
            first: &first,
            second: Some(&second),
        }),
    };
    let control = Control {
        cancelled: &AtomicBool::new(false),
        progress: &|_| (),
    };
    let report = merge(&merging, &inputs, &outputs, &control)?;
    let mut after = base.clone();
    for (values, written) in after.values.iter_mut().zip(target.written().0) {
        *values = written;
    }
    *memory = Memory {
        step: Some(difference(&after, base)),
        clip_limit: report.clip_limit,
        moments: plan.recipe.optimizer.map(|_| Moments {
            steps: report.optimizer_steps,
            first: first.written(),
            second: second.written(),
        }),
    };
    Ok(after)
}
