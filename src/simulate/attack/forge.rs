//! Dishonest updates, computed from honest ones in `f64`.
//!
//! Shapes: an update is all tensors' values one after the other. Formulas and their papers stand beside each attack.

use fedmerge_common::digest::Digest;
use rand::{SeedableRng, rngs::ChaCha8Rng};
use rand_distr::{Distribution, StandardNormal};

use super::Attack;

/// A sign-flipping or scaling attacker multiplies its update by this.
const EXAGGERATION: f64 = 10.0;
/// Standard deviations from the mean of `alie`: z of Baruch et al. is 0 for 2 of 10, so `ByzFL`'s fixed number.
const ALIE_DEVIATIONS: f64 = 1.5;
/// How many times the mean `ipm` takes back: ε of Xie et al., as in `ByzFL`.
const IPM_FACTOR: f64 = 2.0;
/// Length of what tells one of several sybils from the next, as a share of the update.
const SYBIL_NOISE: f64 = 1e-3;
/// Steps of the power method, which finds where honest clients differ most.
const POWER_STEPS: usize = 100;

/// What the attackers know together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crowd<'a> {
    /// The honest clients' updates; of one attacker's own where there is no honest client.
    pub(crate) honest: &'a [Vec<f64>],
    /// All clients, hostile ones among them.
    pub(crate) clients: usize,
    /// The hostile ones.
    pub(crate) attackers: usize,
    /// Values of each tensor.
    pub(crate) lengths: &'a [usize],
}

/// The update that an attacker hands in, whose own training would have made `own`.
///
/// # Panics
/// When `crowd.honest` is empty or its updates are not of one length.
pub(crate) fn forge(
    attack: Attack,
    own: &[f64],
    crowd: &Crowd<'_>,
    random: &mut ChaCha8Rng,
) -> Vec<f64> {
    match attack {
        Attack::LabelFlip | Attack::Backdoor => own.to_vec(),
        Attack::SignFlip => scaled(own, -EXAGGERATION),
        Attack::Scale => scaled(own, EXAGGERATION),
        Attack::FreeRider => scaled(own, 0.0),
        Attack::Gaussian => normal(own.len(), random),
        Attack::Nan => {
            let mut forged = own.to_vec();
            forged[0] = f64::NAN;
            forged
        }
        Attack::ModelReplacement => scaled(own, ratio(crowd.clients, crowd.attackers)),
        Attack::Alie => deviating(crowd, ALIE_DEVIATIONS),
        Attack::Ipm => scaled(&mean(crowd.honest), -IPM_FACTOR),
        Attack::Mimic => crowd.honest[furthest_out(crowd.honest)].clone(),
        Attack::MinMax => deviating(crowd, min_max(crowd.honest)),
        Attack::MinSum => deviating(crowd, min_sum(crowd.honest)),
        Attack::Sybil => sybil(crowd, random),
        Attack::SlowDrift => slow_drift(crowd),
        Attack::SingleTensor => single_tensor(crowd),
    }
}

fn scaled(update: &[f64], factor: f64) -> Vec<f64> {
    update.iter().map(|value| factor * value).collect()
}

fn normal(values: usize, random: &mut ChaCha8Rng) -> Vec<f64> {
    (0..values).map(|_| StandardNormal.sample(random)).collect()
}

#[expect(clippy::cast_precision_loss, reason = "numbers of clients are small")]
fn ratio(of: usize, to: usize) -> f64 {
    of as f64 / to.max(1) as f64
}

fn norm(update: &[f64]) -> f64 {
    dot(update, update).sqrt()
}

fn dot(left: &[f64], right: &[f64]) -> f64 {
    left.iter()
        .zip(right)
        .map(|(left, right)| left * right)
        .sum()
}

fn difference(left: &[f64], right: &[f64]) -> Vec<f64> {
    left.iter()
        .zip(right)
        .map(|(left, right)| left - right)
        .collect()
}

/// μ of the honest updates.
fn mean(updates: &[Vec<f64>]) -> Vec<f64> {
    let mut mean = vec![0.0; updates[0].len()];
    for update in updates {
        for (sum, value) in mean.iter_mut().zip(update) {
            *sum += value / ratio(updates.len(), 1);
        }
    }
    mean
}

/// σ of the honest updates, with n − 1 degrees of freedom; 0 where there is only one.
fn deviation(updates: &[Vec<f64>], mean: &[f64]) -> Vec<f64> {
    let mut squares = vec![0.0; mean.len()];
    for update in updates {
        for (sum, value) in squares.iter_mut().zip(difference(update, mean)) {
            *sum += value * value;
        }
    }
    let degrees = ratio(updates.len().saturating_sub(1), 1).max(1.0);
    squares.iter().map(|sum| (sum / degrees).sqrt()).collect()
}

/// μ − γ σ.
fn deviating(crowd: &Crowd<'_>, deviations: f64) -> Vec<f64> {
    let mean = mean(crowd.honest);
    let deviation = deviation(crowd.honest, &mean);
    let values = mean.iter().zip(deviation);
    values
        .map(|(mean, deviation)| mean - deviations * deviation)
        .collect()
}

/// The largest γ with max_i ‖μ − γσ − x_i‖ ≤ max_ij ‖x_i − x_j‖: each i is a quadratic inequality in γ, the smallest root counts.
fn min_max(honest: &[Vec<f64>]) -> f64 {
    let mean = mean(honest);
    let deviation = deviation(honest, &mean);
    let length = dot(&deviation, &deviation);
    let furthest = pairs(honest).fold(0.0, |most: f64, (_, _, squared)| most.max(squared));
    let limits = honest.iter().map(|update| {
        let off = difference(&mean, update);
        let (along, away) = (dot(&off, &deviation), dot(&off, &off));
        (along + (along * along - length * (away - furthest)).max(0.0).sqrt()) / length
    });
    finite(limits.fold(f64::INFINITY, f64::min))
}

/// The largest γ with Σ_i ‖μ − γσ − x_i‖² ≤ max_i Σ_j ‖x_i − x_j‖². The mixed terms cancel, since Σ_i (μ − x_i) = 0.
fn min_sum(honest: &[Vec<f64>]) -> f64 {
    let mean = mean(honest);
    let deviation = deviation(honest, &mean);
    let mut sums = vec![0.0; honest.len()];
    for (left, _, squared) in pairs(honest) {
        sums[left] += squared;
    }
    let most = sums.into_iter().fold(0.0, f64::max);
    let off = honest.iter().map(|update| {
        let off = difference(&mean, update);
        dot(&off, &off)
    });
    let spread = ratio(honest.len(), 1) * dot(&deviation, &deviation);
    finite(((most - off.sum::<f64>()).max(0.0) / spread).sqrt())
}

/// Where nobody differs there is no σ to go along.
fn finite(factor: f64) -> f64 {
    if factor.is_finite() { factor } else { 0.0 }
}

/// All ordered pairs with their squared distances.
fn pairs(updates: &[Vec<f64>]) -> impl Iterator<Item = (usize, usize, f64)> {
    let all = 0..updates.len();
    all.clone().flat_map(move |left| {
        all.clone().map(move |right| {
            let off = difference(&updates[left], &updates[right]);
            (left, right, dot(&off, &off))
        })
    })
}

/// The honest client furthest from the mean along the direction in which honest clients differ most: the largest entry of the first
/// eigenvector of their centred Gram matrix. The paper learns the direction over rounds; here it is exact in each.
fn furthest_out(honest: &[Vec<f64>]) -> usize {
    let mean = mean(honest);
    let centred: Vec<Vec<f64>> = honest
        .iter()
        .map(|update| difference(update, &mean))
        .collect();
    let gram: Vec<Vec<f64>> = centred
        .iter()
        .map(|left| centred.iter().map(|right| dot(left, right)).collect())
        .collect();
    // Any start that is not orthogonal to the answer will do: the longest row is not.
    let longest =
        (0..gram.len()).max_by(|&left, &right| gram[left][left].total_cmp(&gram[right][right]));
    let Some(longest) = longest else { return 0 };
    let mut vector = gram[longest].clone();
    for _ in 0..POWER_STEPS {
        let next: Vec<f64> = gram.iter().map(|row| dot(row, &vector)).collect();
        let length = norm(&next);
        if length == 0.0 {
            break;
        }
        vector = scaled(&next, 1.0 / length);
    }
    let entries = 0..vector.len();
    entries
        .max_by(|&left, &right| vector[left].abs().total_cmp(&vector[right].abs()))
        .unwrap_or(longest)
}

fn sybil(crowd: &Crowd<'_>, random: &mut ChaCha8Rng) -> Vec<f64> {
    let mean = mean(crowd.honest);
    let noise = normal(mean.len(), random);
    let share = SYBIL_NOISE * norm(&mean) / norm(&noise).max(f64::MIN_POSITIVE);
    let values = mean.iter().zip(noise);
    values.map(|(mean, noise)| share * noise - mean).collect()
}

/// As long as the median honest update, in a direction that all attackers share in all rounds.
fn slow_drift(crowd: &Crowd<'_>) -> Vec<f64> {
    let mut lengths: Vec<f64> = crowd.honest.iter().map(|update| norm(update)).collect();
    lengths.sort_by(f64::total_cmp);
    let median = lengths[lengths.len() / 2];
    let key = Digest::of(b"fedmerge attack: the direction of a slow drift");
    let direction = normal(
        crowd.honest[0].len(),
        &mut ChaCha8Rng::from_seed(*key.as_bytes()),
    );
    scaled(&direction, median / norm(&direction).max(f64::MIN_POSITIVE))
}

/// The honest mean, with −sgn(μ) · ‖μ‖ / √n in the n values of the smallest tensor.
fn single_tensor(crowd: &Crowd<'_>) -> Vec<f64> {
    let mut forged = mean(crowd.honest);
    let smallest = (0..crowd.lengths.len()).min_by_key(|&tensor| crowd.lengths[tensor]);
    let Some(smallest) = smallest else {
        return forged;
    };
    let start: usize = crowd.lengths[..smallest].iter().sum();
    let values = crowd.lengths[smallest];
    let step = norm(&forged) / ratio(values, 1).sqrt();
    for value in &mut forged[start..start + values] {
        *value = -step * value.signum();
    }
    forged
}

#[cfg(test)]
mod tests;
