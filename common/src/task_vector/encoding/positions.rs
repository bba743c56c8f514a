//! Where the kept values of a sparse tensor are: a count, a Rice parameter, and the gaps before each of them.
//!
//! `count: u64, parameter: u8, gaps`, each gap g = i − i' − 1 in bits, the last byte filled with zeros. Opening reads all gaps
//! once and keeps a mark for every [`STRIDE`] coordinates, so that a block in the middle is found without reading what is
//! before it.

use super::bits::{BitReader, BitWriter};
use super::rice::{self, Tally};
use super::select::Selection;
use super::{ByteSource, DecodeError, InvalidEncoding, Sink, Values, bytes_for};

/// Coordinates from one mark to the next.
pub(super) const STRIDE: usize = 16 * 1024;
/// What a mark takes in memory.
pub(super) const MARK_BYTES: usize = size_of::<Mark>();
/// Bytes before the gaps.
const HEAD_BYTES: usize = 9;
/// Kept values that are shown at once.
pub(super) const BATCH: usize = 256;

/// The gaps of a selection before they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Draft {
    count: u64,
    parameter: u8,
    bits: u64,
}

impl Draft {
    /// Counts the gaps.
    pub(super) fn of<E>(values: &Values<'_, E>, selection: &Selection) -> Result<Self, E> {
        let (mut tally, mut next) = (Tally::default(), 0);
        selection.for_each(values, |index, _| {
            tally.add((index - next) as u64);
            next = index + 1;
            Ok(())
        })?;
        Ok(Self::from_tally(&tally))
    }

    /// As counted.
    pub(super) fn from_tally(tally: &Tally) -> Self {
        let (parameter, bits) = tally.best();
        Self {
            count: tally.count(),
            parameter,
            bits,
        }
    }

    /// How many bytes they take, with their head.
    pub(super) fn bytes(&self) -> u64 {
        HEAD_BYTES as u64 + bytes_for(self.bits)
    }

    /// Begins to write them.
    pub(super) fn writer<'a, E>(
        &self,
        offset: u64,
        sink: Sink<'a, E>,
    ) -> Result<GapWriter<'a, E>, E> {
        let mut head = [self.parameter; HEAD_BYTES];
        head[..8].copy_from_slice(&self.count.to_le_bytes());
        sink(offset, &head)?;
        Ok(GapWriter {
            bits: BitWriter::at(offset + HEAD_BYTES as u64, sink),
            parameter: self.parameter,
            next: 0,
        })
    }
}

/// Writes gaps, index by index.
pub(super) struct GapWriter<'a, E> {
    bits: BitWriter<'a, E>,
    parameter: u8,
    next: usize,
}

impl<E> GapWriter<'_, E> {
    pub(super) fn write(&mut self, index: usize) -> Result<(), E> {
        let gap = (index - self.next) as u64;
        self.next = index + 1;
        rice::write(&mut self.bits, self.parameter, gap)
    }

    pub(super) fn finish(self) -> Result<(), E> {
        self.bits.finish()
    }
}

/// Where reading can begin: before a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    /// Bits before it.
    bit: u64,
    /// Kept values before it.
    ordinal: usize,
    /// Coordinates before it.
    coordinate: usize,
}

/// The gaps of a tensor, found sound.
#[derive(Debug)]
pub(super) struct Positions {
    /// Kept values.
    pub(super) count: usize,
    elements: usize,
    parameter: u8,
    /// Bytes where the gaps begin and end.
    gaps: (u64, u64),
    /// By coordinate / [`STRIDE`].
    marks: Vec<Mark>,
}

impl Positions {
    /// Reads all gaps from the bytes at `offset`; behind them come as many bytes as `rest` says for the kept values, and no more.
    pub(super) fn open(
        source: &impl ByteSource,
        offset: u64,
        elements: usize,
        rest: impl Fn(usize) -> u64,
    ) -> Result<Self, DecodeError> {
        let found = source.len();
        let truncated = || InvalidEncoding::Truncated { found };
        let gaps_begin = offset + HEAD_BYTES as u64;
        if found < gaps_begin {
            return Err(truncated().into());
        }
        let mut head = [0; HEAD_BYTES];
        source.read_at(offset, &mut head)?;
        let [count @ .., parameter] = head;
        let claimed = u64::from_le_bytes(count);
        let count = usize::try_from(claimed).unwrap_or(usize::MAX);
        if count == 0 || count > elements {
            let count = claimed;
            return Err(InvalidEncoding::Count { count, elements }.into());
        }
        // Each gap takes a bit at least, so nothing is reserved for values that cannot be there.
        let gaps_end = found.checked_sub(rest(count)).ok_or_else(truncated)?;
        if gaps_end < gaps_begin + bytes_for(claimed) {
            return Err(truncated().into());
        }
        let mut positions = Self {
            count,
            elements,
            parameter,
            gaps: (gaps_begin, gaps_end),
            marks: Vec::new(),
        };
        positions.scan(source)?;
        Ok(positions)
    }

    /// How many bytes they take, with their head.
    pub(super) fn bytes(&self) -> u64 {
        self.gaps.1 - self.gaps.0 + HEAD_BYTES as u64
    }

    pub(super) fn index_bytes(&self) -> u64 {
        super::index_bytes(self.elements)
    }

    fn scan(&mut self, source: &impl ByteSource) -> Result<(), DecodeError> {
        let found = self.parameter;
        if found > rice::MOST {
            let expected = rice::MOST;
            return Err(InvalidEncoding::Parameter { found, expected }.into());
        }
        let start = Mark {
            bit: 0,
            ordinal: 0,
            coordinate: 0,
        };
        let mut tally = Tally::default();
        let mut walk = self.walk(source, start)?;
        while let Some((before, index)) = walk.next()? {
            while self.marks.len() * STRIDE <= index {
                self.marks.push(before);
            }
            tally.add((index - before.coordinate) as u64);
        }
        let end = walk.mark;
        let marks = self.elements.div_ceil(STRIDE);
        self.marks.reserve_exact(marks - self.marks.len());
        self.marks.resize(marks, end);
        let (expected, bits) = tally.best();
        if found != expected {
            return Err(InvalidEncoding::Parameter { found, expected }.into());
        }
        if bytes_for(bits) != self.gaps.1 - self.gaps.0 {
            return Err(InvalidEncoding::Size {
                expected: source.len() - (self.gaps.1 - self.gaps.0) + bytes_for(bits),
                found: source.len(),
            }
            .into());
        }
        let padding = u32::try_from(bytes_for(bits) * 8 - bits).expect("less than 8");
        if walk.bits.take(padding)? != 0 {
            return Err(InvalidEncoding::Padding.into());
        }
        Ok(())
    }

    fn walk<'a, S: ByteSource>(
        &self,
        source: &'a S,
        mark: Mark,
    ) -> Result<Walk<'a, S>, DecodeError> {
        Ok(Walk {
            bits: BitReader::at(source, self.gaps, mark.bit)?,
            parameter: self.parameter,
            count: self.count,
            elements: self.elements,
            mark,
        })
    }

    /// Shows the kept values of a range in order, at most [`BATCH`] at a time: how many are before them, and their indices.
    pub(super) fn for_each<S: ByteSource>(
        &self,
        source: &S,
        (begin, end): (usize, usize),
        mut see: impl FnMut(usize, &[usize]) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        if begin >= end {
            return Ok(());
        }
        let mut walk = self.walk(source, self.marks[begin / STRIDE])?;
        let (mut batch, mut filled, mut first) = ([0; BATCH], 0, 0);
        while let Some((before, index)) = walk.next()? {
            if index >= end {
                break;
            }
            if index < begin {
                continue;
            }
            if filled == 0 {
                first = before.ordinal;
            }
            batch[filled] = index;
            filled += 1;
            if filled == BATCH {
                see(first, &batch)?;
                filled = 0;
            }
        }
        if filled > 0 {
            see(first, &batch[..filled])?;
        }
        Ok(())
    }
}

/// Goes from gap to gap.
struct Walk<'a, S> {
    bits: BitReader<'a, S>,
    parameter: u8,
    count: usize,
    elements: usize,
    mark: Mark,
}

impl<S: ByteSource> Walk<'_, S> {
    /// The next kept value's index, and the mark before its gap; nothing after the last.
    fn next(&mut self) -> Result<Option<(Mark, usize)>, DecodeError> {
        let before = self.mark;
        if before.ordinal == self.count {
            return Ok(None);
        }
        let past_the_end = InvalidEncoding::Gap {
            number: before.ordinal as u64,
            elements: self.elements,
        };
        let Some(most) = (self.elements - before.coordinate).checked_sub(1) else {
            return Err(past_the_end.into());
        };
        let Some(gap) = rice::read(&mut self.bits, self.parameter, most as u64)? else {
            return Err(past_the_end.into());
        };
        let index = before.coordinate + usize::try_from(gap).expect("no more than the elements");
        self.mark = Mark {
            bit: self.bits.position(),
            ordinal: before.ordinal + 1,
            coordinate: index + 1,
        };
        Ok(Some((before, index)))
    }
}
