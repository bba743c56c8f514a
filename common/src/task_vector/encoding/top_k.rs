//! The largest values of a tensor: where they are, and each in 8 bits.
//!
//! `positions`, then the kept values in the blocks of [`super::int8`], 128 kept values to a scale. A kept value has a code other
//! than 0: what rounds to 0 becomes ±1, so that what is kept can be seen from the values alone.
//! (Top-k with error feedback as in Stich, Cordonnier and Jaggi, "Sparsified SGD with Memory", 2018.)

use super::int8::{self, BLOCK, BlockWriter, Coded, Zeros};
use super::positions::{self, Positions};
use super::select::Selection;
use super::{ByteSource, DecodeError, Density, Sink, Values};

/// A tensor before it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Draft {
    selection: Selection,
    positions: positions::Draft,
}

fn kept(selection: &Selection) -> usize {
    usize::try_from(selection.count).expect("no more than the elements")
}

impl Draft {
    pub(super) fn of<E>(values: &Values<'_, E>, density: Density) -> Result<Option<Self>, E> {
        let most = density.of(values.elements);
        let Some(selection) = Selection::of(values, most, int8::SMALLEST)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            positions: positions::Draft::of(values, &selection)?,
            selection,
        }))
    }

    pub(super) fn bytes(&self) -> u64 {
        self.positions.bytes() + int8::bytes_of(kept(&self.selection))
    }

    pub(super) fn write<E>(&self, values: &Values<'_, E>, sink: Sink<'_, E>) -> Result<(), E> {
        let mut gaps = self.positions.writer(0, sink)?;
        let offset = self.positions.bytes();
        let mut coded = BlockWriter::at(offset, kept(&self.selection), Zeros::Lifted, sink);
        let (mut block, mut filled) = ([0.0; BLOCK], 0);
        self.selection.for_each(values, |index, value| {
            gaps.write(index)?;
            block[filled] = value;
            filled += 1;
            if filled == BLOCK {
                filled = 0;
                coded.write(&block)?;
            }
            Ok(())
        })?;
        if filled > 0 {
            coded.write(&block[..filled])?;
        }
        gaps.finish()?;
        coded.finish()
    }
}

/// A tensor that is read.
#[derive(Debug)]
pub(super) struct Reader {
    positions: Positions,
    coded: Coded,
}

impl Reader {
    pub(super) fn open(source: &impl ByteSource, elements: usize) -> Result<Self, DecodeError> {
        let positions = Positions::open(source, 0, elements, int8::bytes_of)?;
        let coded = Coded {
            offset: positions.bytes(),
            elements: positions.count,
        };
        Ok(Self { positions, coded })
    }

    pub(super) fn index_bytes(&self) -> u64 {
        self.positions.index_bytes()
    }

    pub(super) fn verify(
        &self,
        source: &impl ByteSource,
        go_on: &dyn Fn() -> bool,
    ) -> Result<(), DecodeError> {
        self.coded.verify(source, Zeros::Lifted, go_on)
    }

    pub(super) fn read(
        &self,
        source: &impl ByteSource,
        offset: usize,
        values: &mut [f32],
    ) -> Result<(), DecodeError> {
        values.fill(0.0);
        let range = (offset, offset + values.len());
        self.positions.for_each(source, range, |first, indices| {
            let mut kept = [0.0; positions::BATCH];
            let kept = &mut kept[..indices.len()];
            self.coded.read(source, first, kept)?;
            for (index, value) in indices.iter().zip(kept) {
                values[index - offset] = *value;
            }
            Ok(())
        })
    }
}
