//! What is packed is unpacked to the same bytes, in fewer where that is possible, and lies are refused.

#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use std::io::Write;

use half::bf16;
use proptest::prelude::*;

use super::*;

/// Bytes of which none tells anything of another.
pub(super) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    let mut noise = vec![0; bytes];
    hasher.finalize_xof().fill(&mut noise);
    noise
}

/// Values as weights are: most near 0, of both signs.
pub(super) fn floats(seed: u64, count: usize) -> Vec<f32> {
    let noise = noise(seed, count * 8);
    let (words, _) = noise.as_chunks::<8>();
    let values = words.iter().map(|word| {
        let [a, b, c, d, rest @ ..] = *word;
        let sum: f32 = [a, b, c, d].map(f32::from).iter().sum();
        let fine = u32::from_le_bytes(rest) as f32 / 4_294_967_296.0;
        (sum - 510.5 + fine) * 1e-4
    });
    values.collect()
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn halves(values: &[f32]) -> Vec<u8> {
    let halves = values.iter().map(|value| bf16::from_f32(*value));
    halves.flat_map(bf16::to_le_bytes).collect()
}

/// The same weights after some training.
fn trained(values: &[f32], rate: f32) -> Vec<f32> {
    let steps = floats(99, values.len());
    values
        .iter()
        .zip(steps)
        .map(|(value, step)| value + rate * step)
        .collect()
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn packer(older: Option<&[u8]>) -> Packer {
    Packer::beside(older.map(file)).unwrap()
}

fn unpacker(older: Option<&[u8]>) -> Unpacker {
    older.map_or_else(Unpacker::default, |older| Unpacker::beside(file(older)))
}

/// How long a run becomes, as a part of its length; and it is the same when it is unpacked.
fn packed_share(run: &[u8], older: Option<&[u8]>) -> f64 {
    let packed = packer(older).pack(0, run);
    let Some(packed) = packed else { return 1.0 };
    let unpacked = unpacker(older).unpack(0, &packed, run.len());
    assert_eq!(unpacked.unwrap(), run);
    packed.len() as f64 / run.len() as f64
}

#[test]
fn a_model_is_a_part_of_itself_beside_the_one_before() {
    let before = floats(1, 65_536);
    let after = trained(&before, 1e-2);
    let cases = [
        ("float32, alone", packed_share(&bytes(&after), None), 0.93),
        (
            "float32, beside",
            packed_share(&bytes(&after), Some(&bytes(&before))),
            0.72,
        ),
        ("bfloat16, alone", packed_share(&halves(&after), None), 0.85),
        (
            "bfloat16, beside",
            packed_share(&halves(&after), Some(&halves(&before))),
            0.3,
        ),
        (
            "the same",
            packed_share(&bytes(&before), Some(&bytes(&before))),
            0.001,
        ),
    ];
    for (what, share, most) in cases {
        assert!(share < most, "{what}: {share}");
    }
}

#[test]
fn a_packer_and_an_unpacker_go_on_with_runs_of_any_length() {
    let before = bytes(&floats(1, 65_536));
    let after = bytes(&trained(&floats(1, 65_536), 1e-2));
    for older in [None, Some(&before[..])] {
        let (mut packer, mut unpacker) = (packer(older), unpacker(older));
        let mut offset = 0;
        for length in [65_536, 1_000, 4_097, 62_143, 2_058, 70_001] {
            let run = &after[offset..offset + length];
            let place = offset as u64;
            if let Some(packed) = packer.pack(place, run) {
                assert!(packed.len() < length);
                assert_eq!(unpacker.unpack(place, &packed, length).unwrap(), run);
            }
            offset += length;
        }
    }
}

#[test]
fn what_nothing_can_be_saved_of_is_not_packed() {
    assert_eq!(
        packer(Some(&noise(2, 262_144))).pack(0, &noise(1, 262_144)),
        None
    );
    assert_eq!(packer(None).pack(0, &[]), None);
    // An older version that ends before is none.
    assert_eq!(
        packer(Some(&noise(1, 4_095))).pack(0, &noise(1, 4_096)),
        None
    );
    assert!(
        packer(Some(&noise(1, 4_096)))
            .pack(0, &noise(1, 4_096))
            .is_some()
    );
}

/// A run that is packed as distances, and what it is measured from.
fn distances() -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let before = bytes(&floats(1, 1_025))[..4_099].to_vec();
    let after = bytes(&trained(&floats(1, 1_025), 1e-3))[..4_099].to_vec();
    let packed = packer(Some(&before)).pack(0, &after).unwrap();
    assert_eq!(packed[0], 0b110);
    (before, after, packed)
}

#[test]
fn lies_about_a_packed_run_are_refused() {
    let (before, after, packed) = distances();
    let mut unpacker = unpacker(Some(&before));
    let mut unpack = |packed: &[u8], bytes| unpacker.unpack(0, packed, bytes);
    assert_eq!(unpack(&packed, 4_099).unwrap(), after);
    assert_eq!(unpack(&[], 4_099), Err(UnpackError::Truncated(0)));
    let changed = |place: usize, byte: u8| {
        let mut changed = packed.clone();
        changed[place] = byte;
        changed
    };
    assert_eq!(unpack(&changed(0, 8), 4_099), Err(UnpackError::Form(8)));
    let longer = [&packed[..], b"x"].concat();
    assert_eq!(unpack(&longer, 4_099), Err(UnpackError::Trailing(1)));
    for length in [1, 3, 5, 1_000, packed.len() - 1] {
        let error = unpack(&packed[..length], 4_099).unwrap_err();
        assert_eq!(error, UnpackError::Truncated(length));
    }
    // A length of 2 GiB; a plane that is shorter or longer than the words are many.
    let huge = unpack(&changed(4, 0xff), 4_099);
    assert_eq!(huge, Err(UnpackError::Truncated(packed.len())));
    for bytes in [3_000, 4_095] {
        let error = unpack(&packed, bytes).unwrap_err();
        assert!(
            matches!(error, UnpackError::Plane { plane: 0, .. }),
            "{error}"
        );
    }
    let mut alone = Unpacker::default();
    assert_eq!(alone.unpack(0, &packed, 4_099), Err(UnpackError::NoOlder));
    assert_eq!(unpack(&packed, 4_100), Err(UnpackError::NoOlder));
    assert_eq!(
        unpacker.unpack(u64::MAX, &packed, 4_099),
        Err(UnpackError::NoOlder)
    );
}

#[test]
fn a_plane_that_claims_to_be_a_gigabyte_takes_no_more_than_its_words() {
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap();
    let mut packed = vec![0];
    packed.extend_from_slice(&u32::try_from(bomb.len()).unwrap().to_le_bytes());
    packed.extend_from_slice(&bomb);
    let error = Unpacker::default().unpack(0, &packed, 1_000);
    assert_eq!(
        error,
        Err(UnpackError::Plane {
            plane: 0,
            words: 1_000
        })
    );
}

proptest! {
    #[test]
    fn what_is_packed_is_unpacked_to_the_same_bytes(
        seed in 0_u64..1000, length in 0_usize..9_000, mask in any::<u8>(), step in any::<u8>(), is_beside in any::<bool>(),
    ) {
        let run: Vec<u8> = noise(seed, length).into_iter().map(|byte| byte & mask).collect();
        let older: Vec<u8> = run.iter().map(|byte| byte.wrapping_add(step)).collect();
        let older = is_beside.then_some(&older[..]);
        if let Some(packed) = packer(older).pack(0, &run) {
            prop_assert!(packed.len() < length);
            prop_assert_eq!(unpacker(older).unpack(0, &packed, length).unwrap(), run);
        }
    }

    #[test]
    fn any_bytes_are_unpacked_or_refused(packed in prop::collection::vec(any::<u8>(), 0..200), length in 0_usize..2_000) {
        let older = vec![7; length];
        if let Ok(run) = unpacker(Some(&older)).unpack(0, &packed, length) {
            prop_assert_eq!(run.len(), length);
        }
    }
}
