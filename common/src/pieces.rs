//! Files read in pieces, for whoever hands the pieces on: each is memory of its own, filled once.

use std::fs::File;
use std::io::{self, Read};

/// The next `most_bytes` of a file from where it stands; fewer at its end alone, and none there.
///
/// # Errors
/// When reading fails.
pub fn read_piece(mut file: &File, most_bytes: usize) -> io::Result<Vec<u8>> {
    let mut piece = Vec::with_capacity(most_bytes);
    Read::take(&mut file, most_bytes as u64).read_to_end(&mut piece)?;
    Ok(piece)
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
}
