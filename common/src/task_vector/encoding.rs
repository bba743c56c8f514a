//! How the values of one tensor become few bytes: int8, top-k, ternary, sign and masked, each with one canonical form.
//!
//! Invariant: what a decoder accepts is what an encoder writes of the decoded values, byte by byte, so that equal updates have
//! equal digests. Every size is checked against the tensor's before it is used, and memory is bounded: a tensor is written and
//! read in blocks, and the only thing kept of one is a mark for every 16 Ki coordinates of a sparse one.
//! Encoders take finite values alone.

use crate::checkpoint::ReadCheckpointError;
use crate::digest::Digest;
use crate::ids::{ClientId, RoundNumber};

mod bits;
mod density;
mod int8;
mod mask;
mod positions;
mod rice;
mod select;
mod sign;
mod ternary;
mod top_k;

pub use density::{Density, DensityError};
pub use mask::MaskSeed;
pub use sign::row_elements;

/// Values that are encoded or checked at once.
pub(super) const BLOCK_ELEMENTS: usize = 64 * 1024;

/// How much memory knowing where a sparse tensor's values are takes, bytes.
#[must_use]
pub const fn index_bytes(elements: usize) -> u64 {
    (elements.div_ceil(positions::STRIDE) * positions::MARK_BYTES) as u64
}

/// An encoding whose tensors are no plain floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    /// 8 bits a value and 16 for every 128 values.
    Int8,
    /// The largest values of a tensor, 8 bits each, and where they are.
    TopK,
    /// The signs of the largest values of a tensor, where they are, and one magnitude.
    Ternary,
    /// The sign of every value and one magnitude a row.
    Sign,
    /// Values that chance keeps, 8 bits each; where they are is known.
    Masked,
}

/// Which values sparse encodings keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sparsity {
    /// How many.
    pub density: Density,
    /// What decides where chance decides.
    pub seed: MaskSeed,
}

impl Sparsity {
    /// That of a client's update for a round from a base.
    #[must_use]
    pub fn of_update(
        density: Density,
        base: &Digest,
        round: RoundNumber,
        client: &ClientId,
    ) -> Self {
        Self {
            density,
            seed: MaskSeed::of(base, round, client),
        }
    }

    /// What it is for one tensor.
    pub(super) fn of(&self, tensor: &str) -> TensorSparsity {
        TensorSparsity {
            density: self.density,
            mask_key: self.seed.key(tensor),
        }
    }
}

/// The same for one tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TensorSparsity {
    density: Density,
    mask_key: u64,
}

/// Bytes of a tensor that are no canonical form of its values.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvalidEncoding {
    /// There are more or fewer bytes than the values take.
    #[error("it has {found} bytes, expected {expected}")]
    Size {
        /// How many its own numbers and the tensor's shape call for.
        expected: u64,
        /// How many there are.
        found: u64,
    },
    /// The bytes end before the values do.
    #[error("its {found} bytes end too early")]
    Truncated {
        /// How many there are.
        found: u64,
    },
    /// More values are kept than the tensor has, or none.
    #[error("it keeps {count} of {elements} values")]
    Count {
        /// How many it says it keeps.
        count: u64,
        /// How many the tensor has.
        elements: usize,
    },
    /// A scale is not finite, negative, −0, or one that no values lead to.
    #[error("scale {number} is {scale:e}, which no values have")]
    Scale {
        /// Which, from 0.
        number: usize,
        /// What it is.
        scale: f32,
    },
    /// A code is −128, or 0 where only kept values stand, or not 0 under a scale of 0.
    #[error("value {number} has the code {code}, which no value has")]
    Code {
        /// Which, from 0.
        number: usize,
        /// What it is.
        code: i8,
    },
    /// No code under a scale is ±127: the scale could be smaller.
    #[error("scale {number} is larger than its values need")]
    Slack {
        /// Which, from 0.
        number: usize,
    },
    /// The gaps take more bits than they would with another parameter.
    #[error("its Rice parameter is {found}, expected {expected}")]
    Parameter {
        /// What it says.
        found: u8,
        /// What takes the fewest bits.
        expected: u8,
    },
    /// A gap leads past the end of the tensor.
    #[error("gap {number} leads past its {elements} values")]
    Gap {
        /// Which, from 0.
        number: u64,
        /// How many values the tensor has.
        elements: usize,
    },
    /// Nothing says which of its values are kept.
    #[error("nothing says which of its values are kept")]
    NoMask,
    /// Bits that mean nothing are not 0.
    #[error("its bits of padding are not 0")]
    Padding,
    /// All values are zero: such tensors are left out.
    #[error("all its values are 0, and such a tensor is left out")]
    AllZero,
}

/// A tensor that cannot be decoded.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Its bytes cannot be read.
    #[error(transparent)]
    Read(#[from] ReadCheckpointError),
    /// Its bytes are no canonical form.
    #[error(transparent)]
    Invalid(#[from] InvalidEncoding),
}

/// A tensor's encoded bytes.
pub(super) trait ByteSource {
    /// How many there are.
    fn len(&self) -> u64;

    /// Fills `bytes` from `offset` on; the caller stays within [`ByteSource::len`].
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<(), ReadCheckpointError>;
}

/// The values of a tensor that is to be encoded, all of them finite; they are read more than once.
pub(super) struct Values<'a, E> {
    /// How many there are.
    pub(super) elements: usize,
    /// How many share a scale where each row has one.
    pub(super) row_elements: usize,
    /// Gives them.
    pub(super) read: ReadBlock<'a, E>,
}

/// Fills a block of values from an offset on.
pub(super) type ReadBlock<'a, E> = &'a dyn Fn(usize, &mut [f32]) -> Result<(), E>;

/// Takes bytes at an offset in the encoded tensor.
pub(super) type Sink<'a, E> = &'a dyn Fn(u64, &[u8]) -> Result<(), E>;

impl<E> Values<'_, E> {
    /// Shows all values in order, in blocks that begin at multiples of [`BLOCK_ELEMENTS`].
    pub(super) fn for_each_block(
        &self,
        mut see: impl FnMut(usize, &[f32]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut block = vec![0.0; BLOCK_ELEMENTS.min(self.elements)];
        for offset in (0..self.elements).step_by(BLOCK_ELEMENTS) {
            let values = &mut block[..BLOCK_ELEMENTS.min(self.elements - offset)];
            (self.read)(offset, values)?;
            see(offset, values)?;
        }
        Ok(())
    }
}

/// What is known of a tensor before it is written: above all, how long it will be.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Draft(Form);

#[derive(Debug, Clone, PartialEq)]
enum Form {
    Int8(u64),
    TopK(top_k::Draft),
    Ternary(ternary::Draft),
    Sign(u64),
    Masked(mask::Draft),
}

impl Draft {
    /// Looks through the values; nothing where they all become 0. `sparsity` is for the sparse ones.
    pub(super) fn of<E>(
        codec: Codec,
        sparsity: TensorSparsity,
        values: &Values<'_, E>,
    ) -> Result<Option<Self>, E> {
        let density = sparsity.density;
        let form = match codec {
            Codec::Int8 => int8::draft(values)?.map(Form::Int8),
            Codec::TopK => top_k::Draft::of(values, density)?.map(Form::TopK),
            Codec::Ternary => ternary::Draft::of(values, density)?.map(Form::Ternary),
            Codec::Sign => sign::draft(values)?.map(Form::Sign),
            Codec::Masked => mask::Draft::of(values, sparsity)?.map(Form::Masked),
        };
        Ok(form.map(Self))
    }

    /// How many bytes the tensor takes.
    pub(super) fn bytes(&self) -> u64 {
        match &self.0 {
            Form::Int8(bytes) | Form::Sign(bytes) => *bytes,
            Form::TopK(draft) => draft.bytes(),
            Form::Ternary(draft) => draft.bytes(),
            Form::Masked(draft) => draft.bytes(),
        }
    }

    /// Writes the values that it was made of.
    pub(super) fn write<E>(&self, values: &Values<'_, E>, sink: Sink<'_, E>) -> Result<(), E> {
        match &self.0 {
            Form::Int8(_) => int8::write(values, sink),
            Form::TopK(draft) => draft.write(values, sink),
            Form::Ternary(draft) => draft.write(values, sink),
            Form::Sign(_) => sign::write(values, sink),
            Form::Masked(draft) => draft.write(values, sink),
        }
    }
}

/// A tensor that is read block by block.
#[derive(Debug)]
pub(super) struct Reader(Opened);

#[derive(Debug)]
enum Opened {
    Int8(int8::Reader),
    TopK(top_k::Reader),
    Ternary(ternary::Reader),
    Sign(sign::Reader),
    Masked(mask::Reader),
}

impl Reader {
    /// Opens a tensor of so many elements; `sparsity` says where the values of [`Codec::Masked`] are. Its size is checked, and where its values are. What it holds beside is believed.
    pub(super) fn open(
        codec: Codec,
        sparsity: Option<TensorSparsity>,
        source: &impl ByteSource,
        elements: usize,
        row_elements: usize,
    ) -> Result<Self, DecodeError> {
        Ok(Self(match codec {
            Codec::Int8 => Opened::Int8(int8::Reader::open(source, elements)?),
            Codec::TopK => Opened::TopK(top_k::Reader::open(source, elements)?),
            Codec::Ternary => Opened::Ternary(ternary::Reader::open(source, elements)?),
            Codec::Sign => Opened::Sign(sign::Reader::open(source, elements, row_elements)?),
            Codec::Masked => {
                let sparsity = sparsity.ok_or(InvalidEncoding::NoMask)?;
                Opened::Masked(mask::Reader::open(source, sparsity, elements)?)
            }
        }))
    }

    /// How much memory it takes to know where its values are, bytes.
    pub(super) fn index_bytes(&self) -> u64 {
        match &self.0 {
            Opened::Int8(_) | Opened::Sign(_) | Opened::Masked(_) => 0,
            Opened::TopK(reader) => reader.index_bytes(),
            Opened::Ternary(reader) => reader.index_bytes(),
        }
    }

    /// Checks everything that opening believed: afterwards the bytes are known to be the canonical form of their values.
    /// `go_on` is asked now and then.
    pub(super) fn verify(
        &self,
        source: &impl ByteSource,
        go_on: &dyn Fn() -> bool,
    ) -> Result<(), DecodeError> {
        match &self.0 {
            Opened::Int8(reader) => reader.verify(source, go_on),
            Opened::TopK(reader) => reader.verify(source, go_on),
            Opened::Ternary(reader) => reader.verify(source),
            Opened::Sign(reader) => reader.verify(source, go_on),
            Opened::Masked(reader) => reader.verify(source, go_on),
        }
    }

    /// Fills `values` from `offset` on; the caller stays within the tensor.
    pub(super) fn read(
        &self,
        source: &impl ByteSource,
        offset: usize,
        values: &mut [f32],
    ) -> Result<(), DecodeError> {
        match &self.0 {
            Opened::Int8(reader) => reader.read(source, offset, values),
            Opened::TopK(reader) => reader.read(source, offset, values),
            Opened::Ternary(reader) => reader.read(source, offset, values),
            Opened::Sign(reader) => reader.read(source, offset, values),
            Opened::Masked(reader) => reader.read(source, offset, values),
        }
    }
}

/// Whole bytes for so many bits.
const fn bytes_for(bits: u64) -> u64 {
    bits.div_ceil(8)
}

/// Checks a size.
fn check_size(source: &impl ByteSource, expected: u64) -> Result<(), InvalidEncoding> {
    let found = source.len();
    if found == expected {
        Ok(())
    } else {
        Err(InvalidEncoding::Size { expected, found })
    }
}

/// Checks that the bits after the last of so many values are 0, in the last byte there is.
fn check_padding(source: &impl ByteSource, values: usize) -> Result<(), DecodeError> {
    let used = values % 8;
    let mut last = [0];
    source.read_at(source.len() - 1, &mut last)?;
    if used > 0 && last[0] >> used != 0 {
        return Err(InvalidEncoding::Padding.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
