//! Blocks of 128 values in 8 bits each: a scale s = bf16(max|x| / 127), then q = x / s, rounded to nearest, ties to even.
//!
//! The bytes of a tensor are all scales, then all codes. A scale of 8 significant bits times a code of 7 is exact in f32, and
//! the code of a block's largest value is always ±127: so decoding loses nothing more, and encoding again gives the same
//! bytes. Magnitudes under 127·2^-126, whose scale would have fewer bits, become 0.
//! (Block-wise absmax quantisation as in Dettmers et al., "8-bit Optimizers via Block-wise Quantization", 2022.)

use bytemuck::{cast_slice, cast_slice_mut};
use half::bf16;

use super::bits::ByteWriter;
use super::{ByteSource, DecodeError, InvalidEncoding, Sink, Values, check_size};

/// Values that share a scale.
pub(super) const BLOCK: usize = 128;
/// Bytes of a scale.
pub(super) const SCALE_BYTES: u64 = 2;
/// The largest code.
const LARGEST: f32 = 127.0;
/// Magnitudes below become 0.
pub(super) const SMALLEST: f32 = LARGEST * f32::MIN_POSITIVE;
/// The scale of the largest f32, 129 · 2^114: with 127 it still gives a finite value.
const LARGEST_SCALE: bf16 = bf16::from_bits(0x7c01);
/// Blocks that are read at once.
const STRIP_BLOCKS: usize = 32;
const STRIP: usize = STRIP_BLOCKS * BLOCK;

/// Whether a code may be 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Zeros {
    /// It may.
    Allowed,
    /// It becomes ±1, because the value was chosen to be kept.
    Lifted,
}

/// Bytes of so many values with their scales.
pub(super) fn bytes_of(elements: usize) -> u64 {
    elements as u64 + scales_bytes(elements)
}

/// Bytes of the scales of so many values.
pub(super) fn scales_bytes(elements: usize) -> u64 {
    SCALE_BYTES * elements.div_ceil(BLOCK) as u64
}

/// Encodes a block of at most [`BLOCK`] values.
pub(super) fn quantise(values: &[f32], zeros: Zeros, codes: &mut [i8]) -> bf16 {
    let largest = values
        .iter()
        .fold(0.0_f32, |most, value| most.max(value.abs()));
    if largest < SMALLEST {
        codes.fill(0);
        return bf16::ZERO;
    }
    let scale = bf16::from_f32(largest / LARGEST);
    let divisor = scale.to_f32();
    for (code, value) in codes.iter_mut().zip(values) {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "no quotient rounds to more than 127"
        )]
        let nearest = (value / divisor).round_ties_even() as i8;
        *code = if nearest == 0 && zeros == Zeros::Lifted {
            if value.is_sign_negative() { -1 } else { 1 }
        } else {
            nearest
        };
    }
    scale
}

/// Decodes the values under one scale.
pub(super) fn dequantise(scale: bf16, codes: &[i8], values: &mut [f32]) {
    let scale = scale.to_f32();
    for (value, &code) in values.iter_mut().zip(codes) {
        // A product with 0 could be -0.
        *value = if code == 0 {
            0.0
        } else {
            scale * f32::from(code)
        };
    }
}

/// Refuses the block number `block` if no values lead to it.
pub(super) fn check_block(
    block: usize,
    scale: bf16,
    codes: &[i8],
    zeros: Zeros,
) -> Result<(), InvalidEncoding> {
    let is_zero = scale.to_bits() == 0;
    let is_scale = scale >= bf16::MIN_POSITIVE && scale <= LARGEST_SCALE;
    if !(is_scale || is_zero && zeros == Zeros::Allowed) {
        return Err(InvalidEncoding::Scale {
            number: block,
            scale: scale.to_f32(),
        });
    }
    let is_sound = |code: &i8| {
        *code != i8::MIN && (*code != 0 || zeros == Zeros::Allowed) && (*code == 0 || !is_zero)
    };
    if let Some(at) = codes.iter().position(|code| !is_sound(code)) {
        return Err(InvalidEncoding::Code {
            number: block * BLOCK + at,
            code: codes[at],
        });
    }
    let is_tight = codes.iter().any(|code| code.unsigned_abs() == 127);
    if is_zero || is_tight {
        Ok(())
    } else {
        Err(InvalidEncoding::Slack { number: block })
    }
}

/// How many bytes a tensor takes; nothing where all values become 0.
pub(super) fn draft<E>(values: &Values<'_, E>) -> Result<Option<u64>, E> {
    let mut is_zero = true;
    values.for_each_block(|_, block| {
        is_zero &= block.iter().all(|value| value.abs() < SMALLEST);
        Ok(())
    })?;
    Ok((!is_zero).then(|| bytes_of(values.elements)))
}

/// Writes a whole tensor.
pub(super) fn write<E>(values: &Values<'_, E>, sink: Sink<'_, E>) -> Result<(), E> {
    let mut writer = BlockWriter::at(0, values.elements, Zeros::Allowed, sink);
    values.for_each_block(|_, block| {
        block
            .chunks(BLOCK)
            .try_for_each(|block| writer.write(block))
    })?;
    writer.finish()
}

/// Writes the scales and codes of so many values, block by block.
pub(super) struct BlockWriter<'a, E> {
    scales: ByteWriter<'a, E>,
    codes: ByteWriter<'a, E>,
    zeros: Zeros,
}

impl<'a, E> BlockWriter<'a, E> {
    pub(super) fn at(offset: u64, elements: usize, zeros: Zeros, sink: Sink<'a, E>) -> Self {
        Self {
            scales: ByteWriter::at(offset, sink),
            codes: ByteWriter::at(offset + scales_bytes(elements), sink),
            zeros,
        }
    }

    /// Takes [`BLOCK`] values; the last time, those that are left.
    pub(super) fn write(&mut self, values: &[f32]) -> Result<(), E> {
        let mut codes = [0; BLOCK];
        let codes = &mut codes[..values.len()];
        let scale = quantise(values, self.zeros, codes);
        self.scales.write(&scale.to_le_bytes())?;
        self.codes.write(cast_slice(codes))
    }

    pub(super) fn finish(mut self) -> Result<(), E> {
        self.scales.flush()?;
        self.codes.flush()
    }
}

/// Scales and codes in the bytes of a tensor.
#[derive(Debug)]
pub(super) struct Coded {
    /// Where the scales begin.
    pub(super) offset: u64,
    /// How many values there are.
    pub(super) elements: usize,
}

impl Coded {
    /// Shows the blocks that overlap a range, each whole with its number and its scale.
    pub(super) fn for_each_block(
        &self,
        source: &impl ByteSource,
        (begin, end): (usize, usize),
        mut see: impl FnMut(usize, bf16, &[i8]) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        let (mut scales, mut codes) = ([bf16::ZERO; STRIP_BLOCKS], [0_i8; STRIP]);
        let codes_begin = self.offset + scales_bytes(self.elements);
        let mut block = begin / BLOCK;
        while block * BLOCK < end {
            let elements =
                STRIP.min(end.next_multiple_of(BLOCK).min(self.elements) - block * BLOCK);
            let blocks = elements.div_ceil(BLOCK);
            let (scales, codes) = (&mut scales[..blocks], &mut codes[..elements]);
            let scales_at = self.offset + SCALE_BYTES * block as u64;
            source.read_at(scales_at, cast_slice_mut(scales))?;
            source.read_at(codes_begin + (block * BLOCK) as u64, cast_slice_mut(codes))?;
            for (number, (scale, codes)) in scales.iter().zip(codes.chunks(BLOCK)).enumerate() {
                see(block + number, *scale, codes)?;
            }
            block += blocks;
        }
        Ok(())
    }

    /// Fills `values` with those from `begin` on.
    pub(super) fn read(
        &self,
        source: &impl ByteSource,
        begin: usize,
        values: &mut [f32],
    ) -> Result<(), DecodeError> {
        let end = begin + values.len();
        self.for_each_block(source, (begin, end), |block, scale, codes| {
            let first = block * BLOCK;
            let (from, to) = (begin.max(first), end.min(first + codes.len()));
            let codes = &codes[from - first..to - first];
            dequantise(scale, codes, &mut values[from - begin..to - begin]);
            Ok(())
        })
    }

    /// Refuses the first block that no values lead to, and one that is all there is and 0.
    pub(super) fn verify(
        &self,
        source: &impl ByteSource,
        zeros: Zeros,
        go_on: &dyn Fn() -> bool,
    ) -> Result<(), DecodeError> {
        let mut is_zero = true;
        for begin in (0..self.elements).step_by(super::BLOCK_ELEMENTS) {
            if !go_on() {
                return Ok(());
            }
            let end = self.elements.min(begin + super::BLOCK_ELEMENTS);
            self.for_each_block(source, (begin, end), |block, scale, codes| {
                is_zero &= scale == bf16::ZERO;
                Ok(check_block(block, scale, codes, zeros)?)
            })?;
        }
        if is_zero {
            return Err(InvalidEncoding::AllZero.into());
        }
        Ok(())
    }
}

/// A whole tensor.
#[derive(Debug)]
pub(super) struct Reader(Coded);

impl Reader {
    pub(super) fn open(source: &impl ByteSource, elements: usize) -> Result<Self, DecodeError> {
        check_size(source, bytes_of(elements))?;
        Ok(Self(Coded {
            offset: 0,
            elements,
        }))
    }

    pub(super) fn verify(
        &self,
        source: &impl ByteSource,
        go_on: &dyn Fn() -> bool,
    ) -> Result<(), DecodeError> {
        self.0.verify(source, Zeros::Allowed, go_on)
    }

    pub(super) fn read(
        &self,
        source: &impl ByteSource,
        offset: usize,
        values: &mut [f32],
    ) -> Result<(), DecodeError> {
        self.0.read(source, offset, values)
    }
}
