//! Each encoding by its size, by what it says of known values, by its laws, and by every lie that bytes can tell.
#![expect(clippy::unwrap_used, reason = "a failed test should panic")]
#![expect(clippy::float_cmp, reason = "these values are exact")]

use std::cell::RefCell;
use std::convert::Infallible;

use proptest::prelude::*;

use super::*;

mod attacks;

const CODECS: [Codec; 5] = [
    Codec::Int8,
    Codec::TopK,
    Codec::Ternary,
    Codec::Sign,
    Codec::Masked,
];

/// What both ends know of a masked tensor here: whatever else is kept of others, a quarter is kept of it.
const MASKED: TensorSparsity = TensorSparsity {
    density: match Density::from_ppm(250_000) {
        Ok(density) => density,
        Err(_) => Density::WHOLE,
    },
    mask_key: 7,
};

impl ByteSource for Vec<u8> {
    fn len(&self) -> u64 {
        Vec::len(self) as u64
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<(), ReadCheckpointError> {
        let offset = usize::try_from(offset).unwrap();
        bytes.copy_from_slice(&self[offset..offset + bytes.len()]);
        Ok(())
    }
}

/// The bytes of values in rows of `row`; nothing where they are left out.
fn encode_rows(codec: Codec, density: Density, row: usize, values: &[f32]) -> Option<Vec<u8>> {
    let read = |offset: usize, block: &mut [f32]| {
        block.copy_from_slice(&values[offset..offset + block.len()]);
        Ok::<_, Infallible>(())
    };
    let values = Values {
        elements: values.len(),
        row_elements: row,
        read: &read,
    };
    let sparsity = match codec {
        Codec::Masked => MASKED,
        Codec::Int8 | Codec::TopK | Codec::Ternary | Codec::Sign => {
            TensorSparsity { density, ..MASKED }
        }
    };
    let draft = Draft::of(codec, sparsity, &values).unwrap()?;
    let bytes = RefCell::new(vec![0xee; usize::try_from(draft.bytes()).unwrap()]);
    let sink = |offset: u64, part: &[u8]| {
        let offset = usize::try_from(offset).unwrap();
        bytes.borrow_mut()[offset..offset + part.len()].copy_from_slice(part);
        Ok(())
    };
    draft.write(&values, &sink).unwrap();
    Some(bytes.into_inner())
}

fn encode(codec: Codec, density: Density, values: &[f32]) -> Option<Vec<u8>> {
    encode_rows(codec, density, values.len(), values)
}

/// The bytes of values that were decoded. What a mask keeps is in int8, and is not multiplied a second time.
fn encode_again(codec: Codec, decoded: &[f32]) -> Option<Vec<u8>> {
    if codec != Codec::Masked {
        return encode(codec, Density::WHOLE, decoded);
    }
    let kept = mask::tests::kept(MASKED, decoded.len());
    assert!((0..decoded.len()).all(|at| decoded[at] == 0.0 || kept.contains(&at)));
    let kept: Vec<f32> = kept.into_iter().map(|at| decoded[at]).collect();
    encode(Codec::Int8, Density::WHOLE, &kept)
}

fn invalid(error: DecodeError) -> InvalidEncoding {
    match error {
        DecodeError::Invalid(error) => error,
        DecodeError::Read(error) => panic!("{error}"),
    }
}

fn decode_rows(
    codec: Codec,
    row: usize,
    elements: usize,
    bytes: &Vec<u8>,
) -> Result<Vec<f32>, InvalidEncoding> {
    let reader = Reader::open(codec, Some(MASKED), bytes, elements, row).map_err(invalid)?;
    reader.verify(bytes, &|| true).map_err(invalid)?;
    let mut values = vec![f32::NAN; elements];
    reader.read(bytes, 0, &mut values).map_err(invalid)?;
    Ok(values)
}

fn decode(codec: Codec, elements: usize, bytes: &Vec<u8>) -> Result<Vec<f32>, InvalidEncoding> {
    decode_rows(codec, elements, elements, bytes)
}

fn density(share: f64) -> Density {
    Density::from_share(share).unwrap()
}

/// Numbers that look like a task vector: most are small.
fn numbers(count: usize) -> Vec<f32> {
    let mut state = 7_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        f32::from(u16::try_from(state >> 48).unwrap()) / 65_536.0 - 0.5
    };
    (0..count).map(|_| next() * next() * next()).collect()
}

/// Bits that a value takes.
fn bits_each(codec: Codec, share: f64) -> f64 {
    let values = numbers(1 << 18);
    let bytes = encode_rows(codec, density(share), 512, &values).unwrap();
    bytes.len() as f64 * 8.0 / values.len() as f64
}

#[test]
fn sizes_are_those_that_theory_expects() {
    // 8 + 16/128, and 1 + 32/512.
    assert_eq!(bits_each(Codec::Int8, 1.0), 8.125);
    assert_eq!(bits_each(Codec::Sign, 1.0), 1.0625);
    // Rice bits of a gap at these densities, for positions that are independent of one another.
    for (share, gap) in [
        (0.005, 9.11),
        (0.01, 8.11),
        (0.02, 7.10),
        (0.05, 5.79),
        (0.1, 4.76),
    ] {
        let top_k = share * (gap + 8.125);
        let ternary = share * (gap + 1.0);
        assert!(
            (bits_each(Codec::TopK, share) / top_k - 1.0).abs() < 0.02,
            "{share}"
        );
        assert!(
            (bits_each(Codec::Ternary, share) / ternary - 1.0).abs() < 0.02,
            "{share}"
        );
    }
    // A bitmap of what is kept, and a bitmap of signs: never more than two.
    for share in [0.5, 0.8, 1.0] {
        assert!(
            bits_each(Codec::Ternary, share) < 1.0 + share + 0.001,
            "{share}"
        );
    }
    // What is asked for: 3.8 and 40 times smaller than F32.
    assert!(32.0 / bits_each(Codec::Int8, 1.0) > 3.9);
    assert!(32.0 / bits_each(Codec::TopK, 0.05) > 45.0);
}

#[test]
fn int8_is_off_by_half_a_step_at_most() {
    let values = numbers(1000);
    let bytes = encode(Codec::Int8, Density::WHOLE, &values).unwrap();
    let back = decode(Codec::Int8, 1000, &bytes).unwrap();
    for (values, back) in values.chunks(128).zip(back.chunks(128)) {
        let largest = values
            .iter()
            .fold(0.0_f32, |most, value| most.max(value.abs()));
        let step = largest / 127.0 * 1.004;
        for (value, back) in values.iter().zip(back) {
            assert!((value - back).abs() <= 0.5 * step, "{value} {back}");
        }
    }
}

#[test]
fn int8_says_the_largest_and_the_smallest_numbers() {
    let values = [f32::MAX, -f32::MAX, f32::MAX / 127.0, 0.0];
    let bytes = encode(Codec::Int8, Density::WHOLE, &values).unwrap();
    let back = decode(Codec::Int8, 4, &bytes).unwrap();
    assert!(back.iter().all(|value| value.is_finite()), "{back:?}");
    assert!((back[0] / f32::MAX - 1.0).abs() < 0.005, "{back:?}");
    let tiny = 127.0 * f32::MIN_POSITIVE;
    for (value, is_there) in [(tiny, true), (tiny.next_down(), false), (-0.0, false)] {
        assert_eq!(
            encode(Codec::Int8, Density::WHOLE, &[value]).is_some(),
            is_there
        );
    }
}

#[test]
fn a_block_of_zeros_has_the_scale_0_and_its_neighbours_keep_theirs() {
    let mut values = vec![0.0; 300];
    values[299] = -1.0;
    let bytes = encode(Codec::Int8, Density::WHOLE, &values).unwrap();
    assert_eq!(bytes[..4], [0; 4]);
    let back = decode(Codec::Int8, 300, &bytes).unwrap();
    assert_eq!(back[..299], values[..299]);
    assert!((back[299] + 1.0).abs() < 0.001, "{}", back[299]);
}

#[test]
fn top_k_keeps_the_largest_and_of_equal_ones_the_first() {
    let values = [1.0, -4.0, 2.0, 0.5, 2.0, -2.0, 0.0, 4.0];
    let bytes = encode(Codec::TopK, density(0.5), &values).unwrap();
    let back = decode(Codec::TopK, 8, &bytes).unwrap();
    let kept: Vec<bool> = back.iter().map(|value| *value != 0.0).collect();
    assert_eq!(kept, [false, true, true, false, true, false, false, true]);
    assert_eq!((back[1], back[7]), (-back[7], back[7]));
    assert!((back[1] + 4.0).abs() < 0.02, "{back:?}");
    assert!((back[2] - 2.0).abs() < 0.02, "{back:?}");
}

#[test]
fn what_is_kept_is_never_0_however_small_it_is_beside_the_largest() {
    let values = [1000.0, 0.001, -0.001, 0.0];
    let bytes = encode(Codec::TopK, Density::WHOLE, &values).unwrap();
    let back = decode(Codec::TopK, 4, &bytes).unwrap();
    assert!(back[1] > 0.0 && back[2] < 0.0 && back[3] == 0.0, "{back:?}");
}

#[test]
fn ternary_says_the_mean_of_what_it_keeps() {
    let values = [1.0, 0.5, -2.0, 0.0, 0.25, 0.0, 0.0, 0.0];
    let bytes = encode(Codec::Ternary, density(0.25), &values).unwrap();
    let back = decode(Codec::Ternary, 8, &bytes).unwrap();
    assert_eq!(back, [1.5, 0.0, -1.5, 0.0, 0.0, 0.0, 0.0, 0.0]);
}

#[test]
fn sign_says_the_mean_of_each_row() {
    let mut values = vec![0.0; 96];
    values[..32].fill(-2.0);
    values[0] = 6.0;
    values[64] = 32.0;
    let bytes = encode_rows(Codec::Sign, Density::WHOLE, 32, &values).unwrap();
    assert_eq!(bytes.len(), 3 * 4 + 12);
    let back = decode_rows(Codec::Sign, 32, 96, &bytes).unwrap();
    assert_eq!((back[0], back[1], back[31]), (2.125, -2.125, -2.125));
    assert_eq!(back[32..64], [0.0; 32]);
    assert_eq!(back[64..], [1.0; 32]);
}

#[test]
fn a_mask_keeps_the_same_coordinates_of_every_value_and_makes_up_for_the_others() {
    let values = vec![3.0; 5000];
    let bytes = encode(Codec::Masked, Density::WHOLE, &values).unwrap();
    // 4 strata of 1,024 and one of 904: a quarter of each, 8 bits a value and 16 for each 128 of them.
    assert_eq!(bytes.len(), 1250 + 2 * 10);
    let back = decode(Codec::Masked, 5000, &bytes).unwrap();
    let kept = back.iter().filter(|value| **value != 0.0);
    assert!(kept.clone().all(|value| (value / 12.0 - 1.0).abs() < 0.004));
    assert_eq!(kept.count(), 1250);
    assert_eq!(bits_each(Codec::Masked, 1.0), 0.25 * 8.125);
    let mut huge = vec![f32::MAX; 100];
    huge[50..].fill(f32::MIN);
    let bytes = encode(Codec::Masked, Density::WHOLE, &huge).unwrap();
    let back = decode(Codec::Masked, 100, &bytes).unwrap();
    assert!(back.iter().all(|value| value.is_finite()), "{back:?}");
}

#[test]
fn a_masked_tensor_cannot_be_read_by_whom_nobody_told_the_mask() {
    let bytes = encode(Codec::Masked, Density::WHOLE, &[1.0; 8]).unwrap();
    let error = Reader::open(Codec::Masked, None, &bytes, 8, 8).unwrap_err();
    assert_eq!(invalid(error), InvalidEncoding::NoMask);
}

#[test]
fn a_row_is_what_shares_its_first_coordinate_unless_it_is_short() {
    for (shape, row) in [
        (&[][..], 1),
        (&[10], 10),
        (&[10, 64], 64),
        (&[10, 31], 310),
        (&[10, 1], 10),
        (&[16, 8, 3, 3], 72),
        (&[0, 64], 64),
        (&[4, 0], 0),
    ] {
        assert_eq!(row_elements(shape), row, "{shape:?}");
    }
}

#[test]
fn a_tensor_of_zeros_is_left_out() {
    for codec in CODECS {
        assert_eq!(encode(codec, Density::WHOLE, &[]), None);
        assert_eq!(encode(codec, Density::WHOLE, &[0.0, -0.0, 0.0]), None);
    }
}

#[test]
fn a_tensor_of_many_strides_is_read_from_anywhere() {
    let elements = 5 * positions::STRIDE + 77;
    let mut values = numbers(elements);
    // A stride without a value, and one of nothing but.
    values[positions::STRIDE..2 * positions::STRIDE].fill(0.0);
    values[3 * positions::STRIDE..4 * positions::STRIDE].fill(0.3);
    for codec in CODECS {
        let bytes = encode(codec, density(0.25), &values).unwrap();
        let whole = decode(codec, elements, &bytes).unwrap();
        let reader = Reader::open(codec, Some(MASKED), &bytes, elements, elements).unwrap();
        for length in [1, 127, 4096, positions::STRIDE + 5] {
            let mut block = vec![f32::NAN; length];
            for offset in (0..elements - length).step_by(7919) {
                reader.read(&bytes, offset, &mut block).unwrap();
                assert_eq!(block, whole[offset..offset + length], "{codec:?} {offset}");
            }
        }
    }
}

#[test]
fn checking_stops_when_nobody_waits_for_it() {
    let values = numbers(1000);
    for codec in [Codec::Int8, Codec::Sign] {
        let mut bytes = encode(codec, Density::WHOLE, &values).unwrap();
        bytes[..4].fill(0xff);
        let reader = Reader::open(codec, Some(MASKED), &bytes, 1000, 1000).unwrap();
        assert!(reader.verify(&bytes, &|| true).is_err());
        reader.verify(&bytes, &|| false).unwrap();
    }
}

fn value() -> impl Strategy<Value = f32> {
    prop_oneof![
        2 => Just(0.0_f32),
        1 => Just(-0.0_f32),
        1 => Just(1.0_f32),
        6 => -1.0_f32..1.0,
        2 => (any::<u32>()).prop_map(f32::from_bits).prop_filter("finite", |value| value.is_finite()),
    ]
}

fn codec() -> impl Strategy<Value = Codec> {
    prop::sample::select(&CODECS[..])
}

proptest! {
    #[test]
    fn what_is_decoded_is_encoded_as_the_same_bytes(
        codec in codec(),
        share in 0.01_f64..1.0,
        values in prop::collection::vec(value(), 0..700),
    ) {
        let Some(bytes) = encode(codec, density(share), &values) else {
            return Ok(());
        };
        let back = decode(codec, values.len(), &bytes).unwrap();
        prop_assert!(back.iter().all(|value| value.is_finite()));
        // Whoever decodes a value near the least of int8 and encodes it anew would drop it; nobody does, and no other is dropped.
        prop_assume!(back.iter().all(|value| *value == 0.0 || codec != Codec::TopK || value.abs() >= int8::SMALLEST));
        prop_assert_eq!(encode_again(codec, &back), Some(bytes));
    }

    #[test]
    fn equal_bits_after_a_change_are_refused_or_canonical(
        codec in codec(),
        share in 0.02_f64..1.0,
        values in prop::collection::vec(-1.0_f32..1.0, 1..400),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        elements_off in -2_i64..=2,
    ) {
        let Some(mut bytes) = encode(codec, density(share), &values) else {
            return Ok(());
        };
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] ^= byte;
        }
        let elements = usize::try_from((values.len() as i64 + elements_off).max(0)).unwrap();
        if let Ok(back) = decode(codec, elements, &bytes) {
            prop_assert!(back.iter().all(|value| value.is_finite()));
            prop_assume!(back.iter().all(|value| *value == 0.0 || codec != Codec::TopK || value.abs() >= int8::SMALLEST));
            prop_assert_eq!(encode_again(codec, &back), Some(bytes));
        }
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(
        codec in codec(),
        elements in 0_usize..5000,
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = decode(codec, elements, &bytes);
    }
}
