//! Lineage: an update fine-tunes the base's weights and does not put others in their place.
//!
//! Of a matrix `θ` of the base and its task vector `τ`, the share that is kept is `c = 1 + ⟨τ, θ⟩ / ‖θ‖²`: about 1 after any training
//! from `θ`, however far it went, and about 0 where the weights came from elsewhere: from another model of the same shape, or from this
//! one with its neurons in another order or behind an invertible map, which is as good alone and useless in a merge. A matrix of which
//! less than a quarter is kept is replaced; the update is judged by the share of `‖θ‖²` in such matrices, so that a small one, an adapter
//! that was 0 a round ago, does not count. Nor does one on which so much noise lies that chance alone moves `c` by an eighth or more,
//! `‖τ‖ > ‖θ‖ √n / 8`: that is private, or hostile in a way that its length tells.

use fedmerge_common::checkpoint::{Checkpoint, ReadCheckpointError};
use fedmerge_common::reason::Rejection;
use fedmerge_common::schema::TensorSpec;

/// Matrices with fewer elements say nothing: chance alone may turn them around.
const FEWEST_ELEMENTS: usize = 256;
/// Below this share a matrix is replaced.
const LEAST_KEPT: f64 = 0.25;
/// The standard deviation of the share, over updates of the same length in any direction, above which it means nothing.
const MOST_CHANCE: f64 = 0.125;
/// Sums that go on side by side.
const LANES: usize = 8;

/// What was seen of an update beside its base.
#[derive(Debug)]
pub(super) struct Lineage<'a> {
    base: &'a Checkpoint,
    /// Position in the base of the matrix that is looked at; none of a tensor that says nothing.
    matrix: Option<usize>,
    buffer: Vec<f32>,
    /// Of the matrix so far.
    products: Products,
    /// ‖θ‖² of all matrices, and of those that are replaced.
    whole: f64,
    replaced: f64,
    first: Option<String>,
}

impl<'a> Lineage<'a> {
    pub(super) fn of(base: &'a Checkpoint) -> Self {
        Self {
            base,
            matrix: None,
            buffer: Vec::new(),
            products: Products::default(),
            whole: 0.0,
            replaced: 0.0,
            first: None,
        }
    }

    /// The values that come next are those of this tensor.
    pub(super) fn begin(&mut self, tensor: &TensorSpec) {
        let position = self.base.schema().index_of(tensor.name());
        self.matrix = position.filter(|&position| {
            let of_base = &self.base.schema().tensors()[position];
            of_base.shape().len() > 1
                && of_base.elements() >= FEWEST_ELEMENTS
                && of_base.elements() == tensor.elements()
                && of_base.is_mergeable()
        });
        self.products = Products::default();
    }

    /// Looks at the next values, from `offset` on.
    ///
    /// # Errors
    /// When the base cannot be read.
    pub(super) fn compare(
        &mut self,
        offset: usize,
        values: &[f32],
    ) -> Result<(), ReadCheckpointError> {
        let Some(position) = self.matrix else {
            return Ok(());
        };
        self.buffer.resize(values.len(), 0.0);
        self.base.read_f32(position, offset, &mut self.buffer)?;
        self.products.add(values, &self.buffer);
        Ok(())
    }

    /// The tensor is over.
    pub(super) fn end(&mut self, tensor: &TensorSpec) {
        let Products {
            along,
            square,
            length,
        } = self.products;
        if self.matrix.is_none() || square == 0.0 {
            return;
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "tensors have fewer than 2^52 elements"
        )]
        let chance = (length / square / tensor.elements() as f64).sqrt();
        if chance > MOST_CHANCE {
            return;
        }
        self.whole += square;
        let kept = 1.0 + along / square;
        if kept.abs() < LEAST_KEPT {
            self.replaced += square;
            let name = || tensor.name().to_owned();
            self.first.get_or_insert_with(name);
        }
    }

    /// Judges all that was looked at.
    ///
    /// # Errors
    /// When more is replaced than may be.
    pub(super) fn check(&self, max_replaced: f64) -> Result<(), Rejection> {
        let Some(first) = &self.first else {
            return Ok(());
        };
        let share = self.replaced / self.whole;
        if share <= max_replaced {
            return Ok(());
        }
        Err(Rejection::unrelated(first, share, max_replaced))
    }
}

/// ⟨τ, θ⟩, ‖θ‖² and ‖τ‖² in f64. Values of bases that are not finite, which no training leaves, make them no numbers, and say nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Products {
    along: f64,
    square: f64,
    length: f64,
}

impl Products {
    fn add(&mut self, update: &[f32], base: &[f32]) {
        let mut lanes = [[0.0; 3]; LANES];
        for (update, base) in update.chunks(LANES).zip(base.chunks(LANES)) {
            for (lane, (&update, &base)) in lanes.iter_mut().zip(update.iter().zip(base)) {
                let (update, base) = (f64::from(update), f64::from(base));
                lane[0] += update * base;
                lane[1] += base * base;
                lane[2] += update * update;
            }
        }
        for [along, square, length] in lanes {
            self.along += along;
            self.square += square;
            self.length += length;
        }
    }
}
