//! The engine's streams against its parts put together plainly: whole vectors in `f64`, sorted magnitudes, one coordinate at a time.

use super::fixture::{Merge, Tensors, methods, noise, staged, widened, zeros};
use crate::coefficients::{self, Context, Decision};
use crate::gram::Gram;
use crate::kernel::{Rows, Target};
use crate::method::Rule;
use crate::{Before, Method, Recipe, Rescale, Scope, SparsifyRule};

const LENGTHS: [usize; 4] = [1, 700, 0, 35];

/// The merged task vector of whole vectors, where nothing is left to chance and SCE keeps all.
fn composed(recipe: &Recipe, updates: &[Tensors<f64>], weights: &[f64]) -> Tensors<f64> {
    let tensors: Vec<usize> = (0..updates[0].len()).collect();
    let scopes: Vec<Vec<usize>> = match recipe.scope {
        Scope::Model => vec![tensors],
        Scope::Tensor => tensors.into_iter().map(|tensor| vec![tensor]).collect(),
    };
    let mut out = zeros(&updates[0]);
    for scope in scopes {
        let whole: Vec<Vec<f64>> = updates
            .iter()
            .map(|update| {
                scope
                    .iter()
                    .flat_map(|&tensor| update[tensor].clone())
                    .collect()
            })
            .collect();
        let context = Context {
            trusted: Some(0),
            ..Context::default()
        };
        let decision =
            coefficients::decide(recipe, &Gram::of(whole.len(), &whole), &context).decision;
        let is_grouped = recipe
            .before
            .iter()
            .any(|stage| matches!(stage, Before::Bucketing { .. }));
        for tensor in scope {
            let rows: Vec<Vec<f64>> = updates
                .iter()
                .map(|update| trimmed(recipe, update, tensor))
                .collect();
            let (rows, weights) = match &decision {
                Decision::Sum(sum) => (rows, sum.clone()),
                Decision::Rows(mixing) => {
                    let weights = if is_grouped {
                        vec![1.0; mixing.nrows()]
                    } else {
                        weights.to_vec()
                    };
                    let mixed = mixing
                        .outer_iter()
                        .map(|row| mix(&rows, row.iter().copied()));
                    (mixed.collect(), weights)
                }
            };
            out[tensor] = combined(recipe.method, &rows, &weights);
        }
    }
    out
}

fn mix(rows: &[Vec<f64>], weights: impl Iterator<Item = f64> + Clone) -> Vec<f64> {
    let entries: Vec<(usize, f64)> = weights
        .clone()
        .enumerate()
        .filter(|(_, weight)| *weight != 0.0)
        .collect();
    if let [(only, 1.0)] = entries[..] {
        return rows[only].clone();
    }
    let mut sum = vec![0.0; rows[0].len()];
    for (row, weight) in rows.iter().zip(weights) {
        for (sum, value) in sum.iter_mut().zip(row) {
            *sum += weight * value;
        }
    }
    sum
}

fn combined(method: Method, rows: &[Vec<f64>], weights: &[f64]) -> Vec<f64> {
    let slices: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
    let rows = Rows::new(&slices, slices[0].len());
    let rule = if let Method::Sce { .. } = method {
        let energies: Vec<f64> = slices
            .iter()
            .map(|row| row.iter().map(|value| value * value).sum())
            .collect();
        Rule::sce(&energies, Some(0))
    } else {
        Rule::of(method, weights, slices.len())
    };
    let mut out = vec![0.0; rows.len()];
    rule.combine(
        rows,
        &mut rule.workspace(rows.count()),
        &mut Target::Row(&mut out),
    );
    out
}

/// What a trim leaves of one tensor; what is dropped is absent where the method ranks values.
fn trimmed(recipe: &Recipe, update: &Tensors<f64>, tensor: usize) -> Vec<f64> {
    let Some(sparsify) = recipe.sparsify else {
        return update[tensor].clone();
    };
    let SparsifyRule::Trim { density } = sparsify.rule else {
        panic!("only a trim is composed here")
    };
    let among = match sparsify.scope {
        Scope::Tensor => update[tensor].clone(),
        Scope::Model => update.concat(),
    };
    let mut sizes: Vec<f64> = among.iter().map(|value| value.abs()).collect();
    sizes.sort_by(|a, b| b.total_cmp(a));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of few"
    )]
    let kept = ((density * sizes.len() as f64) as usize).max(1);
    let smallest = sizes.get(kept - 1).copied().unwrap_or(0.0);
    let fill = if recipe.method.ranks_values() {
        f64::from_bits(i64::MAX.cast_unsigned())
    } else {
        0.0
    };
    let left: Vec<f64> = update[tensor]
        .iter()
        .map(|&value| if value.abs() >= smallest { value } else { fill })
        .collect();
    let mass = |values: &[f64]| -> f64 { values.iter().map(|value| value.abs()).sum() };
    let factor = match sparsify.rescale {
        Rescale::Mass if mass(&left) > 0.0 => mass(&update[tensor]) / mass(&left),
        Rescale::Mass | Rescale::Nothing | Rescale::Probability => 1.0,
    };
    left.into_iter().map(|value| value * factor).collect()
}

fn assert_close(actual: &Tensors<f64>, expected: &Tensors<f64>, tolerance: f64, what: &Recipe) {
    for (actual, expected) in actual.iter().flatten().zip(expected.iter().flatten()) {
        assert!(
            (actual - expected).abs() <= tolerance * (1.0 + expected.abs()),
            "{what:?}: {actual} is not {expected}"
        );
    }
}

#[test]
fn streams_give_what_whole_vectors_give() {
    for clients in [1, 2, 3, 8, 11] {
        let updates: Vec<Tensors> = (0..clients).map(|seed| noise(&LENGTHS, seed)).collect();
        let wide: Vec<Tensors<f64>> = updates.iter().map(widened).collect();
        let (count, zero, wide_zero) = (updates.len(), zeros(&updates[0]), zeros(&wide[0]));
        let weights: Vec<f64> = (0..clients)
            .map(|client| f64::from(client % 3 + 1))
            .collect();
        let is_composed = |recipe: &Recipe| {
            let is_trim = recipe
                .sparsify
                .is_none_or(|stage| matches!(stage.rule, SparsifyRule::Trim { .. }));
            is_trim && !matches!(recipe.method, Method::Sce { density } if density < 1.0)
        };
        let recipes = methods(count)
            .into_iter()
            .map(Recipe::of)
            .chain(staged(count));
        for recipe in recipes
            .filter(is_composed)
            .filter(|recipe| recipe.check(count).is_ok())
        {
            let expected = composed(&recipe, &wide, &weights);
            let exact = Merge {
                weights: weights.clone(),
                ..Merge::new(recipe.clone(), &wide_zero, &wide)
            };
            assert_close(&exact.model(), &expected, 1e-9, &recipe);
            let single = Merge {
                weights: weights.clone(),
                ..Merge::new(recipe.clone(), &zero, &updates)
            };
            assert_close(&single.model(), &expected, 1e-4, &recipe);
        }
    }
}
