//! Streams of bits, least significant first, over bytes that are read and written in pieces.
//!
//! A reader stays between the byte where it begins and the byte where it must end, and answers bits beyond with an error.

use super::{ByteSource, DecodeError, InvalidEncoding, Sink};

/// Bytes that a writer gathers and a reader fetches at once.
const PIECE_BYTES: usize = 1024;

/// Writes bytes one after the other.
pub(super) struct ByteWriter<'a, E> {
    sink: Sink<'a, E>,
    offset: u64,
    piece: Vec<u8>,
}

impl<'a, E> ByteWriter<'a, E> {
    /// Begins at an offset.
    pub(super) fn at(offset: u64, sink: Sink<'a, E>) -> Self {
        Self {
            sink,
            offset,
            piece: Vec::with_capacity(PIECE_BYTES),
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), E> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    pub(super) fn flush(&mut self) -> Result<(), E> {
        if !self.piece.is_empty() {
            (self.sink)(self.offset, &self.piece)?;
            self.offset += self.piece.len() as u64;
            self.piece.clear();
        }
        Ok(())
    }
}

/// Writes bits one after the other.
pub(super) struct BitWriter<'a, E> {
    bytes: ByteWriter<'a, E>,
    word: u64,
    bits: u32,
}

impl<'a, E> BitWriter<'a, E> {
    /// Begins at a byte.
    pub(super) fn at(offset: u64, sink: Sink<'a, E>) -> Self {
        Self {
            bytes: ByteWriter::at(offset, sink),
            word: 0,
            bits: 0,
        }
    }

    /// Appends the lowest `count` bits, at most 32, of a value that has no others.
    pub(super) fn push(&mut self, value: u64, count: u32) -> Result<(), E> {
        self.word |= value << self.bits;
        self.bits += count;
        while self.bits >= u8::BITS {
            self.bytes.write(&self.word.to_le_bytes()[..1])?;
            self.word >>= u8::BITS;
            self.bits -= u8::BITS;
        }
        Ok(())
    }

    /// Appends so many zeros and a one.
    pub(super) fn push_unary(&mut self, mut zeros: u64) -> Result<(), E> {
        while zeros >= 31 {
            self.push(0, 31)?;
            zeros -= 31;
        }
        self.push(1 << zeros, u32::try_from(zeros).expect("less than 31") + 1)
    }

    /// Fills the last byte with zeros.
    pub(super) fn finish(mut self) -> Result<(), E> {
        if self.bits > 0 {
            self.bytes.write(&self.word.to_le_bytes()[..1])?;
        }
        self.bytes.flush()
    }
}

/// Reads bits one after the other.
pub(super) struct BitReader<'a, S> {
    source: &'a S,
    /// The byte that is fetched next.
    next: u64,
    /// The byte after the last.
    end: u64,
    piece: [u8; PIECE_BYTES],
    filled: usize,
    used: usize,
    word: u64,
    bits: u32,
    position: u64,
}

impl<'a, S: ByteSource> BitReader<'a, S> {
    /// Begins at bit `position` of the bytes from `begin` up to `end`.
    pub(super) fn at(
        source: &'a S,
        (begin, end): (u64, u64),
        position: u64,
    ) -> Result<Self, DecodeError> {
        let mut reader = Self {
            source,
            next: begin + position / 8,
            end,
            piece: [0; PIECE_BYTES],
            filled: 0,
            used: 0,
            word: 0,
            bits: 0,
            position: position - position % 8,
        };
        let within = u32::try_from(position % 8).expect("less than 8");
        if within > 0 {
            reader.take(within)?;
        }
        Ok(reader)
    }

    /// How many bits were read, counted from the first.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    fn refill(&mut self) -> Result<(), DecodeError> {
        while self.bits <= u64::BITS - u8::BITS {
            if self.used == self.filled {
                let left = usize::try_from(self.end - self.next).unwrap_or(usize::MAX);
                self.filled = left.min(PIECE_BYTES);
                self.used = 0;
                if self.filled == 0 {
                    return Ok(());
                }
                self.source
                    .read_at(self.next, &mut self.piece[..self.filled])?;
                self.next += self.filled as u64;
            }
            self.word |= u64::from(self.piece[self.used]) << self.bits;
            self.used += 1;
            self.bits += u8::BITS;
        }
        Ok(())
    }

    fn truncated(&self) -> DecodeError {
        let found = self.source.len();
        InvalidEncoding::Truncated { found }.into()
    }

    fn drop(&mut self, count: u32) {
        self.word = self.word.checked_shr(count).unwrap_or(0);
        self.bits -= count;
        self.position += u64::from(count);
    }

    /// The next `count` bits, at most 32.
    pub(super) fn take(&mut self, count: u32) -> Result<u64, DecodeError> {
        if self.bits < count {
            self.refill()?;
        }
        if self.bits < count {
            return Err(self.truncated());
        }
        let value = self.word & ((1 << count) - 1);
        self.drop(count);
        Ok(value)
    }

    /// How many zeros stand before the next one, which is read too; nothing when there are more than `most`.
    pub(super) fn unary(&mut self, most: u64) -> Result<Option<u64>, DecodeError> {
        let mut zeros = 0;
        loop {
            if self.bits == 0 {
                self.refill()?;
            }
            if self.bits == 0 {
                return Err(self.truncated());
            }
            let found = self.word.trailing_zeros().min(self.bits);
            zeros += u64::from(found);
            if zeros > most {
                return Ok(None);
            }
            if found < self.bits {
                self.drop(found + 1);
                return Ok(Some(zeros));
            }
            self.drop(found);
        }
    }
}
