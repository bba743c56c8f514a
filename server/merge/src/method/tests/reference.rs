//! The rules as one would write them down for one coordinate, slow and plain. An absent value is `None`.

use crate::recipe::{Divide, Elect, Even, Method, Ties};

pub(super) fn of(method: Method, column: &[Option<f64>], weights: &[f64]) -> f64 {
    let mut sent: Vec<f64> = column.iter().flatten().copied().collect();
    let all = sent.clone();
    sent.sort_by(f64::total_cmp);
    let supported = |tolerate: usize, value: &dyn Fn() -> f64| {
        if sent.len() > tolerate { value() } else { 0.0 }
    };
    let drop = |tolerate: usize| tolerate.min(sent.len().saturating_sub(1) / 2);
    match method {
        Method::Mean => weighted(&all, weights) / weights.iter().sum::<f64>(),
        Method::TaskArithmetic { .. } => weighted(&all, weights),
        Method::Median { tolerate } => supported(tolerate, &|| median(&sent)),
        Method::TrimmedMean { tolerate } => supported(tolerate, &|| trimmed(&sent, drop(tolerate))),
        Method::Meamed { tolerate } => supported(tolerate, &|| {
            nearest(&sent, median(&sent), sent.len() - drop(tolerate))
        }),
        Method::Bulyan { tolerate, .. } => supported(tolerate, &|| {
            nearest(&sent, median(&sent), sent.len() - 2 * drop(tolerate))
        }),
        Method::Phocas { tolerate } => supported(tolerate, &|| {
            nearest(
                &sent,
                trimmed(&sent, drop(tolerate)),
                sent.len() - drop(tolerate),
            )
        }),
        Method::SignMajority => sign(all.iter().copied().map(sign).sum()),
        Method::Ties(rule) => ties(rule, &all, weights),
        Method::Sce { .. } => sce(&all, weights),
        Method::Ram { epsilon } => {
            let changes: Vec<f64> = all
                .into_iter()
                .filter(|value| value.abs() > epsilon)
                .collect();
            if changes.is_empty() {
                0.0
            } else {
                mean(&changes)
            }
        }
        Method::Magmax => {
            let larger = |best: f64, &value: &f64| {
                if value.abs() > best.abs() {
                    value
                } else {
                    best
                }
            };
            all.iter().fold(0.0, larger)
        }
        Method::Consensus { threshold, support } => {
            let total: f64 = all.iter().sum();
            let found = all
                .iter()
                .filter(|value| value.abs() > threshold * (total - **value).abs());
            if found.count() >= support { total } else { 0.0 }
        }
        Method::Krum { .. }
        | Method::MultiKrum { .. }
        | Method::GeometricMedian { .. }
        | Method::CenteredClipping { .. }
        | Method::Mda { .. }
        | Method::Caf { .. }
        | Method::Dnc { .. }
        | Method::Fltrust
        | Method::Flame
        | Method::Monna { .. } => weighted(&all, weights),
    }
}

fn weighted(values: &[f64], weights: &[f64]) -> f64 {
    values
        .iter()
        .zip(weights)
        .fold(0.0, |sum, (value, weight)| sum + weight * value)
}

#[expect(clippy::cast_precision_loss, reason = "few clients")]
fn mean(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |sum, value| sum + value) / values.len() as f64
}

fn median(sorted: &[f64]) -> f64 {
    trimmed(sorted, (sorted.len() - 1) / 2)
}

fn trimmed(sorted: &[f64], drop: usize) -> f64 {
    mean(&sorted[drop..sorted.len() - drop])
}

/// Takes away the farther end until so many are left; of two as far, the upper.
fn nearest(sorted: &[f64], centre: f64, kept: usize) -> f64 {
    let mut left = sorted;
    while left.len() > kept {
        let (low, high) = (left[0], left[left.len() - 1]);
        left = if centre - low > high - centre {
            &left[1..]
        } else {
            &left[..left.len() - 1]
        };
    }
    mean(left)
}

fn sign(value: f64) -> f64 {
    if value == 0.0 { 0.0 } else { value.signum() }
}

#[expect(clippy::float_cmp, reason = "signs are exact")]
fn ties(rule: Ties, values: &[f64], weights: &[f64]) -> f64 {
    let pairs = || values.iter().copied().zip(weights.iter().copied());
    let poll: f64 = match rule.elect {
        Elect::Mass => weighted(values, weights),
        Elect::PlainMass => values.iter().sum(),
        Elect::Count => pairs().map(|(value, weight)| sign(weight * value)).sum(),
    };
    let elected = match (sign(poll), rule.even) {
        (0.0, Even::Nothing) => return 0.0,
        (0.0, Even::Positive) => 1.0,
        (sign, _) => sign,
    };
    let voice = |(value, weight): &(f64, f64)| match rule.elect {
        Elect::PlainMass => sign(*value),
        Elect::Mass | Elect::Count => sign(weight * value),
    };
    let agreeing: Vec<(f64, f64)> = pairs().filter(|pair| voice(pair) == elected).collect();
    let sum = agreeing
        .iter()
        .fold(0.0, |sum, (value, weight)| sum + weight * value);
    let share = match rule.divide {
        Divide::Weights => agreeing.iter().map(|(_, weight)| weight).sum(),
        Divide::Count => agreeing.iter().map(|_| 1.0).sum(),
        Divide::Nothing => 1.0,
    };
    if share == 0.0 { sum } else { sum / share }
}

#[expect(clippy::float_cmp, reason = "signs are exact")]
fn sce(values: &[f64], energies: &[f64]) -> f64 {
    let energy: f64 = energies.iter().sum();
    let weights: Vec<f64> = energies.iter().map(|client| client / energy).collect();
    let total: f64 = values.iter().sum();
    let elected = if total >= 0.0 { 1.0 } else { -1.0 };
    let agreeing = || {
        values
            .iter()
            .zip(&weights)
            .filter(|(value, _)| sign(**value) == elected)
    };
    let sum: f64 = agreeing().map(|(value, weight)| weight * value).sum();
    sum / agreeing().map(|(_, weight)| weight).sum::<f64>().max(1e-6)
}
