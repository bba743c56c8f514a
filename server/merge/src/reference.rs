//! Every rule again, naively, on whole vectors in memory: what the engine is tested against.
//!
//! Written from the definitions, coordinate by coordinate. Shares the recipe's types with the engine and no code: it sorts
//! where the engine counts and runs networks. Sums have the order that the engine promises, so results agree to the bit
//! wherever norms are exact.
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small counts in tests"
)]

use crate::recipe::{Before, ClipNorm, Elect, Method, Recipe, TrimScope};

/// A model or task vector: its tensors.
pub(crate) type Tensors = Vec<Vec<f32>>;

/// The merged model.
pub(crate) fn merge(
    recipe: &Recipe,
    base: &Tensors,
    updates: &[Tensors],
    weights: &[f64],
) -> Tensors {
    let norms: Vec<f64> = updates.iter().map(norm).collect();
    let updates: Vec<Tensors> = updates
        .iter()
        .zip(clip_factors(&recipe.before, &norms))
        .map(|(update, factor)| {
            let mut update = trimmed(update, recipe.method);
            for value in update.iter_mut().flatten() {
                *value = (f64::from(*value) * factor) as f32;
            }
            update
        })
        .collect();
    let mut out = base.clone();
    for (tensor, values) in out.iter_mut().enumerate() {
        for (index, value) in values.iter_mut().enumerate() {
            let column: Vec<f64> = updates
                .iter()
                .map(|update| f64::from(update[tensor][index]))
                .collect();
            *value = (f64::from(*value)
                + recipe.lambda * coordinate(recipe.method, &column, weights))
                as f32;
        }
    }
    out
}

/// The length of a task vector.
pub(crate) fn norm(update: &Tensors) -> f64 {
    update
        .iter()
        .flatten()
        .map(|&value| f64::from(value).powi(2))
        .sum::<f64>()
        .sqrt()
}

fn clip_factors(stages: &[Before], norms: &[f64]) -> Vec<f64> {
    match stages {
        [] => vec![1.0; norms.len()],
        [Before::Clip { norm }] => {
            let limit = match *norm {
                ClipNorm::Fixed(limit) => limit,
                ClipNorm::Median => middle(norms),
            };
            norms
                .iter()
                .map(|&norm| if norm > limit { limit / norm } else { 1.0 })
                .collect()
        }
        [_, _, ..] => unreachable!("tests use at most one stage"),
    }
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values
}

fn middle(values: &[f64]) -> f64 {
    let values = sorted(values);
    (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0
}

fn trimmed(update: &Tensors, method: Method) -> Tensors {
    let Method::Ties { density, scope, .. } = method else {
        return update.clone();
    };
    let keep = |values: &[f32], all: &[f32]| -> Vec<f32> {
        let mut sizes: Vec<f32> = all.iter().map(|value| value.abs()).collect();
        sizes.sort_by(|a, b| b.total_cmp(a));
        let count = ((density * all.len() as f64) as usize).max(1);
        values
            .iter()
            .map(|&value| {
                if value.abs() >= sizes[count - 1] {
                    value
                } else {
                    0.0
                }
            })
            .collect()
    };
    match scope {
        TrimScope::Tensor => update.iter().map(|values| keep(values, values)).collect(),
        TrimScope::Model => update
            .iter()
            .map(|values| keep(values, &update.concat()))
            .collect(),
    }
}

fn coordinate(method: Method, column: &[f64], weights: &[f64]) -> f64 {
    let total: f64 = weights.iter().sum();
    match method {
        Method::Mean | Method::TaskArithmetic { normalize: true } => dot(column, weights) / total,
        Method::TaskArithmetic { normalize: false } => {
            let average = total / weights.len() as f64;
            column
                .iter()
                .zip(weights)
                .map(|(value, weight)| weight / average * value)
                .sum()
        }
        Method::Median => middle(column),
        Method::TrimmedMean { tolerate } => {
            let rest = &sorted(column)[tolerate..column.len() - tolerate];
            rest.iter().sum::<f64>() / rest.len() as f64
        }
        Method::Ties { elect, .. } => {
            let poll = match elect {
                Elect::Mass => dot(column, weights),
                Elect::Count => column
                    .iter()
                    .filter(|value| **value != 0.0)
                    .map(|value| value.signum())
                    .sum(),
            };
            let agreeing = column
                .iter()
                .zip(weights)
                .filter(|(value, _)| *value * poll > 0.0);
            let (sum, share) = agreeing.fold((0.0, 0.0), |(sum, share), (value, weight)| {
                (sum + weight * value, share + weight)
            });
            if share > 0.0 { sum / share } else { 0.0 }
        }
    }
}

fn dot(column: &[f64], weights: &[f64]) -> f64 {
    column
        .iter()
        .zip(weights)
        .map(|(value, weight)| weight * value)
        .sum()
}
