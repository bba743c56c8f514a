//! Arithmetic on short runs of numbers, without any notion of tensors or clients' identity.
//!
//! Every function here gives the same bits for the same input on every machine: orders of summation are written out.

pub(crate) mod sort;

/// Values of all clients for one block, client by client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'a> {
    values: &'a [f32],
    stride: usize,
    len: usize,
}

impl<'a> Rows<'a> {
    /// Rows of `len` values, each `stride` values after the one before; `len <= stride`.
    pub(crate) fn new(values: &'a [f32], stride: usize, len: usize) -> Self {
        Self {
            values,
            stride,
            len,
        }
    }

    /// How many values each row has.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The rows in the clients' order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &'a [f32]> {
        let len = self.len;
        self.values
            .chunks_exact(self.stride)
            .map(move |row| &row[..len])
    }
}

/// The nearest `f32`, ties to even; beyond its range an infinity.
#[expect(clippy::cast_possible_truncation, reason = "rounding is the purpose")]
pub(crate) fn round(value: f64) -> f32 {
    value as f32
}

/// The sum of squares: eight running sums, folded in order.
pub(crate) fn sum_of_squares<T: Copy + Into<f64>>(values: &[T]) -> f64 {
    let mut sums = [0.0_f64; 8];
    for chunk in values.chunks(8) {
        for (sum, &value) in sums.iter_mut().zip(chunk) {
            let value: f64 = value.into();
            *sum += value * value;
        }
    }
    sums.iter().sum()
}
