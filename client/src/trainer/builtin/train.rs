//! Plain stochastic gradient descent on a dataset, and the evaluation of a network.
//!
//! Same parameters, examples, schedule and seed give the same bytes on the same kind of processor: batches come from
//! a ChaCha stream keyed by the seed and the round, and everything runs on one thread.

use burn::tensor::{Device, Tensor, TensorData, activation};
use fedmerge_common::digest::Digest;
use rand::{SeedableRng, rngs::ChaCha8Rng, seq::SliceRandom};

use super::dataset::Dataset;
use super::mlp::{Network, Parameters};

/// How long and how fast to train.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// Steps of one batch each.
    pub steps: usize,
    /// Examples in a batch; a smaller dataset is one batch.
    pub batch: usize,
    /// Step size.
    pub learning_rate: f64,
    /// Share of the last step that goes on, 0 to below 1.
    pub momentum: f64,
    /// Together with the round it fixes the order of the examples.
    pub seed: u64,
    /// Round of the federation, 0 outside one.
    pub round: u64,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            steps: 40,
            batch: 32,
            learning_rate: 0.4,
            momentum: 0.0,
            seed: 0,
            round: 0,
        }
    }
}

/// How good a network is on a dataset.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// Share of the examples whose class has the largest logit.
    pub accuracy: f64,
    /// Mean cross-entropy in nats.
    pub loss: f64,
}

/// Why a network and a dataset do not go together.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The network takes another number of features.
    #[error("the examples have {found} features, the network takes {expected}")]
    Inputs {
        /// Features of an example.
        found: usize,
        /// Features the network takes.
        expected: usize,
    },
    /// A label has no output.
    #[error("the examples have {found} classes, the network knows {expected}")]
    Classes {
        /// Classes of the examples.
        found: usize,
        /// Outputs of the network.
        expected: usize,
    },
}

/// Trains a copy of `start` and hands it back with the mean loss of the last tenth of the steps;
/// `progress` hears the share done and the loss, ten times in all.
///
/// # Errors
/// When the network does not fit the examples.
pub fn train(
    start: &Parameters,
    dataset: &Dataset,
    schedule: &Schedule,
    mut progress: impl FnMut(f64, f64),
) -> Result<(Parameters, f64), TrainError> {
    check(start, dataset)?;
    let device = Device::flex().autodiff();
    let mut network = Network::new(start, &device).require_grad();
    let mut velocities: [Option<Tensor<2>>; 4] = Default::default();
    let mut batches = Batches::new(dataset.len(), schedule);
    let report_every = schedule.steps.div_ceil(10).max(1);
    let mut recent = Vec::with_capacity(report_every);
    let mut last_loss = 0.0;
    for step in 1..=schedule.steps {
        let batch = batches.next();
        let (examples, targets) = tensors(dataset, batch, start.sizes.classes, &device);
        let loss = cross_entropy(network.forward(examples), targets) / mean_of(batch.len());
        let gradients = loss.backward();
        recent.push(f64::from(loss.into_scalar::<f32>()));
        network = network
            .updated(&gradients, |at, tensor, gradient| {
                let gradient = match velocities[at].take() {
                    Some(velocity) => velocity.mul_scalar(schedule.momentum) + gradient,
                    None => gradient,
                };
                if schedule.momentum > 0.0 {
                    velocities[at] = Some(gradient.clone());
                }
                tensor - gradient.mul_scalar(schedule.learning_rate)
            })
            .require_grad();
        if step % report_every == 0 || step == schedule.steps {
            last_loss = recent.iter().sum::<f64>() / mean_of(recent.len());
            recent.clear();
            progress(mean_of(step) / mean_of(schedule.steps), last_loss);
        }
    }
    Ok((network.into_parameters(), last_loss))
}

/// Accuracy and loss of a network on a dataset. Numbers that are not finite count as wrong answers.
///
/// # Errors
/// When the network does not fit the examples.
///
/// # Panics
/// When the lengths of the parameters are not those of their sizes.
pub fn evaluate(parameters: &Parameters, dataset: &Dataset) -> Result<Evaluation, TrainError> {
    check(parameters, dataset)?;
    let device = Device::flex();
    let rows: Vec<usize> = (0..dataset.len()).collect();
    let classes = parameters.sizes.classes;
    let (examples, targets) = tensors(dataset, &rows, classes, &device);
    let logits = Network::new(parameters, &device).forward(examples);
    let values: Vec<f32> = logits
        .clone()
        .into_data()
        .try_into_vec()
        .expect("logits are f32");
    let right = values
        .chunks_exact(classes)
        .zip(&rows)
        .filter(|(logits, row)| {
            let label = dataset.label(**row);
            let others = logits
                .iter()
                .enumerate()
                .filter(|&(class, _)| class != label);
            logits[label].is_finite()
                && others
                    .map(|(_, logit)| logit)
                    .all(|logit| *logit < logits[label])
        });
    let accuracy = mean_of(right.count()) / mean_of(dataset.len());
    let loss =
        f64::from(cross_entropy(logits, targets).into_scalar::<f32>()) / mean_of(dataset.len());
    Ok(Evaluation { accuracy, loss })
}

fn check(parameters: &Parameters, dataset: &Dataset) -> Result<(), TrainError> {
    let (inputs, classes) = (parameters.sizes.inputs, parameters.sizes.classes);
    if dataset.inputs() != inputs {
        return Err(TrainError::Inputs {
            found: dataset.inputs(),
            expected: inputs,
        });
    }
    if dataset.classes() > classes {
        return Err(TrainError::Classes {
            found: dataset.classes(),
            expected: classes,
        });
    }
    Ok(())
}

/// Sum over the examples of −Σ target · log softmax(logits).
fn cross_entropy(logits: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
    (activation::log_softmax(logits, 1) * targets).sum().neg()
}

fn tensors(
    dataset: &Dataset,
    rows: &[usize],
    classes: usize,
    device: &Device,
) -> (Tensor<2>, Tensor<2>) {
    let mut features = Vec::with_capacity(rows.len() * dataset.inputs());
    let mut targets = vec![0.0_f32; rows.len() * classes];
    for (&row, target) in rows.iter().zip(targets.chunks_exact_mut(classes)) {
        features.extend_from_slice(dataset.features(row));
        target[dataset.label(row)] = 1.0;
    }
    let load = |values: Vec<f32>, columns| {
        Tensor::from_data(TensorData::new(values, [rows.len(), columns]), device)
    };
    (load(features, dataset.inputs()), load(targets, classes))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of examples and steps are far below 2^52"
)]
fn mean_of(count: usize) -> f64 {
    count as f64
}

/// Endless batches: every example once in a random order, then again in another one.
struct Batches {
    order: Vec<usize>,
    next: usize,
    batch: usize,
    random: ChaCha8Rng,
}

impl Batches {
    fn new(examples: usize, schedule: &Schedule) -> Self {
        let key = format!(
            "fedmerge train seed {} round {}",
            schedule.seed, schedule.round
        );
        let random = ChaCha8Rng::from_seed(*Digest::of(key.as_bytes()).as_bytes());
        let batch = schedule.batch.clamp(1, examples);
        Self {
            order: (0..examples).collect(),
            next: examples,
            batch,
            random,
        }
    }

    fn next(&mut self) -> &[usize] {
        if self.next + self.batch > self.order.len() {
            self.order.shuffle(&mut self.random);
            self.next = 0;
        }
        let start = self.next;
        self.next += self.batch;
        &self.order[start..self.next]
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use super::*;
    use crate::trainer::builtin::digits;
    use crate::trainer::builtin::mlp::Sizes;

    const SIZES: Sizes = Sizes {
        inputs: 64,
        hidden: 64,
        classes: 10,
    };

    #[test]
    fn three_hundred_steps_read_nine_digits_of_ten() {
        let schedule = Schedule {
            steps: 300,
            ..Schedule::default()
        };
        let (trained, _) = train(
            &Parameters::fresh(SIZES, 1),
            &digits::training(),
            &schedule,
            |_, _| (),
        )
        .unwrap();
        let evaluation = evaluate(&trained, &digits::test()).unwrap();
        assert!(evaluation.accuracy > 0.93, "{evaluation:?}");
        assert!(evaluation.loss < 0.3, "{evaluation:?}");
    }

    #[test]
    fn the_seed_and_the_round_fix_every_byte() {
        let start = Parameters::fresh(SIZES, 1);
        let run = |seed, round| {
            let schedule = Schedule {
                steps: 5,
                seed,
                round,
                ..Schedule::default()
            };
            train(&start, &digits::training(), &schedule, |_, _| ())
                .unwrap()
                .0
        };
        assert_eq!(run(1, 1), run(1, 1));
        assert_ne!(run(1, 1), run(2, 1));
        assert_ne!(run(1, 1), run(1, 2));
    }

    #[test]
    fn no_steps_change_nothing() {
        let start = Parameters::fresh(SIZES, 3);
        let schedule = Schedule {
            steps: 0,
            ..Schedule::default()
        };
        assert_eq!(
            train(&start, &digits::test(), &schedule, |_, _| ())
                .unwrap()
                .0,
            start
        );
    }

    #[test]
    fn a_network_of_not_a_number_knows_nothing() {
        let mut parameters = Parameters::fresh(SIZES, 3);
        parameters.values[0].fill(f32::NAN);
        let evaluation = evaluate(&parameters, &digits::test()).unwrap();
        assert!(evaluation.accuracy.abs() < f64::EPSILON);
    }

    #[test]
    fn examples_of_another_width_are_refused() {
        let parameters = Parameters::fresh(
            Sizes {
                inputs: 63,
                ..SIZES
            },
            3,
        );
        let error = evaluate(&parameters, &digits::test()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the examples have 64 features, the network takes 63"
        );
    }

    #[test]
    fn progress_is_told_ten_times_and_ends_at_one() {
        let mut told = Vec::new();
        train(
            &Parameters::fresh(SIZES, 1),
            &digits::training(),
            &Schedule::default(),
            |done, _| told.push(done),
        )
        .unwrap();
        assert_eq!(told.len(), 10);
        assert!((told[9] - 1.0).abs() < f64::EPSILON);
    }
}
