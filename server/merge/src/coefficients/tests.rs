//! Vectors at hand for the tests of rules that see inner products alone.

mod chain;
mod golden;
mod known;
mod laws;
mod naive;
mod odd;
mod robust;

use super::*;
use crate::recipe::{ClipNorm, Neighbours, Start};

type Vectors = Vec<Vec<f64>>;

/// Numbers by chance, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        let high = self.0 ^ (self.0 >> 33);
        high.wrapping_mul(0xff51_afd7_ed55_8ccd) >> 32
    }

    /// From −1 to 1.
    fn number(&mut self) -> f64 {
        f64::from(u32::try_from(self.next()).unwrap()) / f64::from(u32::MAX) * 2.0 - 1.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next()).unwrap() % bound
    }

    fn vectors(&mut self, clients: usize, length: usize) -> Vectors {
        (0..clients)
            .map(|_| (0..length).map(|_| self.number()).collect())
            .collect()
    }

    fn order(&mut self, clients: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..clients).collect();
        for at in (1..clients).rev() {
            order.swap(at, self.below(at + 1));
        }
        order
    }
}

fn combined<'a>(weights: impl IntoIterator<Item = &'a f64>, vectors: &[Vec<f64>]) -> Vec<f64> {
    let mut sum = vec![0.0; vectors[0].len()];
    for (weight, vector) in weights.into_iter().zip(vectors) {
        for (sum, value) in sum.iter_mut().zip(vector) {
            *sum += weight * value;
        }
    }
    sum
}

fn decided(recipe: &Recipe, vectors: &[Vec<f64>], trusted: Option<usize>) -> Decision {
    let context = Context {
        trusted,
        ..Context::default()
    };
    decide(recipe, &Gram::of(vectors.len(), vectors), &context).decision
}

/// The weights of a rule that ends in a sum.
fn weights(recipe: &Recipe, vectors: &[Vec<f64>]) -> Vec<f64> {
    match decided(recipe, vectors, Some(0)) {
        Decision::Sum(weights) => weights,
        Decision::Rows(_) => panic!("{} is a sum", recipe.method.name()),
    }
}

/// The merged vector of a rule that ends in a sum.
fn merged(recipe: &Recipe, vectors: &[Vec<f64>]) -> Vec<f64> {
    combined(&weights(recipe, vectors), vectors)
}

/// The vectors that a coordinate-wise rule sees.
fn rows(recipe: &Recipe, vectors: &[Vec<f64>]) -> Vectors {
    match decided(recipe, vectors, Some(0)) {
        Decision::Rows(mixing) => mixing
            .outer_iter()
            .map(|row| combined(row, vectors))
            .collect(),
        Decision::Sum(_) => panic!("{} works coordinate by coordinate", recipe.method.name()),
    }
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b) * (a - b))
        .sum::<f64>()
        .sqrt()
}

fn length(vector: &[f64]) -> f64 {
    vector.iter().map(|value| value * value).sum::<f64>().sqrt()
}

#[track_caller]
fn assert_near(actual: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    let largest = expected
        .iter()
        .fold(0.0_f64, |most, value| most.max(value.abs()));
    for (a, b) in actual.iter().zip(expected) {
        assert!(
            (a - b).abs() <= tolerance * largest,
            "{what}: {a} is not {b}"
        );
    }
}

fn recipe(before: &[Before], method: Method) -> Recipe {
    Recipe {
        before: before.to_vec(),
        ..Recipe::of(method)
    }
}

/// A rule that takes what it is given, coordinate by coordinate.
const PLAIN: Method = Method::Mean;

const CONVERGED: Method = Method::GeometricMedian {
    nu: 1e-9,
    iterations: 3000,
    start: Start::Mean,
};

fn krum(tolerate: usize) -> Method {
    Method::Krum {
        tolerate,
        neighbours: Neighbours::Byzfl,
    }
}

fn multi_krum(tolerate: usize) -> Method {
    Method::MultiKrum {
        tolerate,
        neighbours: Neighbours::Byzfl,
        selected: None,
    }
}

/// Every rule that ends in a sum.
fn sums(tolerate: usize) -> Vec<Method> {
    vec![
        krum(tolerate),
        Method::Krum {
            tolerate,
            neighbours: Neighbours::Paper,
        },
        multi_krum(tolerate),
        Method::MultiKrum {
            tolerate,
            neighbours: Neighbours::Paper,
            selected: Some(2),
        },
        CONVERGED,
        Method::GeometricMedian {
            nu: 0.1,
            iterations: 3,
            start: Start::Zero,
        },
        Method::CenteredClipping {
            radius: 0.5,
            iterations: 3,
        },
        Method::Mda { tolerate },
        Method::Caf { tolerate },
        Method::Dnc {
            tolerate,
            drop: 1.5,
        },
        Method::Fltrust,
        Method::Flame,
        Method::Monna { tolerate },
    ]
}
