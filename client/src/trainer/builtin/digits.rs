//! The handwritten digits that come with the program: unpacked from 41 bytes a record, split once and for all.
//!
//! The split depends on nothing but the bytes: records are ranked by digest, the first 359 of 1,797 (20 %) are the
//! global test set and nobody ever trains on them. Source, licence and layout are in `client/data/README.md`.

use fedmerge_common::digest::Digest;

use super::dataset::Dataset;

const PACKED: &[u8] = include_bytes!("../../../data/digits.bin");
const PIXELS: usize = 64;
const PIXEL_BITS: usize = 5;
const WHITEST_TO_BLACKEST: f32 = 16.0;
const RECORD_BYTES: usize = PIXELS * PIXEL_BITS / 8 + 1;
const CLASSES: usize = 10;

/// The examples that may be trained on, in the order of the fixed split: 1,438 of them.
pub fn training() -> Dataset {
    all().split().0
}

/// The global test set: 359 examples that nobody trains on.
pub fn test() -> Dataset {
    all().split().1
}

/// All 1,797 examples in the order of the source.
///
/// # Panics
/// Never: a test unpacks the embedded bytes.
pub fn all() -> Dataset {
    let (records, _) = PACKED.as_chunks::<RECORD_BYTES>();
    let features = records.iter().flat_map(pixels).collect();
    let labels = records
        .iter()
        .map(|record| usize::from(record[RECORD_BYTES - 1]))
        .collect();
    Dataset::new(features, labels, PIXELS, CLASSES).expect("the embedded digits are well formed")
}

/// Pixel values from 0 (white) to 1 (black): 5 bits each, least significant first.
fn pixels(record: &[u8; RECORD_BYTES]) -> [f32; PIXELS] {
    std::array::from_fn(|pixel| {
        let value = (0..PIXEL_BITS).fold(0_u8, |value, bit| {
            let at = pixel * PIXEL_BITS + bit;
            value | (record[at / 8] >> (at % 8) & 1) << bit
        });
        f32::from(value) / WHITEST_TO_BLACKEST
    })
}

/// The rank of each record is the order of the digests of their contents.
pub(super) fn digest_of(features: &[f32], label: usize) -> Digest {
    let mut bytes = Vec::with_capacity(features.len() * 4 + 8);
    for value in features {
        bytes.extend_from_slice(&value.to_le_bytes());
    }
    bytes.extend_from_slice(&(label as u64).to_le_bytes());
    Digest::of(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_record_is_the_zero_of_the_source() {
        let digits = all();
        assert_eq!(digits.len(), 1797);
        assert_eq!(digits.label(0), 0);
        let first_row = [0.0, 0.0, 5.0, 13.0, 9.0, 1.0, 0.0, 0.0].map(|value: f32| value / 16.0);
        assert_eq!(digits.features(0)[..8], first_row);
    }

    #[test]
    fn every_digit_occurs_as_often_as_in_the_source() {
        let digits = all();
        let mut counts = [0; CLASSES];
        for index in 0..digits.len() {
            counts[digits.label(index)] += 1;
        }
        assert_eq!(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
    }

    #[test]
    fn the_split_leaves_one_fifth_for_the_test_and_keeps_the_parts_apart() {
        let (training, test) = (training(), test());
        assert_eq!((training.len(), test.len()), (1438, 359));
        let of = |data: &Dataset| {
            (0..data.len())
                .map(|index| digest_of(data.features(index), data.label(index)).to_string())
                .collect::<std::collections::BTreeSet<_>>()
        };
        assert!(of(&training).is_disjoint(&of(&test)));
    }
}
