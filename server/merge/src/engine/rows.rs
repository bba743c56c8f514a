//! From what was decided to the rows that a rule sees: which clients are read, how they are mixed, and the rule with its weights.

use ndarray::{Array2, ArrayView1};

use crate::coefficients::Decision;
use crate::kernel::Element;
use crate::kernel::dispatch::vectorized;
use crate::method::Rule;
use crate::recipe::{Before, Method, Recipe};

/// Where a row of the rule comes from.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Origin {
    /// It is a client's, or the step before, which comes after the clients'.
    Row(usize),
    /// It is a combination of clients' rows.
    Combination(Vec<(usize, f64)>),
    /// It is the same as an earlier row.
    Same(usize),
}

/// A rule and the rows it is given, for one scope.
#[derive(Debug, Clone)]
pub(super) struct Arrangement {
    pub(super) rule: Rule,
    pub(super) origins: Vec<Origin>,
    /// Which clients, and the step before, are read.
    pub(super) wanted: Vec<bool>,
    /// The coefficient of each client's task vector in the merged one, or its mean coefficient in the rows.
    pub(super) weights: Vec<f64>,
}

impl Arrangement {
    /// The rows of the clients as they are.
    pub(super) fn plain(recipe: &Recipe, weights: &[f64], inputs: usize) -> Self {
        let rows = Decision::Rows(Array2::eye(weights.len()));
        Self::new(recipe, &rows, weights, inputs)
    }

    /// What a decision means for clients of these weights; `inputs` counts the clients and the step before.
    pub(super) fn new(
        recipe: &Recipe,
        decision: &Decision,
        weights: &[f64],
        inputs: usize,
    ) -> Self {
        match decision {
            Decision::Sum(coefficients) => {
                Self::sum(coefficients.clone(), 1.0, weights.len(), inputs)
            }
            Decision::Rows(mixing) => {
                let is_grouped = recipe
                    .before
                    .iter()
                    .any(|stage| matches!(stage, Before::Bucketing { .. }));
                let row_weights = if is_grouped {
                    vec![1.0; mixing.nrows()]
                } else {
                    weights.to_vec()
                };
                let Some(divides) = divides(recipe.method) else {
                    return Self::of_rows(recipe.method, mixing, &row_weights, inputs);
                };
                let divisor = if divides {
                    row_weights.iter().sum()
                } else {
                    1.0
                };
                Self::sum(mixed(mixing, &row_weights), divisor, weights.len(), inputs)
            }
        }
    }

    /// `Σ aᵢxᵢ / divisor`: linear rules need no mixed rows, however long the chain before them.
    fn sum(coefficients: Vec<f64>, divisor: f64, clients: usize, inputs: usize) -> Self {
        let mut coefficients = coefficients;
        coefficients.resize(inputs, 0.0);
        let wanted: Vec<bool> = coefficients
            .iter()
            .map(|coefficient| *coefficient != 0.0)
            .collect();
        let rows = || (0..inputs).filter(|&row| wanted[row]);
        Self {
            rule: Rule::WeightedSum {
                weights: rows().map(|row| coefficients[row]).collect(),
                divisor,
            },
            origins: rows().map(Origin::Row).collect(),
            weights: coefficients[..clients]
                .iter()
                .map(|coefficient| coefficient / divisor)
                .collect(),
            wanted,
        }
    }

    fn of_rows(method: Method, mixing: &Array2<f64>, row_weights: &[f64], inputs: usize) -> Self {
        let mut origins: Vec<Origin> = Vec::with_capacity(mixing.nrows());
        let mut wanted = vec![false; inputs];
        for (number, row) in mixing.outer_iter().enumerate() {
            let earlier = mixing
                .outer_iter()
                .take(number)
                .position(|earlier| earlier == row);
            let origin = earlier.map_or_else(|| origin(row), Origin::Same);
            origins.push(origin);
            for (client, weight) in row.iter().enumerate() {
                wanted[client] |= *weight != 0.0;
            }
        }
        let rows = count(mixing.nrows());
        Self {
            rule: Rule::of(method, row_weights, mixing.nrows()),
            origins,
            wanted,
            weights: mixed(mixing, &vec![1.0 / rows; mixing.nrows()]),
        }
    }

    /// Whether rows are made by arithmetic.
    pub(super) fn mixes(&self) -> bool {
        let is_made = |origin: &Origin| matches!(origin, Origin::Combination(_));
        self.origins.iter().any(is_made)
    }
}

/// Whether a weighted sum divides by the weights; none where the rule is no weighted sum.
fn divides(method: Method) -> Option<bool> {
    if let Method::TaskArithmetic { normalize } = method {
        Some(normalize)
    } else {
        matches!(method, Method::Mean).then_some(true)
    }
}

fn origin(row: ArrayView1<'_, f64>) -> Origin {
    let entries: Vec<(usize, f64)> = row
        .iter()
        .copied()
        .enumerate()
        .filter(|(_, weight)| *weight != 0.0)
        .collect();
    match entries[..] {
        [(client, 1.0)] => Origin::Row(client),
        _ => Origin::Combination(entries),
    }
}

/// `Wᵀω`
fn mixed(mixing: &Array2<f64>, row_weights: &[f64]) -> Vec<f64> {
    let mut sums = vec![0.0; mixing.ncols()];
    for (row, weight) in mixing.outer_iter().zip(row_weights) {
        for (sum, share) in sums.iter_mut().zip(row) {
            *sum += weight * share;
        }
    }
    sums
}

#[expect(clippy::cast_precision_loss, reason = "counts of rows are small")]
fn count(rows: usize) -> f64 {
    rows as f64
}

/// Puts the rows of an arrangement together from the clients': as they are where possible, else made in `room`, `stride` values each.
pub(super) fn arrange<'a, T: Element>(
    origins: &[Origin],
    clients: &[&'a [T]],
    room: &'a mut [T],
    stride: usize,
    len: usize,
) -> Vec<&'a [T]> {
    let mut rows: Vec<&'a [T]> = Vec::with_capacity(origins.len());
    let mut sums = Vec::new();
    let mut rooms = room.chunks_exact_mut(stride);
    for origin in origins {
        rows.push(match origin {
            Origin::Row(client) => clients[*client],
            Origin::Same(row) => rows[*row],
            Origin::Combination(entries) => {
                let room = rooms.next().expect("room for every row that is made");
                let room = &mut room[..len];
                sums.resize(len, 0.0);
                combine(entries, clients, &mut sums, room);
                room
            }
        });
    }
    rows
}

/// `Σ wᵢxᵢ`, rounded once.
fn combine<T: Element>(
    entries: &[(usize, f64)],
    clients: &[&[T]],
    sums: &mut [f64],
    out: &mut [T],
) {
    vectorized(
        #[inline(always)]
        || {
            sums.fill(0.0);
            for &(client, weight) in entries {
                for (sum, value) in sums.iter_mut().zip(clients[client]) {
                    *sum += weight * value.widen();
                }
            }
            for (out, sum) in out.iter_mut().zip(&*sums) {
                *out = T::nearest(*sum);
            }
        },
    );
}
