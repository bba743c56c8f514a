//! A file on its way to the wire, in runs: cut where its hash's subtrees are, hashed, and packed where that is worth it.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Packer;
use super::slots::Slot;
use crate::pieces::{read_piece, stream_bytes};

/// Runs that are read by one job. While they are sent, the next job runs.
const RUNS_AT_ONCE: usize = 4;

/// A file that is being sent. Everything here blocks.
#[derive(Debug)]
pub struct Outgoing {
    file: File,
    begun: u64,
    offset: u64,
    /// Where to stop, unless the file ends before.
    end: u64,
    most_bytes: usize,
    /// None where the receiver takes nothing that is packed.
    packer: Option<Packer>,
}

/// Consecutive bytes of a file.
#[derive(Debug, Clone)]
pub struct Run {
    /// Position of the first, bytes.
    pub offset: u64,
    /// Their hash at this place, as of [`hash_at`](crate::digest::tree::hash_at).
    pub hash: [u8; 32],
    /// The bytes, or what they are packed to.
    pub data: Bytes,
    /// How many they are, where `data` is packed.
    pub unpacked_bytes: Option<usize>,
}

/// What one job has read.
#[derive(Debug, Default)]
pub struct Batch {
    /// None at the end.
    pub runs: Vec<Run>,
    /// How many bytes were tried to be packed.
    pub tried_bytes: u64,
    /// How long that took.
    pub packing: Duration,
}

impl Outgoing {
    /// Begins with the bytes from `place.start` on, in runs of at most `most_bytes` each.
    ///
    /// # Errors
    /// The file system's.
    pub fn begin(mut file: File, place: Range<u64>, most_bytes: usize) -> io::Result<Self> {
        let offset = file.seek(SeekFrom::Start(place.start))?;
        Ok(Self {
            file,
            begun: offset,
            offset,
            end: place.end,
            most_bytes,
            packer: None,
        })
    }

    /// Packs what a job is asked to pack.
    #[must_use]
    pub fn with_packer(self, packer: Packer) -> Self {
        Self {
            packer: Some(packer),
            ..self
        }
    }

    /// Reads on; no runs mean the end. `hash` is called with each run and its place.
    ///
    /// # Errors
    /// The file system's.
    pub fn read(
        &mut self,
        should_pack: bool,
        hash: impl Fn(u64, &[u8]) -> [u8; 32],
    ) -> io::Result<Batch> {
        let mut batch = Batch::default();
        while batch.runs.len() < RUNS_AT_ONCE {
            let left = usize::try_from(self.end - self.offset).unwrap_or(usize::MAX);
            let most_bytes = stream_bytes(self.begun, self.offset, self.most_bytes);
            let piece = read_piece(&self.file, left.min(most_bytes))?;
            if piece.is_empty() {
                break;
            }
            let mut run = Run {
                offset: self.offset,
                hash: hash(self.offset, &piece),
                data: piece,
                unpacked_bytes: None,
            };
            self.offset += run.data.len() as u64;
            if let Some(packer) = self.packer.as_mut().filter(|_| should_pack) {
                let begun = Instant::now();
                let _slot = Slot::take();
                batch.tried_bytes += run.data.len() as u64;
                if let Some(packed) = packer.pack(run.offset, &run.data) {
                    run.unpacked_bytes = Some(run.data.len());
                    run.data = packed.into();
                }
                batch.packing += begun.elapsed();
            }
            batch.runs.push(run);
        }
        Ok(batch)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::digest::tree::hash_at;
    use crate::packing::Unpacker;
    use crate::packing::tests::floats;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn weights(seed: u64) -> Vec<u8> {
        floats(seed, 300_000)
            .into_iter()
            .flat_map(f32::to_le_bytes)
            .collect()
    }

    /// What arrives, and how many bytes travelled.
    fn arrived(mut outgoing: Outgoing, should_pack: bool, older: &[u8]) -> (Vec<u8>, usize) {
        let mut unpacker = Unpacker::beside(file(older));
        let (mut arrived, mut travelled) = (Vec::new(), 0);
        loop {
            let batch = outgoing.read(should_pack, hash_at).unwrap();
            if batch.runs.is_empty() {
                return (arrived, travelled);
            }
            for run in batch.runs {
                let data = match run.unpacked_bytes {
                    Some(bytes) => unpacker.unpack(run.offset, &run.data, bytes).unwrap(),
                    None => run.data.to_vec(),
                };
                assert_eq!(hash_at(run.offset, &data), run.hash);
                travelled += run.data.len();
                arrived.extend(data);
            }
        }
    }

    #[test]
    fn the_same_bytes_arrive_packed_or_not_from_any_place_on() {
        let (bytes, older) = (weights(1), weights(2));
        for begin in [0, 1_001, 70_000] {
            let place = begin as u64..u64::MAX;
            let outgoing = || Outgoing::begin(file(&bytes), place.clone(), 1 << 18).unwrap();
            let (plain, all) = arrived(outgoing(), true, &older);
            assert_eq!(
                (plain.len(), all),
                (bytes.len() - begin, bytes.len() - begin)
            );
            let packing = || outgoing().with_packer(Packer::beside(Some(file(&older))).unwrap());
            let (unpacked, fewer) = arrived(packing(), true, &older);
            assert!(unpacked == plain && plain == bytes[begin..] && fewer < all * 94 / 100);
            assert_eq!(arrived(packing(), false, &older), (plain, all));
        }
    }

    #[test]
    fn it_stops_where_it_is_told_or_where_the_file_ends() {
        let bytes = weights(1);
        for (end, expected) in [(5_000, 5_000), (bytes.len() as u64 + 9, bytes.len())] {
            let outgoing = Outgoing::begin(file(&bytes), 1_000..end, 1 << 18).unwrap();
            assert_eq!(arrived(outgoing, false, &[]).0, bytes[1_000..expected]);
        }
    }
}
