//! The rules that need no more of the clients' task vectors than their inner products: each with its paper in its own file.
//!
//! Straight line: the stages before the method become one mixing matrix over the clients, the method becomes coefficients of the mixed
//! vectors, and both are carried back to the vectors as they are stored. What is decided here is small (`N × N`); the engine reads the
//! vectors once more to apply it. Example counts play no role: they are claims of the clients, and weighing by them would void a bound.
//!
//! Invariant: ties go to the client with the smaller index, all sums have one order, and no input panics. Vectors that are alike or zero
//! never make a NaN. Inputs that are not finite are the intake's business: they make some result, the same each time.

mod arc;
mod bucketing;
mod bulyan;
mod caf;
mod centered_clipping;
mod clip;
mod distances;
mod dnc;
mod flame;
mod fltrust;
mod geometric_median;
mod krum;
mod mda;
mod monna;
mod nnm;
mod rank;
mod spectrum;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests;

use ndarray::{Array2, Axis};

use crate::gram::{Gram, product};
use crate::recipe::{Before, Method, Recipe};

/// What is known beside the inner products.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Context {
    /// The client that is trusted; without one, rules that compare with it make no step.
    pub(crate) trusted: Option<usize>,
    /// The limit of the lineage, for the adaptive clip.
    pub(crate) clip_limit: Option<f64>,
    /// What is added to the count that moves it.
    pub(crate) count_noise: f64,
    /// The row of the step before, for centered clipping.
    pub(crate) previous: Option<usize>,
}

/// What was decided for one group of tensors.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Decision {
    /// The merged task vector is `Σ aᵢxᵢ`, over all rows of the Gram matrix: clients, then others.
    Sum(Vec<f64>),
    /// Rows for the coordinate-wise rule, each a combination of the clients' task vectors.
    Rows(Array2<f64>),
}

/// A decision, and what the lineage keeps of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outcome {
    /// What is done with the vectors.
    pub(crate) decision: Decision,
    /// The limit of the next merge, if the recipe has an adaptive one.
    pub(crate) clip_limit: Option<f64>,
}

/// What of the Gram matrix a recipe looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Nothing: there is nothing to decide, every client is a row of its own.
    Nothing,
    /// Lengths at most: [`Gram::of_norms`] will do.
    Norms,
    /// All of it.
    Gram,
}

/// What of the Gram matrix the recipe looks at.
pub(crate) fn needs(recipe: &Recipe) -> Needs {
    if recipe.method.is_of_the_gram() {
        return Needs::Gram;
    }
    let mut needs = Needs::Nothing;
    let mut is_grouped = false;
    for stage in &recipe.before {
        match stage {
            // The length of a mean is not in the lengths of its parts.
            Before::Clip { .. } | Before::Arc { .. } if is_grouped => return Needs::Gram,
            Before::Clip { .. } | Before::Arc { .. } => {}
            Before::Bucketing { .. } => is_grouped = true,
            Before::Nnm { .. } => return Needs::Gram,
        }
        needs = Needs::Norms;
    }
    needs
}

/// Decides for one group of tensors what their Gram matrix and the recipe say.
pub(crate) fn decide(recipe: &Recipe, gram: &Gram, context: &Context) -> Outcome {
    let mut mixed = gram.clone();
    let mut mixing = Array2::eye(gram.clients());
    let mut clip_limit = None;
    for (position, stage) in recipe.before.iter().enumerate() {
        let change = match *stage {
            Before::Clip { norm } => {
                let (change, next) = clip::mixing(&mixed, norm, context);
                clip_limit = clip_limit.or(next);
                change
            }
            Before::Arc { tolerate } => arc::mixing(&mixed, tolerate),
            Before::Nnm { tolerate } => nnm::mixing(&mixed, tolerate),
            Before::Bucketing { size } => {
                bucketing::mixing(mixed.clients(), size, recipe.seed, position)
            }
        };
        mixed = mixed.mixed(&change);
        mixing = product(&change, &mixing);
    }
    let decision = match coefficients(recipe.method, &mixed, &moved(context, gram, &mixed)) {
        Coefficients::None => Decision::Rows(mixing),
        Coefficients::Rows(chosen) => Decision::Rows(mixing.select(Axis(0), &chosen)),
        Coefficients::Sum(sum) => {
            let (clients, others) = sum.split_at(mixed.clients());
            let clients = Array2::from_shape_fn((1, clients.len()), |(_, u)| clients[u]);
            let mut sum = product(&clients, &mixing).into_raw_vec_and_offset().0;
            sum.extend_from_slice(others);
            sum.resize(gram.rows(), 0.0);
            Decision::Sum(sum)
        }
    };
    Outcome {
        decision,
        clip_limit,
    }
}

/// The context with its rows as they are after mixing: those of others come after the clients', of whom there may be fewer now.
fn moved(context: &Context, gram: &Gram, mixed: &Gram) -> Context {
    let other = |row: usize| row.checked_sub(gram.clients());
    Context {
        trusted: context.trusted.filter(|&row| row < mixed.clients()),
        clip_limit: context.clip_limit,
        count_noise: context.count_noise,
        previous: context
            .previous
            .and_then(other)
            .map(|other| mixed.clients() + other)
            .filter(|&row| row < mixed.rows()),
    }
}

/// What a method makes of mixed vectors.
enum Coefficients {
    /// Nothing: it works coordinate by coordinate.
    None,
    /// The mixed vectors that it goes on with, coordinate by coordinate.
    Rows(Vec<usize>),
    /// Coefficients of the mixed vectors, and of others where there are as many as rows.
    Sum(Vec<f64>),
}

fn coefficients(method: Method, gram: &Gram, context: &Context) -> Coefficients {
    let clients = gram.clients();
    let sum = match method {
        Method::Mean
        | Method::Median { .. }
        | Method::TrimmedMean { .. }
        | Method::Meamed { .. }
        | Method::Phocas { .. }
        | Method::SignMajority
        | Method::TaskArithmetic { .. }
        | Method::Ties(_)
        | Method::Sce { .. }
        | Method::Ram { .. }
        | Method::Magmax
        | Method::Consensus { .. } => return Coefficients::None,
        Method::Bulyan {
            tolerate,
            neighbours,
        } => return Coefficients::Rows(bulyan::chosen(gram, tolerate, neighbours)),
        Method::Krum {
            tolerate,
            neighbours,
        } => krum::weights(gram, tolerate, neighbours, Some(1)),
        Method::MultiKrum {
            tolerate,
            neighbours,
            selected,
        } => krum::weights(gram, tolerate, neighbours, selected),
        Method::GeometricMedian {
            nu,
            iterations,
            start,
        } => geometric_median::weights(gram, nu, iterations, start),
        Method::CenteredClipping { radius, iterations } => {
            centered_clipping::coefficients(gram, context.previous, radius, iterations)
        }
        Method::Mda { tolerate } => mda::weights(gram, tolerate),
        Method::Caf { tolerate } => caf::weights(gram, tolerate),
        Method::Dnc { tolerate, drop } => dnc::weights(gram, tolerate, drop),
        Method::Flame => flame::weights(gram),
        Method::Fltrust => match context.trusted {
            Some(trusted) => fltrust::weights(gram, trusted),
            None => vec![0.0; clients],
        },
        Method::Monna { tolerate } => match context.trusted {
            Some(trusted) => monna::weights(gram, tolerate, trusted),
            None => vec![0.0; clients],
        },
    };
    Coefficients::Sum(sum)
}

/// A small number of clients as a number to calculate with.
#[expect(
    clippy::cast_precision_loss,
    reason = "there are fewer than 2^53 clients"
)]
fn number(count: usize) -> f64 {
    count as f64
}

/// The weights of the plain mean of those who are chosen.
fn mean_of(chosen: &[usize], clients: usize) -> Vec<f64> {
    let mut weights = vec![0.0; clients];
    for &client in chosen {
        weights[client] = 1.0 / number(chosen.len());
    }
    weights
}

/// The Euclidean lengths of the clients' vectors.
fn lengths(gram: &Gram) -> Vec<f64> {
    (0..gram.clients())
        .map(|client| gram.squared_norm(client).sqrt())
        .collect()
}
