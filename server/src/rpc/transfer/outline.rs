//! The hashes of a model's chunks: taken when the first client downloads them, and known when the others do.
//!
//! A client checks what it gets, so bytes that a disk changed later are noticed there.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use fedmerge_common::digest::Digest;
use fedmerge_common::digest::tree::hash_at;
use fedmerge_proto::limits::CHUNK_BYTES;

/// Models whose hashes are kept: a base, the one before it, and a candidate are what clients ask for. Each takes about 160 KiB a GiB.
const MODELS: usize = 3;

/// The outlines of the models that were asked for last.
#[derive(Debug, Default)]
pub(super) struct Outlines(Mutex<VecDeque<(Digest, Arc<Outline>)>>);

impl Outlines {
    /// That of a model of so many bytes.
    pub(super) fn of(&self, model: &Digest, bytes: u64) -> Arc<Outline> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().position(|(digest, _)| digest == model);
        let found = found.and_then(|position| kept.remove(position));
        let (digest, outline) = found.unwrap_or_else(|| (*model, Arc::new(Outline::new(bytes))));
        kept.push_front((digest, Arc::clone(&outline)));
        kept.truncate(MODELS);
        outline
    }
}

/// The hashes of one model's whole chunks, where they are known.
#[derive(Debug)]
pub(super) struct Outline(Vec<OnceLock<[u8; 32]>>);

impl Outline {
    fn new(bytes: u64) -> Self {
        let chunks = usize::try_from(bytes / CHUNK_BYTES as u64).unwrap_or(0);
        Self((0..chunks).map(|_| OnceLock::new()).collect())
    }

    /// The hash of bytes of the model at their place, taken unless that was done before.
    pub(super) fn hash(&self, offset: u64, bytes: &[u8]) -> [u8; 32] {
        let is_whole = bytes.len() == CHUNK_BYTES && offset.is_multiple_of(CHUNK_BYTES as u64);
        let number = usize::try_from(offset / CHUNK_BYTES as u64);
        let place = number.ok().and_then(|number| self.0.get(number));
        match place.filter(|_| is_whole) {
            Some(place) => *place.get_or_init(|| hash_at(offset, bytes)),
            None => hash_at(offset, bytes),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use super::*;

    fn digest(number: u8) -> Digest {
        Digest::of(&[number])
    }

    #[test]
    fn a_whole_chunk_is_hashed_once_for_everyone() {
        let outlines = Outlines::default();
        let bytes = 2 * CHUNK_BYTES as u64 + 5;
        let place = CHUNK_BYTES as u64;
        let (one, two) = (vec![1; CHUNK_BYTES], vec![2; CHUNK_BYTES]);
        let first = outlines.of(&digest(1), bytes);
        assert_eq!(first.hash(place, &one), hash_at(place, &one));
        let second = outlines.of(&digest(1), bytes);
        // Bytes that nobody hashes: the hash is that of the first.
        assert_eq!(second.hash(place, &two), hash_at(place, &one));
        let another = outlines.of(&digest(2), bytes);
        assert_eq!(another.hash(place, &two), hash_at(place, &two));
    }

    #[test]
    fn parts_of_chunks_and_the_last_are_hashed_each_time() {
        let outline = Outline::new(2 * CHUNK_BYTES as u64 + 5);
        for (offset, bytes) in [(0, 7), (1024, CHUNK_BYTES), (2 * CHUNK_BYTES, 5)] {
            for value in [1, 2] {
                let (offset, bytes) = (offset as u64, vec![value; bytes]);
                assert_eq!(outline.hash(offset, &bytes), hash_at(offset, &bytes));
            }
        }
    }

    #[test]
    fn what_was_asked_for_long_ago_is_forgotten() {
        let outlines = Outlines::default();
        let first = outlines.of(&digest(0), 10);
        for number in 1..=3 {
            assert!(Arc::ptr_eq(&outlines.of(&digest(0), 10), &first));
            outlines.of(&digest(number), 10);
        }
        outlines.of(&digest(4), 10);
        outlines.of(&digest(5), 10);
        assert!(!Arc::ptr_eq(&outlines.of(&digest(0), 10), &first));
        assert_eq!(outlines.0.lock().unwrap().len(), MODELS);
    }
}
