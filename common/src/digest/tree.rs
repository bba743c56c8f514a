//! BLAKE3 as the tree that it is: a run of bytes at its place in some content has a hash of its own, and from the hashes of all runs
//! comes the digest of the whole.
//!
//! So bytes that came with such a hash are hashed once, to check them, and not once more for the whole. See section 2.1 of the BLAKE3
//! paper (O'Connor, Aumasson, Neves, Wilcox-O'Hearn, 2020): content is cut in blocks of 1,024 bytes; a subtree is a power of two of them that
//! begins at a multiple of its own length, or what is left of one at the end; only the root is hashed as a root.

use blake3::Hasher;
use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, max_subtree_len, merge_subtrees_non_root, merge_subtrees_root,
};

use super::Digest;

/// Bytes of the tree's leaves.
pub const LEAF_BYTES: u64 = blake3::CHUNK_LEN as u64;
/// Bytes that are hashed here become one subtree of so many bytes after the other.
const SUBTREE_BYTES: usize = 256 * 1024;

/// The hash of a run of bytes at its place in some content.
///
/// Where the run is a subtree it is that subtree's chaining value, else BLAKE3 of the run alone.
#[must_use]
pub fn hash_at(offset: u64, run: &[u8]) -> [u8; 32] {
    if !is_subtree(offset, run.len() as u64) {
        return blake3::hash(run).into();
    }
    let mut hasher = Hasher::new();
    hasher.set_input_offset(offset);
    hasher.update(run);
    hasher.finalize_non_root()
}

/// Whether a run may be a subtree: one that ends early is one at the end of the content alone.
fn is_subtree(offset: u64, bytes: u64) -> bool {
    let begins = offset.is_multiple_of(LEAF_BYTES);
    begins && bytes > 0 && max_subtree_len(offset).is_none_or(|most| bytes <= most)
}

/// How many bytes of content make a subtree from `offset` on: at most the largest power of two within `most_bytes`, which are no fewer than
/// [`LEAF_BYTES`]. Within a leaf, they are those to its end.
///
/// So runs begin small after an odd place, and double.
#[must_use]
pub fn run_bytes(offset: u64, most_bytes: usize) -> usize {
    let into_leaf = offset % LEAF_BYTES;
    let most_bytes = most_bytes.max(1);
    let bytes = if into_leaf > 0 {
        LEAF_BYTES - into_leaf
    } else {
        max_subtree_len(offset).unwrap_or(u64::MAX)
    };
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    bytes.min(1 << most_bytes.ilog2())
}

/// The digest of content that arrives in order, of which some was hashed before.
#[derive(Debug, Clone)]
pub struct TreeDigest {
    /// Chaining values of whole subtrees, each smaller than the one before, with their lengths. Two of one length are joined
    /// when more follows, because the last to be joined is the root.
    subtrees: Vec<(ChainingValue, u64)>,
    /// What comes after them: one subtree, whole or not.
    tail: Hasher,
    /// Bytes in it.
    tail_bytes: usize,
    bytes: u64,
}

impl Default for TreeDigest {
    fn default() -> Self {
        Self::new()
    }
}

impl TreeDigest {
    /// Begins with no content.
    #[must_use]
    pub fn new() -> Self {
        Self {
            subtrees: Vec::new(),
            tail: Hasher::new(),
            tail_bytes: 0,
            bytes: 0,
        }
    }

    /// Bytes of content so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds bytes.
    pub fn update(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            if self.tail_room() == 0 {
                self.close_tail();
            }
            let (now, later) = piece.split_at(self.tail_room().min(piece.len()));
            self.tail.update(now);
            self.tail_bytes += now.len();
            self.bytes += now.len() as u64;
            piece = later;
        }
    }

    /// Adds bytes whose [`hash_at`] this place is known. They are hashed only where that is of no use: when they are no whole subtree, are the first,
    /// or follow an odd piece.
    pub fn update_hashed(&mut self, piece: &[u8], hash: [u8; 32]) {
        let bytes = piece.len() as u64;
        let is_whole =
            bytes.is_power_of_two() && bytes >= LEAF_BYTES && self.bytes.is_multiple_of(bytes);
        // The first may be the whole content: its root is another hash.
        let is_first = self.bytes == 0;
        let has_open_tail = self.tail_bytes > 0 && self.tail_room() > 0;
        if !is_whole || is_first || has_open_tail {
            self.update(piece);
            return;
        }
        if self.tail_bytes > 0 {
            self.close_tail();
        }
        self.push(hash, bytes);
        self.bytes += bytes;
        self.tail.set_input_offset(self.bytes);
    }

    /// The digest of all content.
    #[must_use]
    pub fn finish(&self) -> Digest {
        let mut subtrees = self.subtrees.clone();
        if self.tail_bytes > 0 && !subtrees.is_empty() {
            join_equals(&mut subtrees);
            let tail = self.tail.finalize_non_root();
            subtrees.push((tail, self.tail_bytes as u64));
        }
        let Some((mut right, _)) = subtrees.pop() else {
            return Digest(self.tail.finalize().into());
        };
        while let Some((left, _)) = subtrees.pop() {
            if subtrees.is_empty() {
                return Digest(merge_subtrees_root(&left, &right, Mode::Hash).into());
            }
            right = merge_subtrees_non_root(&left, &right, Mode::Hash);
        }
        unreachable!("the first bytes stay in the tail until others follow")
    }

    /// Bytes until the tail is whole.
    fn tail_room(&self) -> usize {
        run_bytes(self.bytes - self.tail_bytes as u64, SUBTREE_BYTES) - self.tail_bytes
    }

    /// The tail is a whole subtree, and something follows.
    fn close_tail(&mut self) {
        self.push(self.tail.finalize_non_root(), self.tail_bytes as u64);
        // Not `reset`: that keeps the place in the input.
        self.tail = Hasher::new();
        self.tail.set_input_offset(self.bytes);
        self.tail_bytes = 0;
    }

    fn push(&mut self, value: ChainingValue, bytes: u64) {
        join_equals(&mut self.subtrees);
        self.subtrees.push((value, bytes));
    }
}

/// Something follows: what makes whole subtrees before it is joined.
fn join_equals(subtrees: &mut Vec<(ChainingValue, u64)>) {
    while let [.., (left, left_bytes), (right, right_bytes)] = subtrees[..]
        && left_bytes == right_bytes
    {
        subtrees.truncate(subtrees.len() - 2);
        let joined = merge_subtrees_non_root(&left, &right, Mode::Hash);
        subtrees.push((joined, left_bytes + right_bytes));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn content(bytes: usize) -> Vec<u8> {
        let mut content = vec![0; bytes];
        Hasher::new()
            .update(b"content")
            .finalize_xof()
            .fill(&mut content);
        content
    }

    /// In runs as a transfer cuts them that begins anew at each of these places.
    fn in_runs(content: &[u8], most_bytes: usize, places: &[usize]) -> TreeDigest {
        let mut digest = TreeDigest::new();
        let mut at = 0;
        while at < content.len() {
            let place = places.iter().find(|place| **place > at);
            let end = place.map_or(content.len(), |place| content.len().min(*place));
            let bytes = run_bytes(at as u64, most_bytes);
            let run = &content[at..end.min(at + bytes)];
            digest.update_hashed(run, hash_at(at as u64, run));
            at += run.len();
        }
        digest
    }

    #[test]
    fn runs_that_were_hashed_have_the_digest_of_the_whole() {
        let most_bytes = 64 * 1024;
        let lengths = [
            0, 1, 1023, 1024, 1025, 65_535, 65_536, 65_537, 131_072, 131_073, 262_144, 262_145,
            524_288, 1_000_000, 1_048_576,
        ];
        for bytes in lengths {
            let content = content(bytes);
            let digest = in_runs(&content, most_bytes, &[]);
            assert_eq!(digest.finish(), Digest::of(&content), "{bytes}");
            assert_eq!(digest.bytes(), bytes as u64);
        }
    }

    #[test]
    fn a_hash_that_is_wrong_makes_another_digest() {
        let content = content(1 << 20);
        let mut digest = TreeDigest::new();
        for (number, run) in content.chunks(1 << 18).enumerate() {
            let mut hash = hash_at((number as u64) << 18, run);
            hash[0] ^= u8::from(number == 2);
            digest.update_hashed(run, hash);
        }
        assert_ne!(digest.finish(), Digest::of(&content));
    }

    /// A second hash of every byte would be noticed by nothing else.
    #[test]
    fn whole_runs_after_the_first_are_not_hashed_again() {
        let mut digest = TreeDigest::new();
        let run = content(1 << 18);
        for number in 0..8_u64 {
            let offset = number << 18;
            let hash = if number == 0 {
                hash_at(0, &run)
            } else {
                [7; 32]
            };
            digest.update_hashed(&run, hash);
            assert_eq!(digest.bytes(), offset + (1 << 18));
        }
        let sevens = digest
            .subtrees
            .iter()
            .filter(|(value, _)| *value == [7; 32]);
        assert!(sevens.count() > 0);
    }

    #[test]
    fn runs_begin_small_after_an_odd_place_and_double() {
        let cut = |mut offset: u64| {
            let mut runs = Vec::new();
            for _ in 0..7 {
                let bytes = run_bytes(offset, 8192);
                runs.push(bytes);
                offset += bytes as u64;
            }
            runs
        };
        assert_eq!(cut(0), [8192; 7]);
        assert_eq!(cut(10), [1014, 1024, 2048, 4096, 8192, 8192, 8192]);
        assert_eq!(cut(4096), [4096, 8192, 8192, 8192, 8192, 8192, 8192]);
    }

    proptest! {
        #[test]
        fn whatever_the_pieces_the_digest_is_that_of_the_whole(
            bytes in 0_usize..700_000,
            most in 10_u32..19,
            mut places in prop::collection::vec(0_usize..700_000, 0..6),
            plain in any::<bool>(),
        ) {
            places.sort_unstable();
            let content = content(bytes);
            let mut digest = in_runs(&content, 1 << most, &places);
            if plain {
                // What follows is not hashed yet.
                digest.update(&content);
                let twice = [&content[..], &content[..]].concat();
                prop_assert_eq!(digest.finish(), Digest::of(&twice));
            } else {
                prop_assert_eq!(digest.finish(), Digest::of(&content));
            }
        }

        #[test]
        fn one_changed_bit_of_a_run_is_another_hash(
            offset in 0_u64..5_000_000,
            bytes in 1_usize..5000,
            at in 0_usize..5000,
        ) {
            let mut run = content(bytes);
            let before = hash_at(offset, &run);
            run[at % bytes] ^= 1;
            prop_assert_ne!(hash_at(offset, &run), before);
        }
    }
}
