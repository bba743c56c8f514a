//! Files read in pieces, for whoever hands the pieces on.
//!
//! A piece's memory is used again when nobody has the piece any more: it is taken and let go by different threads, among which an allocator
//! would leave much of it lying.

use std::fs::File;
use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use crate::digest::tree::run_bytes;

/// Longest piece.
pub const PIECE_BYTES: usize = 256 * 1024;
/// Pieces whose memory is kept for the next, 16 MiB of them.
const KEPT: usize = 64;

/// The first piece of a stream.
const FIRST_BYTES: usize = 4 * 1024;
/// A piece is this part of what the stream has carried before it, at most.
const SHARE: u64 = 64;

static FREE: Mutex<Vec<Memory>> = Mutex::new(Vec::new());

type Memory = Box<[u8]>;

/// Memory of which the first bytes were read.
struct Piece {
    memory: Memory,
    filled: usize,
}

impl Piece {
    fn new() -> Self {
        let kept = FREE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Self {
            memory: kept.unwrap_or_else(|| vec![0; PIECE_BYTES].into()),
            filled: 0,
        }
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.filled]
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < KEPT {
            free.push(std::mem::take(&mut self.memory));
        }
    }
}

/// How long the piece at `offset` of a stream that began at `begun` should be: a subtree of the whole's hash, and so small a part of what
/// the stream has carried that little of it is lost when the stream breaks in the middle of a piece.
#[must_use]
pub fn stream_bytes(begun: u64, offset: u64, most_bytes: usize) -> usize {
    let share = usize::try_from(offset.saturating_sub(begun) / SHARE).unwrap_or(usize::MAX);
    run_bytes(offset, share.max(FIRST_BYTES).min(most_bytes))
}

/// The next `most_bytes` of a file from where it stands, and no more than [`PIECE_BYTES`]; fewer at its end alone, and none there.
///
/// # Errors
/// When reading fails.
pub fn read_piece(mut file: &File, most_bytes: usize) -> io::Result<Bytes> {
    let mut piece = Piece::new();
    let most_bytes = most_bytes.min(PIECE_BYTES);
    while piece.filled < most_bytes {
        match file.read(&mut piece.memory[piece.filled..most_bytes]) {
            Ok(0) => break,
            Ok(bytes) => piece.filled += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Bytes::from_owner(piece))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use std::io::{Seek, Write};

    use super::*;

    #[test]
    fn a_file_comes_in_pieces_from_where_it_stands_and_the_last_is_shorter() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"abcdefgh").unwrap();
        file.seek(io::SeekFrom::Start(1)).unwrap();
        for expected in [&b"bcd"[..], b"efg", b"h", b""] {
            assert_eq!(read_piece(&file, 3).unwrap(), expected);
        }
    }

    #[test]
    fn a_break_loses_little_of_what_a_stream_has_carried_wherever_it_began() {
        for begun in [0, 5, 4096, 3 << 20, (7 << 20) + 1024] {
            let mut offset = begun;
            let mut pieces = 0;
            while offset < begun + (64 << 20) {
                let bytes = stream_bytes(begun, offset, PIECE_BYTES);
                let carried = usize::try_from(offset - begun).unwrap();
                assert!(bytes <= FIRST_BYTES.max(carried / 64), "{begun}: {offset}");
                offset += bytes as u64;
                pieces += 1;
            }
            // 256 would be the fewest.
            assert!(pieces < 800, "{begun}: {pieces}");
        }
    }

    #[test]
    fn no_piece_is_longer_than_its_memory() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; PIECE_BYTES + 1]).unwrap();
        file.rewind().unwrap();
        assert_eq!(read_piece(&file, usize::MAX).unwrap().len(), PIECE_BYTES);
        assert_eq!(read_piece(&file, usize::MAX).unwrap(), &[7][..]);
    }

    #[test]
    fn a_piece_keeps_its_bytes_while_others_come_and_go() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"abcdefgh").unwrap();
        file.rewind().unwrap();
        let first = read_piece(&file, 2).unwrap();
        let part = first.slice(1..);
        drop(first);
        for _ in 0..3 {
            drop(read_piece(&file, 2).unwrap());
        }
        assert_eq!(part, &b"b"[..]);
    }
}
