//! The clients' task vectors as one small matrix: their inner products, block-centred and augmented.
//!
//! The engine does not hold `⟨xᵢ, xⱼ⟩`, from which small distances between large vectors cannot be had: their digits cancel. It holds the
//! inner products of `yᵢ = xᵢ − m` and of `m`, where `m` is the mean of the clients at each coordinate as rounded once:
//! `Ĝ = [[K, c], [cᵀ, q]]`, `K = ⟨yᵢ, yⱼ⟩`, `c = ⟨yᵢ, m⟩`, `q = ⟨m, m⟩`. Then `‖xᵢ − xⱼ‖² = Kᵢᵢ + Kⱼⱼ − 2Kᵢⱼ` with all its digits, and
//! `⟨xᵢ, xⱼ⟩ = Kᵢⱼ + cᵢ + cⱼ + q`. A combination `Σ aᵢxᵢ` has the coefficients `(a, Σa)` over `(y, m)`.
//!
//! Rows after the clients' are other vectors of the same kind: the step before, for one. Squares are never below 0.

use ndarray::{Array1, Array2, ArrayView1, s};

/// Inner products of `rows` vectors, of which the first `clients` are the clients'.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Gram {
    clients: usize,
    /// `(rows + 1)²`, symmetric; the last row and column are those of `m`.
    matrix: Array2<f64>,
}

impl Gram {
    /// A matrix of `rows + 1` rows, the last being the centre's.
    pub(crate) fn new(clients: usize, matrix: Array2<f64>) -> Self {
        debug_assert!(
            matrix.is_square() && matrix.nrows() > clients,
            "all rows, and the centre's"
        );
        Self { clients, matrix }
    }

    /// The matrix of clients of whom only the lengths are known, as if no two had anything in common: good for lengths alone.
    pub(crate) fn of_norms(norms: &[f64]) -> Self {
        let mut matrix = Array2::zeros((norms.len() + 1, norms.len() + 1));
        for (slot, norm) in matrix.diag_mut().iter_mut().zip(norms) {
            *slot = norm * norm;
        }
        Self::new(norms.len(), matrix)
    }

    /// How many clients there are.
    pub(crate) fn clients(&self) -> usize {
        self.clients
    }

    /// How many vectors there are: the clients', then others.
    pub(crate) fn rows(&self) -> usize {
        self.matrix.nrows() - 1
    }

    /// `⟨xᵢ, xⱼ⟩`
    pub(crate) fn inner(&self, i: usize, j: usize) -> f64 {
        let m = self.rows();
        self.matrix[[i, j]] + (self.matrix[[i, m]] + self.matrix[[j, m]]) + self.matrix[[m, m]]
    }

    /// `‖xᵢ‖²`
    pub(crate) fn squared_norm(&self, i: usize) -> f64 {
        self.inner(i, i).max(0.0)
    }

    /// `‖xᵢ − xⱼ‖²`
    pub(crate) fn squared_distance(&self, i: usize, j: usize) -> f64 {
        (self.matrix[[i, i]] + self.matrix[[j, j]] - 2.0 * self.matrix[[i, j]]).max(0.0)
    }

    /// `‖xᵢ − Σ aⱼxⱼ‖²`, for `a` over all rows.
    pub(crate) fn squared_distance_to(&self, i: usize, a: &[f64]) -> f64 {
        let mut difference = Array1::zeros(self.rows() + 1);
        for (slot, a) in difference.iter_mut().zip(a) {
            *slot = -a;
        }
        difference[i] += 1.0;
        difference[self.rows()] = 1.0 - a.iter().sum::<f64>();
        self.square(difference.view())
    }

    /// `‖Σ aᵢxᵢ‖²`, for `a` over all rows.
    pub(crate) fn squared_norm_of(&self, a: &[f64]) -> f64 {
        self.square(self.augmented(a).view())
    }

    /// The matrix `K` of the clients: inner products of `xᵢ − m`.
    pub(crate) fn centred(&self) -> Array2<f64> {
        let clients = self.clients;
        self.matrix.slice(s![..clients, ..clients]).to_owned()
    }

    /// The matrix of new vectors, each a combination `Σ wᵤᵢxᵢ` of the clients': one row of `mixing` each. Rows after the clients' stay.
    pub(crate) fn mixed(&self, mixing: &Array2<f64>) -> Self {
        debug_assert_eq!(mixing.ncols(), self.clients, "a weight for each client");
        let (old, others) = (self.rows(), self.rows() - self.clients);
        let new = mixing.nrows() + others;
        let mut change = Array2::zeros((new + 1, old + 1));
        for (u, weights) in mixing.outer_iter().enumerate() {
            change.slice_mut(s![u, ..self.clients]).assign(&weights);
            // x'ᵤ − m = Σ wᵢyᵢ + (Σwᵢ − 1) m
            change[[u, old]] = weights.sum() - 1.0;
        }
        for other in 0..=others {
            change[[mixing.nrows() + other, self.clients + other]] = 1.0;
        }
        let half = product(&change, &self.matrix);
        // One of two halves, mirrored: the distance from i to j is that from j to i, to the bit.
        let at = |(i, j): (usize, usize)| half.row(i.min(j)).dot(&change.row(i.max(j)));
        let matrix = Array2::from_shape_fn((new + 1, new + 1), at);
        Self::new(mixing.nrows(), matrix)
    }

    fn augmented(&self, a: &[f64]) -> Array1<f64> {
        debug_assert_eq!(a.len(), self.rows(), "a coefficient for each row");
        a.iter().copied().chain([a.iter().sum()]).collect()
    }

    fn square(&self, coefficients: ArrayView1<'_, f64>) -> f64 {
        coefficients.dot(&self.matrix.dot(&coefficients)).max(0.0)
    }
}

/// The product of two matrices with its order of summation written out; a row with the weight 0 is not looked at.
///
/// `ndarray`'s own product of matrices fuses multiplications and additions where the processor can, and gives other bits there.
pub(crate) fn product(left: &Array2<f64>, right: &Array2<f64>) -> Array2<f64> {
    debug_assert_eq!(left.ncols(), right.nrows(), "a row for each weight");
    let mut out = Array2::zeros((left.nrows(), right.ncols()));
    for (weights, mut sum) in left.outer_iter().zip(out.outer_iter_mut()) {
        for (&weight, row) in weights.iter().zip(right.outer_iter()) {
            if weight != 0.0 {
                sum.scaled_add(weight, &row);
            }
        }
    }
    out
}

#[cfg(test)]
impl Gram {
    /// The matrix of vectors that are at hand; the first `clients` of them are the clients'.
    pub(crate) fn of(clients: usize, vectors: &[Vec<f64>]) -> Self {
        let count = f64::from(u32::try_from(clients).expect("few"));
        let length = vectors[0].len();
        let centre: Vec<f64> = (0..length)
            .map(|at| {
                vectors[..clients]
                    .iter()
                    .map(|vector| vector[at])
                    .sum::<f64>()
                    / count
            })
            .collect();
        let mut rows: Vec<Vec<f64>> = vectors
            .iter()
            .map(|vector| vector.iter().zip(&centre).map(|(x, m)| x - m).collect())
            .collect();
        rows.push(centre);
        let dot = |(i, j): (usize, usize)| rows[i].iter().zip(&rows[j]).map(|(a, b)| a * b).sum();
        Self::new(
            clients,
            Array2::from_shape_fn((rows.len(), rows.len()), dot),
        )
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    fn is_near(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-12 * (1.0 + b.abs())
    }

    #[test]
    fn products_distances_and_mixtures_are_those_of_the_vectors() {
        let vectors = [
            vec![1.0, 2.0, -3.0],
            vec![0.5, -1.0, 4.0],
            vec![9.0, 0.0, 1.0],
            vec![-2.0, 2.0, 2.0],
        ];
        let gram = Gram::of(3, &vectors);
        let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
        for i in 0..4 {
            for j in 0..4 {
                assert!(is_near(gram.inner(i, j), dot(&vectors[i], &vectors[j])));
            }
        }
        assert!(is_near(gram.squared_distance(0, 3), 9.0 + 0.0 + 25.0));
        let mixing = array![[0.5, 0.5, 0.0], [0.0, 0.0, 0.25]];
        let mixed: Vec<Vec<f64>> = vec![
            vec![0.75, 0.5, 0.5],
            vec![2.25, 0.0, 0.25],
            vectors[3].clone(),
        ];
        let (of_gram, of_vectors) = (gram.mixed(&mixing), Gram::of(2, &mixed));
        assert_eq!((of_gram.clients(), of_gram.rows()), (2, 3));
        for i in 0..3 {
            for j in 0..3 {
                assert!(is_near(of_gram.inner(i, j), of_vectors.inner(i, j)));
                assert!(is_near(
                    of_gram.squared_distance(i, j),
                    of_vectors.squared_distance(i, j)
                ));
            }
        }
        let a = [0.2, 0.3, 0.0, 2.0];
        let sum: Vec<f64> = (0..3)
            .map(|at| (0..4).map(|i| a[i] * vectors[i][at]).sum())
            .collect();
        assert!(is_near(gram.squared_norm_of(&a), dot(&sum, &sum)));
        let apart: Vec<f64> = sum.iter().zip(&vectors[1]).map(|(s, x)| x - s).collect();
        assert!(is_near(
            gram.squared_distance_to(1, &a),
            dot(&apart, &apart)
        ));
    }

    #[test]
    fn lengths_alone_make_a_matrix_that_knows_lengths() {
        let gram = Gram::of_norms(&[3.0, 0.0, 0.5]);
        assert_eq!((gram.clients(), gram.rows()), (3, 3));
        let lengths: Vec<f64> = (0..3).map(|i| gram.squared_norm(i).sqrt()).collect();
        assert_eq!(lengths, [3.0, 0.0, 0.5]);
        let scaled = gram.mixed(&array![[0.5, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 2.0]]);
        assert!(is_near(scaled.squared_norm(0), 2.25) && is_near(scaled.squared_norm(2), 1.0));
    }

    #[test]
    fn mixtures_are_as_far_from_each_other_either_way_and_alike_where_their_weights_are() {
        let vectors: Vec<Vec<f64>> = (0..11_u8)
            .map(|i| (0..5_u8).map(|at| f64::from(i * 5 + at).sqrt()).collect())
            .collect();
        let mixing = Array2::from_shape_fn(
            (12, 11),
            |(u, i)| if (u / 2 + i) % 3 == 0 { 0.25 } else { 0.0 },
        );
        let mixed = Gram::of(11, &vectors).mixed(&mixing);
        for i in 0..12 {
            for j in 0..12 {
                assert_eq!(
                    mixed.squared_distance(i, j).to_bits(),
                    mixed.squared_distance(j, i).to_bits()
                );
            }
        }
        assert_eq!(mixed.squared_distance(0, 1).to_bits(), 0.0_f64.to_bits());
    }
}
