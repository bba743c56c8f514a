//! Values that chance keeps, each in 8 bits: which ones is known to both ends, so nothing is said of where they are.
//!
//! Of every 1,024 coordinates k are kept, as many as the density asks for, rounded up; of the last coordinates, of which there are fewer, likewise.
//! Each is kept with the same probability and multiplied by 1,024 / k, so that the expectation of what is sent is what was learnt: DARE
//! (Yu et al., "Language Models are Super Mario", 2024) in strata, which leaves chance less room. The kept values are in the blocks
//! of [`super::int8`], and all a tensor's bytes are those.
//!
//! Chance is the n-th number of SplitMix64 (Steele, Lea and Flood, 2014) for coordinate n, from a key that [`MaskSeed`] gives each tensor, and
//! k of a stratum are chosen one coordinate after the other (algorithm S in Knuth, "The Art of Computer Programming", 3.4.2): so a block is found
//! without what is before it.

use std::fmt;
use std::str::FromStr;

use super::int8::{self, BLOCK, BlockWriter, Coded, Zeros};
use super::{ByteSource, DecodeError, Density, Sink, TensorSparsity, Values, check_size};
use crate::digest::{Digest, ParseDigestError};
use crate::ids::{ClientId, RoundNumber};

/// Coordinates of which a fixed number is kept.
const STRATUM: usize = 1024;
/// Strata whose values are read at once.
const STRATA_AT_ONCE: usize = 16;

/// What decides which values of an update are kept. Neither end chooses it: it is told by what the update is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaskSeed(Digest);

impl MaskSeed {
    /// That of a client's update for a round from a base.
    #[must_use]
    pub fn of(base: &Digest, round: RoundNumber, client: &ClientId) -> Self {
        let of = [
            b"fedmerge mask\0",
            &base.as_bytes()[..],
            &round.get().to_le_bytes(),
            client.as_str().as_bytes(),
        ];
        Self(Digest::of(&of.concat()))
    }

    /// The key of a tensor's chance.
    pub(in crate::task_vector) fn key(&self, tensor: &str) -> u64 {
        let of = [self.0.as_bytes(), tensor.as_bytes()].concat();
        let digest = Digest::of(&of);
        let (words, _) = digest.as_bytes().as_chunks();
        u64::from_le_bytes(words[0])
    }
}

impl fmt::Display for MaskSeed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl FromStr for MaskSeed {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// Which values of a tensor are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mask {
    key: u64,
    density: Density,
    elements: usize,
}

impl Mask {
    fn new(sparsity: TensorSparsity, elements: usize) -> Self {
        Self {
            key: sparsity.mask_key,
            density: sparsity.density,
            elements,
        }
    }

    fn kept_of(&self, coordinates: usize) -> usize {
        usize::try_from(self.density.of(coordinates)).expect("no more than the coordinates")
    }

    /// How many values are kept before a stratum.
    fn kept_before(&self, stratum: usize) -> usize {
        match self.elements / STRATUM {
            whole if stratum <= whole => stratum * self.kept_of(STRATUM),
            whole => whole * self.kept_of(STRATUM) + self.kept_of(self.elements % STRATUM),
        }
    }

    /// How many values are kept.
    fn kept(&self) -> usize {
        self.kept_before(self.elements.div_ceil(STRATUM))
    }

    /// Shows the coordinates of a stratum that are kept, in order.
    fn for_each<E>(
        &self,
        stratum: usize,
        mut see: impl FnMut(usize) -> Result<(), E>,
    ) -> Result<(), E> {
        let begin = stratum * STRATUM;
        let end = self.elements.min(begin + STRATUM);
        let mut wanted = self.kept_of(end - begin) as u64;
        for coordinate in begin..end {
            let left = (end - coordinate) as u64;
            let chance = u128::from(chance(self.key, coordinate as u64)) * u128::from(left);
            if chance >> 64 < u128::from(wanted) {
                wanted -= 1;
                see(coordinate)?;
            }
        }
        Ok(())
    }

    /// What kept values of a stratum are multiplied by.
    fn factor(&self, stratum: usize) -> f32 {
        let coordinates = STRATUM.min(self.elements - stratum * STRATUM);
        coordinates as f32 / self.kept_of(coordinates) as f32
    }

    /// Shows what is sent of the values, in order.
    fn for_each_sent<E>(
        &self,
        values: &Values<'_, E>,
        mut see: impl FnMut(f32) -> Result<(), E>,
    ) -> Result<(), E> {
        values.for_each_block(|offset, block| {
            for stratum in offset / STRATUM..(offset + block.len()).div_ceil(STRATUM) {
                let factor = self.factor(stratum);
                self.for_each(stratum, |coordinate| {
                    let sent = block[coordinate - offset] * factor;
                    see(sent.clamp(f32::MIN, f32::MAX))
                })?;
            }
            Ok(())
        })
    }
}

/// SplitMix64's number for a coordinate.
const fn chance(key: u64, coordinate: u64) -> u64 {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut mixed = key.wrapping_add(coordinate.wrapping_add(1).wrapping_mul(GOLDEN));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A tensor before it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Draft(Mask);

impl Draft {
    pub(super) fn of<E>(
        values: &Values<'_, E>,
        sparsity: TensorSparsity,
    ) -> Result<Option<Self>, E> {
        let mask = Mask::new(sparsity, values.elements);
        let mut is_zero = true;
        mask.for_each_sent(values, |sent| {
            is_zero &= sent.abs() < int8::SMALLEST;
            Ok(())
        })?;
        Ok((!is_zero).then_some(Self(mask)))
    }

    pub(super) fn bytes(&self) -> u64 {
        int8::bytes_of(self.0.kept())
    }

    pub(super) fn write<E>(&self, values: &Values<'_, E>, sink: Sink<'_, E>) -> Result<(), E> {
        let mut coded = BlockWriter::at(0, self.0.kept(), Zeros::Allowed, sink);
        let (mut block, mut filled) = ([0.0; BLOCK], 0);
        self.0.for_each_sent(values, |sent| {
            block[filled] = sent;
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
        coded.finish()
    }
}

/// A tensor that is read.
#[derive(Debug)]
pub(super) struct Reader {
    mask: Mask,
    coded: Coded,
}

impl Reader {
    pub(super) fn open(
        source: &impl ByteSource,
        sparsity: TensorSparsity,
        elements: usize,
    ) -> Result<Self, DecodeError> {
        let mask = Mask::new(sparsity, elements);
        let elements = mask.kept();
        check_size(source, int8::bytes_of(elements))?;
        let coded = Coded {
            offset: 0,
            elements,
        };
        Ok(Self { mask, coded })
    }

    pub(super) fn verify(
        &self,
        source: &impl ByteSource,
        go_on: &dyn Fn() -> bool,
    ) -> Result<(), DecodeError> {
        self.coded.verify(source, Zeros::Allowed, go_on)
    }

    pub(super) fn read(
        &self,
        source: &impl ByteSource,
        offset: usize,
        values: &mut [f32],
    ) -> Result<(), DecodeError> {
        values.fill(0.0);
        let strata = offset / STRATUM..(offset + values.len()).div_ceil(STRATUM);
        let mut kept = vec![0.0; STRATA_AT_ONCE.min(strata.len()) * self.mask.kept_of(STRATUM)];
        for first in strata.clone().step_by(STRATA_AT_ONCE) {
            let end = strata.end.min(first + STRATA_AT_ONCE);
            let begin = self.mask.kept_before(first);
            let kept = &mut kept[..self.mask.kept_before(end) - begin];
            self.coded.read(source, begin, kept)?;
            let mut kept = kept.iter();
            let mut spread = |coordinate: usize| {
                let value = kept.next();
                let place = coordinate.checked_sub(offset);
                let place = place.and_then(|place| values.get_mut(place));
                if let (Some(place), Some(value)) = (place, value) {
                    *place = *value;
                }
                Ok::<_, DecodeError>(())
            };
            for stratum in first..end {
                self.mask.for_each(stratum, &mut spread)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
pub(super) mod tests {
    use std::convert::Infallible;

    use super::*;

    fn mask(mask_key: u64, share: f64, elements: usize) -> Mask {
        let density = Density::from_share(share).unwrap();
        Mask::new(TensorSparsity { density, mask_key }, elements)
    }

    /// The coordinates that are kept of so many.
    pub(in crate::task_vector::encoding) fn kept(
        sparsity: TensorSparsity,
        elements: usize,
    ) -> Vec<usize> {
        kept_by(&Mask::new(sparsity, elements))
    }

    fn kept_by(mask: &Mask) -> Vec<usize> {
        let mut kept = Vec::new();
        for stratum in 0..mask.elements.div_ceil(STRATUM) {
            let see = |coordinate| {
                kept.push(coordinate);
                Ok::<_, Infallible>(())
            };
            mask.for_each(stratum, see).unwrap();
        }
        kept
    }

    #[test]
    fn numbers_are_those_of_splitmix64() {
        let numbers = [0, 1, 2].map(|coordinate| chance(1_234_567, coordinate));
        let published = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!(numbers, published);
    }

    #[test]
    fn every_stratum_keeps_its_share_and_the_last_too() {
        for elements in [1, 7, 1023, 1024, 1025, 5000] {
            for share in [0.000_001, 0.1, 0.5, 1.0] {
                let mask = mask(7, share, elements);
                let kept = kept_by(&mask);
                assert_eq!(kept.len(), mask.kept());
                assert!(kept.is_sorted_by(|a, b| a < b));
                for stratum in 0..elements.div_ceil(STRATUM) {
                    let range = stratum * STRATUM..elements.min((stratum + 1) * STRATUM);
                    let within = kept.iter().filter(|at| range.contains(at)).count();
                    assert_eq!(within, mask.kept_of(range.len()), "{elements} {share}");
                    let before = kept.iter().filter(|at| **at < range.start).count();
                    assert_eq!(before, mask.kept_before(stratum));
                }
            }
        }
    }

    #[test]
    fn each_coordinate_is_kept_as_often_as_any_other() {
        let mut counts = [0_u32; 1500];
        let seeds = 4_000_u32;
        for seed in 0..seeds {
            for at in kept_by(&mask(u64::from(seed) << 20, 0.1, counts.len())) {
                counts[at] += 1;
            }
        }
        // A binomial count of 4,000 at 0.1 has a deviation of 19; six of them are never seen by chance.
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(
            (400 - 114..400 + 124).contains(least) && *most < 400 + 124,
            "{least} {most}"
        );
    }

    #[test]
    fn another_client_round_base_or_tensor_is_another_mask() {
        let (a, b): (ClientId, ClientId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let (base, other) = (Digest::of(b"base"), Digest::of(b"other"));
        let (first, second) = (RoundNumber::new(1), RoundNumber::new(2));
        let seed = MaskSeed::of(&base, first, &a);
        let keys = [
            seed.key("w"),
            seed.key("v"),
            MaskSeed::of(&base, first, &b).key("w"),
            MaskSeed::of(&base, second, &a).key("w"),
            MaskSeed::of(&other, first, &a).key("w"),
        ];
        let mut different = keys.to_vec();
        different.sort_unstable();
        different.dedup();
        assert_eq!(different.len(), keys.len());
        assert_eq!(MaskSeed::of(&base, first, &a), seed);
        assert_eq!(seed.to_string().parse::<MaskSeed>().unwrap(), seed);
    }
}
