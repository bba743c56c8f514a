//! The signs of a tensor's largest values, and one magnitude for all of them: the mean of theirs.
//!
//! `scale: f32`, `positions`, and a bit for each kept value, 1 for negative, the last byte filled with zeros. A bitmap of the
//! kept values is a Rice code of parameter 0, so no other form is smaller where most are kept.
//! (Sattler et al., "Robust and Communication-Efficient Federated Learning from Non-IID Data", 2019.)

use super::bits::BitWriter;
use super::positions::{self, Positions};
use super::select::Selection;
use super::{ByteSource, DecodeError, Density, InvalidEncoding, Sink, Values, bytes_for};

/// Bytes of the scale.
const HEAD_BYTES: u64 = size_of::<f32>() as u64;

/// A tensor before it is written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Draft {
    selection: Selection,
    positions: positions::Draft,
    scale: f32,
}

impl Draft {
    pub(super) fn of<E>(values: &Values<'_, E>, density: Density) -> Result<Option<Self>, E> {
        let most = density.of(values.elements);
        let Some(selection) = Selection::of(values, most, f32::from_bits(1))? else {
            return Ok(None);
        };
        let mut sum = 0.0;
        selection.for_each(values, |_, value| {
            sum += f64::from(value.abs());
            Ok(())
        })?;
        Ok(Some(Self {
            positions: positions::Draft::of(values, &selection)?,
            scale: mean(sum, selection.count),
            selection,
        }))
    }

    pub(super) fn bytes(&self) -> u64 {
        HEAD_BYTES + self.positions.bytes() + bytes_for(self.selection.count)
    }

    pub(super) fn write<E>(&self, values: &Values<'_, E>, sink: Sink<'_, E>) -> Result<(), E> {
        sink(0, &self.scale.to_le_bytes())?;
        let mut gaps = self.positions.writer(HEAD_BYTES, sink)?;
        let mut signs = BitWriter::at(HEAD_BYTES + self.positions.bytes(), sink);
        self.selection.for_each(values, |index, value| {
            gaps.write(index)?;
            signs.push(u64::from(value.is_sign_negative()), 1)
        })?;
        gaps.finish()?;
        signs.finish()
    }
}

/// The mean of magnitudes as f32, which is again the mean of as many values that are all this one. It is 0 for zeros alone.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "the cast rounds to nearest, and no tensor has 2^53 values"
)]
pub(super) fn mean(sum: f64, count: u64) -> f32 {
    let mean = (sum / count as f64) as f32;
    if sum > 0.0 {
        mean.max(f32::from_bits(1))
    } else {
        0.0
    }
}

/// Whether a scale is one that a mean of magnitudes can be.
pub(super) fn is_mean(scale: f32) -> bool {
    scale.is_finite() && scale > 0.0
}

/// A tensor that is read.
#[derive(Debug)]
pub(super) struct Reader {
    scale: f32,
    positions: Positions,
}

impl Reader {
    pub(super) fn open(source: &impl ByteSource, elements: usize) -> Result<Self, DecodeError> {
        let found = source.len();
        if found < HEAD_BYTES {
            return Err(InvalidEncoding::Truncated { found }.into());
        }
        let mut scale = [0; size_of::<f32>()];
        source.read_at(0, &mut scale)?;
        let scale = f32::from_le_bytes(scale);
        if !is_mean(scale) {
            return Err(InvalidEncoding::Scale { number: 0, scale }.into());
        }
        let signs = |count| bytes_for(count as u64);
        let positions = Positions::open(source, HEAD_BYTES, elements, signs)?;
        Ok(Self { scale, positions })
    }

    pub(super) fn index_bytes(&self) -> u64 {
        self.positions.index_bytes()
    }

    pub(super) fn verify(&self, source: &impl ByteSource) -> Result<(), DecodeError> {
        super::check_padding(source, self.positions.count)
    }

    pub(super) fn read(
        &self,
        source: &impl ByteSource,
        offset: usize,
        values: &mut [f32],
    ) -> Result<(), DecodeError> {
        values.fill(0.0);
        let range = (offset, offset + values.len());
        let signs_begin = HEAD_BYTES + self.positions.bytes();
        self.positions.for_each(source, range, |first, indices| {
            let mut signs = [0; positions::BATCH / 8 + 1];
            let begin = first / 8;
            let end = (first + indices.len()).div_ceil(8);
            let signs = &mut signs[..end - begin];
            source.read_at(signs_begin + begin as u64, signs)?;
            for (number, index) in indices.iter().enumerate() {
                let bit = first + number;
                let is_negative = signs[bit / 8 - begin] >> (bit % 8) & 1 == 1;
                values[index - offset] = if is_negative { -self.scale } else { self.scale };
            }
            Ok(())
        })
    }
}
