//! One bit a value and one magnitude a row: the mean of the row's magnitudes.
//!
//! All scales as f32, then a bit for each value of the tensor, 1 for negative, the last byte filled with zeros. A row of zeros
//! has the scale 0 and no bit set.
//! (Bernstein et al., "signSGD", 2018; a scale for each row as in Liu et al., "BitDelta", 2024, for each matrix.)

use super::bits::{BitWriter, ByteWriter};
use super::ternary::{is_mean, mean};
use super::{ByteSource, DecodeError, InvalidEncoding, Sink, Values, bytes_for, check_size};

/// Bytes of a scale.
const SCALE_BYTES: usize = 4;
/// The shortest row that has a scale of its own: in a shorter one a scale would cost more than it says.
const SHORTEST_ROW: usize = 32;
/// Bytes of signs that are read at once.
const STRIP_BYTES: usize = 1024;

/// How many values of a tensor of this shape share a scale: a row is all that has the same first coordinate. A tensor
/// without rows, or with shorter ones than 32, is one row.
#[must_use]
pub fn row_elements(shape: &[usize]) -> usize {
    let whole = shape.iter().product();
    match shape {
        [_, row @ ..] if !row.is_empty() => {
            let row = row.iter().product();
            if row < SHORTEST_ROW { whole } else { row }
        }
        _ => whole,
    }
}

fn rows(elements: usize, row_elements: usize) -> usize {
    elements.checked_div(row_elements).unwrap_or(0)
}

fn bytes_of(elements: usize, row_elements: usize) -> u64 {
    signs_begin(elements, row_elements) + bytes_for(elements as u64)
}

fn signs_begin(elements: usize, row_elements: usize) -> u64 {
    (SCALE_BYTES * rows(elements, row_elements)) as u64
}

/// How many bytes a tensor takes; nothing where all values are 0.
pub(super) fn draft<E>(values: &Values<'_, E>) -> Result<Option<u64>, E> {
    let mut is_zero = true;
    values.for_each_block(|_, block| {
        is_zero &= block.iter().all(|value| value.abs() <= 0.0);
        Ok(())
    })?;
    let bytes = bytes_of(values.elements, values.row_elements);
    Ok((!is_zero).then_some(bytes))
}

/// Writes a whole tensor.
pub(super) fn write<E>(values: &Values<'_, E>, sink: Sink<'_, E>) -> Result<(), E> {
    let mut scales = ByteWriter::at(0, sink);
    let mut signs = BitWriter::at(signs_begin(values.elements, values.row_elements), sink);
    let (mut sum, mut filled) = (0.0, 0);
    values.for_each_block(|_, block| {
        for value in block {
            sum += f64::from(value.abs());
            // A zero is neither, and a row of zeros has no bit set.
            signs.push(u64::from(*value < 0.0), 1)?;
            filled += 1;
            if filled == values.row_elements {
                scales.write(&mean(sum, filled as u64).to_le_bytes())?;
                (sum, filled) = (0.0, 0);
            }
        }
        Ok(())
    })?;
    scales.flush()?;
    signs.finish()
}

fn scale(source: &impl ByteSource, row: usize) -> Result<f32, DecodeError> {
    let mut bytes = [0; SCALE_BYTES];
    source.read_at((SCALE_BYTES * row) as u64, &mut bytes)?;
    Ok(f32::from_le_bytes(bytes))
}

/// A tensor that is read.
#[derive(Debug)]
pub(super) struct Reader {
    elements: usize,
    row_elements: usize,
}

impl Reader {
    pub(super) fn open(
        source: &impl ByteSource,
        elements: usize,
        row_elements: usize,
    ) -> Result<Self, DecodeError> {
        check_size(source, bytes_of(elements, row_elements))?;
        Ok(Self {
            elements,
            row_elements,
        })
    }

    pub(super) fn verify(
        &self,
        source: &impl ByteSource,
        go_on: &dyn Fn() -> bool,
    ) -> Result<(), DecodeError> {
        let mut is_zero = true;
        for row in 0..rows(self.elements, self.row_elements) {
            if !go_on() {
                return Ok(());
            }
            let scale = scale(source, row)?;
            if scale.to_bits() == 0 {
                self.check_no_sign(source, row)?;
            } else if is_mean(scale) {
                is_zero = false;
            } else {
                return Err(InvalidEncoding::Scale { number: row, scale }.into());
            }
        }
        if is_zero {
            return Err(InvalidEncoding::AllZero.into());
        }
        super::check_padding(source, self.elements)
    }

    fn check_no_sign(&self, source: &impl ByteSource, row: usize) -> Result<(), DecodeError> {
        let begin = row * self.row_elements;
        let mut fault = None;
        self.for_each_sign(
            source,
            (begin, begin + self.row_elements),
            |number, is_negative| {
                if is_negative && fault.is_none() {
                    fault = Some(InvalidEncoding::Code { number, code: -1 });
                }
            },
        )?;
        fault.map_or(Ok(()), |fault| Err(fault.into()))
    }

    /// Shows the index of each value of a range, and whether it is negative.
    fn for_each_sign(
        &self,
        source: &impl ByteSource,
        (begin, end): (usize, usize),
        mut see: impl FnMut(usize, bool),
    ) -> Result<(), DecodeError> {
        let mut strip = [0; STRIP_BYTES];
        let at = signs_begin(self.elements, self.row_elements);
        let mut index = begin;
        while index < end {
            let byte = index / 8;
            let bytes = STRIP_BYTES.min(end.div_ceil(8) - byte);
            let strip = &mut strip[..bytes];
            source.read_at(at + byte as u64, strip)?;
            let until = end.min(8 * (byte + bytes));
            for index in index..until {
                see(index, strip[index / 8 - byte] >> (index % 8) & 1 == 1);
            }
            index = until;
        }
        Ok(())
    }

    pub(super) fn read(
        &self,
        source: &impl ByteSource,
        offset: usize,
        values: &mut [f32],
    ) -> Result<(), DecodeError> {
        let end = offset + values.len();
        let mut begin = offset;
        while begin < end {
            let row = begin / self.row_elements;
            let until = end.min((row + 1) * self.row_elements);
            let scale = scale(source, row)?;
            self.for_each_sign(source, (begin, until), |index, is_negative| {
                values[index - offset] = if is_negative { -scale } else { scale };
            })?;
            begin = until;
        }
        Ok(())
    }
}
