//! Reading one block of every task vector, and lining it up as rows of the type that the merge works in.
//!
//! Where a source lends values of that very type, nothing is copied.

use super::{MergeError, Run};
use crate::block::Values;
use crate::kernel::{Element, Rows, first_non_finite};
use crate::plan::Block;

/// What becomes of coordinates that were not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absent {
    /// They stay marked, for rules that leave them out.
    Marked,
    /// They count as no change.
    Zero,
}

/// Room for the rows of a block: as they are read, and as they are worked on.
#[derive(Debug)]
pub(super) struct Room<T> {
    pub(super) raw: Vec<f32>,
    pub(super) rows: Vec<T>,
    stride: usize,
}

impl<T: Element> Room<T> {
    /// For `rows` rows of `stride` values.
    pub(super) fn new(rows: usize, stride: usize) -> Self {
        Self {
            raw: vec![0.0; rows * stride],
            rows: vec![T::default(); rows * stride],
            stride,
        }
    }

    /// What it takes, in bytes.
    pub(crate) fn bytes(rows: usize, stride: usize) -> Option<usize> {
        rows.checked_mul(stride)?
            .checked_mul(size_of::<f32>() + size_of::<T>())
    }

    /// Reads a block of all clients, and of the step before where it is given and wanted.
    pub(super) fn load<'a>(
        &'a mut self,
        run: Run<'a>,
        block: Block,
        extra: Extra,
    ) -> Result<Vec<&'a [T]>, MergeError> {
        let values = run.read_all(block, &mut self.raw, self.stride, extra)?;
        let sparse = run
            .inputs
            .updates
            .iter()
            .map(|update| update.source.is_sparse());
        let sparse: Vec<bool> = sparse.chain([false]).collect();
        Ok(line_up(
            &values,
            &sparse,
            Absent::Zero,
            &mut self.rows,
            self.stride,
        ))
    }
}

/// Whether the step before is a row beside the clients'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extra {
    /// It is, where there is one.
    Step,
    /// It is not.
    None,
}

/// The values as rows: lent where they are of the right type, else converted into `rows`.
pub(super) fn line_up<'a, T: Element>(
    values: &[Values<'a>],
    sparse: &[bool],
    absent: Absent,
    rows: &'a mut [T],
    stride: usize,
) -> Vec<&'a [T]> {
    let pairs = values.iter().zip(sparse).zip(rows.chunks_exact_mut(stride));
    pairs
        .map(|((values, &is_sparse), row)| {
            let must_zero = is_sparse && absent == Absent::Zero;
            match T::as_rows(values) {
                Some(lent) if !must_zero => lent,
                Some(_) | None => {
                    let row = &mut row[..values.len()];
                    values.convert(row);
                    if must_zero {
                        zero_absent(row);
                    }
                    row
                }
            }
        })
        .collect()
}

/// Counts what was not sent as no change.
pub(super) fn zero_absent<T: Element>(row: &mut [T]) {
    for value in row {
        if value.is_absent() {
            *value = T::default();
        }
    }
}

impl<'a> Run<'a> {
    /// Reads a block of every client, one after the other, and of the step before.
    pub(super) fn read_all<'b>(
        self,
        block: Block,
        raw: &'b mut [f32],
        stride: usize,
        extra: Extra,
    ) -> Result<Vec<Values<'b>>, MergeError>
    where
        'a: 'b,
    {
        let mut buffers = raw.chunks_exact_mut(stride);
        let mut values = Vec::with_capacity(self.inputs.updates.len() + 1);
        for (client, buffer) in (0..self.inputs.updates.len()).zip(&mut buffers) {
            values.push(self.read_update(client, block, buffer)?);
        }
        if let (Extra::Step, Some(step), Some(buffer)) =
            (extra, self.inputs.history.step, buffers.next())
        {
            values.push(self.read(step, "the step before", block, buffer)?);
        }
        Ok(values)
    }

    /// Refuses rows with values that are no numbers.
    pub(super) fn check_finite<T: Element>(
        self,
        block: Block,
        rows: Rows<'_, T>,
    ) -> Result<(), MergeError> {
        for (client, row) in rows.iter().take(self.inputs.updates.len()).enumerate() {
            self.check_row(client, block, row)?;
        }
        Ok(())
    }

    /// Refuses one client's row with a value that is no number. What marks an absent coordinate is one where all are sent.
    pub(super) fn check_row<T: Element>(
        self,
        client: usize,
        block: Block,
        row: &[T],
    ) -> Result<(), MergeError> {
        let is_sparse = self.inputs.updates[client].source.is_sparse();
        match first_non_finite(row, is_sparse) {
            None => Ok(()),
            Some(at) => Err(MergeError::NonFinite {
                client,
                tensor: self.plan.tensor_name(block.tensor),
                index: block.offset + at,
                value: row[at].widen(),
            }),
        }
    }
}
