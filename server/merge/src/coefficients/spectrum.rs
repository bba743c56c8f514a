//! Eigenvalues and eigenvectors of small symmetric matrices, and the direction in which vectors vary most.
//!
//! Cyclic Jacobi rotations (Golub, Van Loan, "Matrix Computations", §8.5): pairs in the order of rows, so the same matrix gives the same
//! bits; only additions, multiplications, divisions and square roots. Ends after a fixed number of rounds whatever the matrix holds.

use std::mem;

use ndarray::{Array1, Array2};

/// More rounds than any matrix of numbers needs: convergence is quadratic.
const MOST_ROUNDS: usize = 32;

/// A matrix by its rows.
pub(super) type Square = Vec<Vec<f64>>;

/// Eigenvalues, the largest first, and a unit eigenvector of each.
pub(super) struct Spectrum {
    pub(super) values: Vec<f64>,
    pub(super) vectors: Square,
}

impl Spectrum {
    /// That of a symmetric matrix.
    pub(super) fn of(mut matrix: Square) -> Self {
        let size = matrix.len();
        let mut vectors: Square = vec![vec![0.0; size]; size];
        for (at, vector) in vectors.iter_mut().enumerate() {
            vector[at] = 1.0;
        }
        let entries = matrix.iter().flatten();
        let largest = entries.fold(0.0_f64, |most, entry| most.max(entry.abs()));
        let negligible = largest * f64::EPSILON;
        for _ in 0..MOST_ROUNDS {
            if !Rotation::turn_all(&mut matrix, &mut vectors, negligible) {
                break;
            }
        }
        let mut order: Vec<usize> = (0..size).collect();
        order.sort_by(|&a, &b| matrix[b][b].total_cmp(&matrix[a][a]).then(a.cmp(&b)));
        Self {
            values: order.iter().map(|&at| matrix[at][at]).collect(),
            vectors: order
                .iter()
                .map(|&at| mem::take(&mut vectors[at]))
                .collect(),
        }
    }
}

/// A rotation in the plane of two axes.
struct Rotation {
    p: usize,
    q: usize,
    tangent: f64,
    cosine: f64,
    sine: f64,
}

impl Rotation {
    /// Clears each entry beside the diagonal once; false where there was none to clear.
    fn turn_all(matrix: &mut Square, vectors: &mut Square, negligible: f64) -> bool {
        let mut has_turned = false;
        for p in 0..matrix.len() {
            for q in p + 1..matrix.len() {
                if let Some(rotation) = Self::that_clears(matrix, p, q, negligible) {
                    has_turned = true;
                    rotation.turn(matrix, vectors);
                }
            }
        }
        has_turned
    }

    /// The smaller one that makes the entry at `(p, q)` 0; none where that is as good as 0 already, or no number.
    fn that_clears(matrix: &Square, p: usize, q: usize, negligible: f64) -> Option<Self> {
        let between = matrix[p][q];
        if between.is_nan() || between.abs() <= negligible {
            return None;
        }
        let theta = (matrix[q][q] - matrix[p][p]) / (2.0 * between);
        let tangent = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
        let cosine = 1.0 / (tangent * tangent + 1.0).sqrt();
        Some(Self {
            p,
            q,
            tangent,
            cosine,
            sine: tangent * cosine,
        })
    }

    /// Turns the matrix from both sides and the vectors from one.
    fn turn(&self, matrix: &mut Square, vectors: &mut Square) {
        let (p, q) = (self.p, self.q);
        let (mut first, mut last) = (mem::take(&mut matrix[p]), mem::take(&mut matrix[q]));
        let shift = self.tangent * first[q];
        let corners = (first[p] - shift, last[q] + shift);
        self.turn_pair(&mut first, &mut last);
        ((first[p], first[q]), (last[p], last[q])) = ((corners.0, 0.0), (0.0, corners.1));
        // Outside the plane, columns are what rows are.
        for ((row, first), last) in matrix.iter_mut().zip(&first).zip(&last) {
            if !row.is_empty() {
                (row[p], row[q]) = (*first, *last);
            }
        }
        (matrix[p], matrix[q]) = (first, last);
        let (mut first, mut last) = (mem::take(&mut vectors[p]), mem::take(&mut vectors[q]));
        self.turn_pair(&mut first, &mut last);
        (vectors[p], vectors[q]) = (first, last);
    }

    fn turn_pair(&self, first: &mut [f64], last: &mut [f64]) {
        for (first, last) in first.iter_mut().zip(last) {
            (*first, *last) = (
                self.cosine * *first - self.sine * *last,
                self.sine * *first + self.cosine * *last,
            );
        }
    }
}

/// The direction `v` of the largest variance.
pub(super) struct Widest {
    /// The variance along it.
    pub(super) variance: f64,
    /// `⟨xᵢ − μ, v⟩²`, up to one common factor.
    pub(super) scores: Vec<f64>,
}

/// The direction in which weighted vectors vary most, from the inner products `K` of the centred vectors; the weights add up to 1.
///
/// With `H = I − 1wᵀ` and `Kc = HKHᵀ`, the covariance has the eigenvalues of `diag(√w) Kc diag(√w)`, and to its unit eigenvector `u`
/// belong the projections `Kc(√w ∘ u) / √λ`. Whoever has no weight takes no part in the decomposition.
pub(super) fn widest(centred: &Array2<f64>, weights: &[f64]) -> Widest {
    let weights = Array1::from(weights.to_vec());
    let means = centred.dot(&weights);
    let mean = weights.dot(&means);
    let about = |(i, j): (usize, usize)| centred[[i, j]] - (means[i] + means[j]) + mean;
    let about = Array2::from_shape_fn(centred.dim(), about);
    let roots = weights.mapv(f64::sqrt);
    let heard: Vec<usize> = (0..roots.len()).filter(|&i| roots[i] > 0.0).collect();
    let row = |&i: &usize| {
        heard
            .iter()
            .map(|&j| roots[i] * roots[j] * about[[i, j]])
            .collect()
    };
    let spectrum = Spectrum::of(heard.iter().map(row).collect());
    let mut axis = Array1::zeros(roots.len());
    for (&client, along) in heard.iter().zip(spectrum.vectors.iter().flatten()) {
        axis[client] = roots[client] * along;
    }
    Widest {
        variance: spectrum.values.first().map_or(0.0, |value| value.max(0.0)),
        scores: about.dot(&axis).mapv(|along| along * along).to_vec(),
    }
}
