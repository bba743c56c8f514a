//! From what was seen on the way to what is told: each client's say, and how the clients agree.

use super::Run;
use super::combine::Step;
use super::correlate::Seen;
use super::measure::Measured;
use crate::coefficients::Decision;
use crate::gram::Gram;
use crate::kernel::products::place;
use crate::plan::Detail;
use crate::report::{ClientDiagnostics, ClientReport, Diagnostics, TensorDiagnostics};

/// Shares of the largest values whose mass is told.
const TOP: [f64; 3] = [0.01, 0.1, 0.2];

/// All that is known when the last block is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) measured: Option<&'a Measured>,
    pub(super) decisions: &'a [Decision],
    pub(super) seen: Option<&'a Seen>,
    pub(super) step: &'a Step,
}

impl Known<'_> {
    /// What the merge saw of each client, and the say it got; over tensors with decisions of their own, weighted by their values.
    pub(super) fn clients(&self, run: Run<'_>) -> Vec<ClientReport> {
        let shares = scope_shares(run, self.step.weights.len());
        let weights: Vec<f64> = (0..run.plan.clients())
            .map(|client| averaged(&shares, |scope| self.step.weights[scope][client]))
            .collect();
        let total: f64 = weights.iter().map(|weight| weight.abs()).sum();
        let whole = self.seen.map(Seen::whole);
        let norm = |client: usize| match (&whole, self.measured) {
            (Some(gram), _) => Some(gram.squared_norm(client).sqrt()),
            (None, Some(measured)) => measured.norm(client),
            (None, None) => None,
        };
        (0..run.plan.clients())
            .map(|client| ClientReport {
                norm: norm(client),
                clip_factor: averaged(&shares, |scope| self.clip_factor(scope, client)),
                weight: weights[client],
                weight_share: if total > 0.0 {
                    weights[client].abs() / total
                } else {
                    0.0
                },
            })
            .collect()
    }

    /// The factor of the client's own row, where each client still has one.
    fn clip_factor(&self, scope: usize, client: usize) -> f64 {
        let Some(Decision::Rows(mixing)) = self.decisions.get(scope) else {
            return 1.0;
        };
        let is_diagonal = mixing.is_square()
            && mixing
                .indexed_iter()
                .all(|((row, column), weight)| row == column || *weight == 0.0);
        if is_diagonal {
            mixing[[client, client]]
        } else {
            1.0
        }
    }

    /// How the clients agree, where the plan asks for it.
    pub(super) fn diagnostics(&self, run: Run<'_>) -> Option<Diagnostics> {
        let seen = self.seen.filter(|_| run.plan.detail() == Detail::Full)?;
        let clients = run.plan.clients();
        let gram = seen.whole();
        let merged = self.step.merged_squares.sqrt();
        let reports = self.clients(run);
        let mean_norm: f64 = reports
            .iter()
            .map(|report| report.weight_share * report.norm.unwrap_or(0.0))
            .sum();
        let (mut trace, mut squares) = (0.0, 0.0);
        for i in 0..clients {
            trace += gram.squared_norm(i);
            for j in 0..clients {
                squares += gram.inner(i, j).powi(2);
            }
        }
        let ones: Vec<f64> = (0..gram.rows())
            .map(|row| if row < clients { 1.0 } else { 0.0 })
            .collect();
        let drift = (gram.rows() > clients).then(|| {
            ratio(
                self.step.products[clients],
                merged * gram.squared_norm(clients).sqrt(),
            )
        });
        Some(Diagnostics {
            cosines: matrix(clients, |i, j| cosine(&gram, i, j)),
            effective_clients: ratio(trace * trace, squares),
            gradient_diversity: ratio(trace, gram.squared_norm_of(&ones)),
            shrinkage: ratio(merged, mean_norm),
            drift,
            clients: (0..clients)
                .map(|client| self.client(run, seen, &gram, client))
                .collect(),
            tensors: tensors(run, seen),
            overlaps: overlaps(run, seen),
        })
    }

    fn client(&self, run: Run<'_>, seen: &Seen, gram: &Gram, client: usize) -> ClientDiagnostics {
        let (mut mass, mut against, mut previous) = (0.0, 0.0, [0.0; 2]);
        let (mut active, mut alone) = (0, 0);
        for counted in seen.counted.iter().flatten() {
            let counts = &counted.signs.clients[client];
            mass += counts.mass;
            against += counts.against;
            active += counts.active;
            alone += counts.alone;
            previous[0] += counted.previous[client][0];
            previous[1] += counted.previous[client][1];
        }
        let values: usize = run
            .plan
            .tensors()
            .iter()
            .map(|tensor| tensor.elements)
            .sum();
        let norm = gram.squared_norm(client).sqrt();
        let distance =
            gram.squared_norm(client) - 2.0 * self.step.products[client] + self.step.merged_squares;
        let others = gram.rows() > run.plan.clients();
        let root = count(values).sqrt();
        let sizes = seen.sizes.as_ref();
        ClientDiagnostics {
            distance: distance.max(0.0).sqrt(),
            disagreement: ratio(against, mass),
            active: ratio(whole(active), count(values)),
            shared_ratio: (alone > 0).then(|| whole(active - alone) / whole(alone)),
            hoyer: if norm > 0.0 {
                ratio(root - mass / norm, root - 1.0).clamp(0.0, 1.0)
            } else {
                0.0
            },
            top_mass: TOP.map(|share| sizes.map_or(0.0, |sizes| sizes.top_mass(client, share))),
            previous: run.inputs.updates[client]
                .previous
                .map(|_| ratio(previous[0], norm * previous[1].sqrt())),
            step: others.then(|| cosine(gram, client, run.plan.clients())),
        }
    }
}

/// The share of the model's values in each scope.
fn scope_shares(run: Run<'_>, scopes: usize) -> Vec<f64> {
    if scopes == 1 {
        return vec![1.0];
    }
    let tensors = run.plan.tensors();
    let total: usize = tensors.iter().map(|tensor| tensor.elements).sum();
    tensors
        .iter()
        .map(|tensor| ratio(count(tensor.elements), count(total)))
        .collect()
}

fn averaged(shares: &[f64], value: impl Fn(usize) -> f64) -> f64 {
    shares
        .iter()
        .enumerate()
        .map(|(scope, share)| share * value(scope))
        .sum()
}

fn tensors(run: Run<'_>, seen: &Seen) -> Vec<TensorDiagnostics> {
    let pairs = run.plan.tensors().iter().zip(&seen.counted);
    pairs
        .map(|(extent, counted)| {
            let signs = counted.as_ref().map(|counted| &counted.signs);
            TensorDiagnostics {
                name: extent.name.clone(),
                conflict_rate: signs.map_or(0.0, |signs| {
                    ratio(whole(signs.conflicts), whole(signs.shared))
                }),
                mass_agreement: signs.map_or(0.0, |signs| ratio(signs.net, signs.mass)),
            }
        })
        .collect()
}

fn overlaps(run: Run<'_>, seen: &Seen) -> Vec<Vec<f64>> {
    let both = |i: usize, j: usize| -> u64 {
        let place = place(i.max(j), i.min(j));
        seen.counted
            .iter()
            .flatten()
            .map(|counted| counted.overlaps[place])
            .sum()
    };
    matrix(run.plan.clients(), |i, j| {
        let common = both(i, j);
        ratio(whole(common), whole(both(i, i) + both(j, j) - common))
    })
}

fn matrix(size: usize, value: impl Fn(usize, usize) -> f64) -> Vec<Vec<f64>> {
    (0..size)
        .map(|i| (0..size).map(|j| value(i, j)).collect())
        .collect()
}

fn cosine(gram: &Gram, i: usize, j: usize) -> f64 {
    let lengths = (gram.squared_norm(i) * gram.squared_norm(j)).sqrt();
    ratio(gram.inner(i, j), lengths).clamp(-1.0, 1.0)
}

/// A quotient that is 0 where there is nothing to divide by.
fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

#[expect(clippy::cast_precision_loss, reason = "counts of values as shares")]
fn count(values: usize) -> f64 {
    values as f64
}

#[expect(clippy::cast_precision_loss, reason = "counts of values as shares")]
fn whole(values: u64) -> f64 {
    values as f64
}
