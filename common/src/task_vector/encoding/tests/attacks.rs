//! Every lie that the bytes of a tensor can tell, each refused by its name, and before anything is allocated for it.
#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use half::bf16;

use super::super::*;
use super::{decode, decode_rows, density, encode, encode_rows, numbers};

#[track_caller]
fn refused(codec: Codec, elements: usize, bytes: &Vec<u8>, expected: &str) {
    let error = decode(codec, elements, bytes).unwrap_err();
    assert!(format!("{error:?}").starts_with(expected), "{error:?}");
}

fn good(codec: Codec, share: f64, values: &[f32]) -> Vec<u8> {
    let bytes = encode(codec, density(share), values).unwrap();
    decode(codec, values.len(), &bytes).unwrap();
    bytes
}

/// A top-k tensor by hand: its gaps in bits, then scales and codes.
fn top_k(count: u64, parameter: u8, gaps: &[u8], scale: bf16, codes: &[i8]) -> Vec<u8> {
    let mut bytes = count.to_le_bytes().to_vec();
    bytes.push(parameter);
    bytes.extend(gaps);
    bytes.extend(scale.to_le_bytes());
    bytes.extend(codes.iter().map(|code| code.cast_unsigned()));
    bytes
}

#[test]
fn too_many_bytes_or_too_few_are_refused() {
    let values = numbers(300);
    for codec in [Codec::Int8, Codec::TopK, Codec::Ternary, Codec::Sign] {
        for share in [0.1, 1.0] {
            let bytes = good(codec, share, &values);
            for length in 0..bytes.len() {
                let cut = bytes[..length].to_vec();
                assert!(decode(codec, 300, &cut).is_err(), "{codec:?} {length}");
            }
            for more in [&[0][..], &[1], &[0; 9]] {
                let long = [&bytes, more].concat();
                assert!(decode(codec, 300, &long).is_err(), "{codec:?}");
            }
        }
    }
    refused(
        Codec::Int8,
        4,
        &vec![0; 7],
        "Size { expected: 6, found: 7 }",
    );
    refused(
        Codec::Sign,
        4,
        &vec![0; 6],
        "Size { expected: 5, found: 6 }",
    );
}

#[test]
fn an_int8_scale_that_no_values_have_is_refused() {
    let bytes = good(Codec::Int8, 1.0, &[1.0, 0.5]);
    let with = |scale: bf16| [&scale.to_le_bytes()[..], &bytes[2..]].concat();
    for scale in [
        bf16::NAN,
        bf16::INFINITY,
        bf16::NEG_INFINITY,
        -bf16::ONE,
        bf16::NEG_ZERO,
        bf16::MIN_POSITIVE_SUBNORMAL,
        bf16::from_bits(0x7c02),
    ] {
        refused(Codec::Int8, 2, &with(scale), "Scale { number: 0");
    }
    for scale in [bf16::from_bits(0x7c01), bf16::MIN_POSITIVE] {
        decode(Codec::Int8, 2, &with(scale)).unwrap();
    }
    refused(
        Codec::Int8,
        2,
        &with(bf16::ZERO),
        "Code { number: 0, code: 127 }",
    );
}

#[test]
fn an_int8_code_that_no_value_has_is_refused() {
    let with = |codes: [i8; 2]| {
        let scale = bf16::ONE.to_le_bytes();
        [scale, codes.map(i8::cast_unsigned)].concat()
    };
    refused(
        Codec::Int8,
        2,
        &with([127, -128]),
        "Code { number: 1, code: -128 }",
    );
    refused(Codec::Int8, 2, &with([126, -126]), "Slack { number: 0 }");
    decode(Codec::Int8, 2, &with([0, -127])).unwrap();
}

#[test]
fn a_tensor_of_zeros_that_was_not_left_out_is_refused() {
    refused(Codec::Int8, 0, &vec![], "AllZero");
    refused(Codec::Int8, 2, &vec![0; 4], "AllZero");
    refused(Codec::Sign, 2, &vec![0; 5], "AllZero");
    refused(Codec::Sign, 0, &vec![], "AllZero");
    let ternary = [&1.0_f32.to_le_bytes()[..], &[0; 9]].concat();
    refused(
        Codec::Ternary,
        2,
        &ternary,
        "Count { count: 0, elements: 2 }",
    );
    refused(
        Codec::TopK,
        2,
        &vec![0; 9],
        "Count { count: 0, elements: 2 }",
    );
}

#[test]
fn a_count_that_does_not_fit_is_refused_before_anything_is_read_for_it() {
    for count in [5, u64::from(u32::MAX), u64::MAX] {
        let bytes = top_k(count, 0, &[0b11], bf16::ONE, &[127, 127]);
        refused(Codec::TopK, 4, &bytes, "Count");
        // A tensor that is large enough does not make room for them either: each takes more than a bit.
        refused(
            Codec::TopK,
            usize::MAX / 8,
            &bytes,
            if count == u64::MAX {
                "Count"
            } else {
                "Truncated"
            },
        );
    }
}

#[test]
fn a_gap_past_the_end_is_refused() {
    // Gaps 0 and 2 of three values: 1, 001.
    let bytes = top_k(2, 0, &[0b1001], bf16::ONE, &[127, 127]);
    decode(Codec::TopK, 4, &bytes).unwrap();
    refused(Codec::TopK, 3, &bytes, "Gap { number: 1, elements: 3 }");
    // Zeros without end.
    let bytes = top_k(2, 0, &[1, 0, 0, 0], bf16::ONE, &[127, 127]);
    refused(Codec::TopK, 4, &bytes, "Gap { number: 1, elements: 4 }");
    refused(Codec::TopK, 4000, &bytes, "Truncated");
}

#[test]
fn a_rice_parameter_that_is_not_the_best_is_refused() {
    // Gap 0 with the parameter 0 is 1, and with 1 it is 1 0.
    decode(Codec::TopK, 4, &top_k(1, 0, &[0b1], bf16::ONE, &[127])).unwrap();
    let bytes = top_k(1, 1, &[0b01], bf16::ONE, &[127]);
    refused(
        Codec::TopK,
        4,
        &bytes,
        "Parameter { found: 1, expected: 0 }",
    );
    // Gap 1 takes two bits with either: the smaller parameter it is.
    decode(Codec::TopK, 4, &top_k(1, 0, &[0b10], bf16::ONE, &[127])).unwrap();
    let bytes = top_k(1, 1, &[0b11], bf16::ONE, &[127]);
    refused(
        Codec::TopK,
        4,
        &bytes,
        "Parameter { found: 1, expected: 0 }",
    );
    for parameter in [31, 64, 255] {
        let bytes = top_k(1, parameter, &[0b1], bf16::ONE, &[127]);
        refused(Codec::TopK, 4, &bytes, "Parameter");
    }
}

#[test]
fn padding_that_is_not_0_is_refused() {
    for bit in 1..8 {
        let bytes = top_k(1, 0, &[1 | 1 << bit], bf16::ONE, &[127]);
        refused(Codec::TopK, 4, &bytes, "Padding");
    }
    let bytes = top_k(1, 0, &[1, 0], bf16::ONE, &[127]);
    refused(Codec::TopK, 4, &bytes, "Size { expected: 13, found: 14 }");
    let mut sign = good(Codec::Sign, 1.0, &[1.0, -1.0, 1.0]);
    sign[4] |= 0b1000;
    refused(Codec::Sign, 3, &sign, "Padding");
    let mut ternary = good(Codec::Ternary, 1.0, &[1.0, -1.0, 1.0]);
    *ternary.last_mut().unwrap() |= 0b1000;
    refused(Codec::Ternary, 3, &ternary, "Padding");
}

#[test]
fn a_kept_value_of_0_is_refused() {
    let bytes = top_k(2, 0, &[0b11], bf16::ONE, &[127, 0]);
    refused(Codec::TopK, 4, &bytes, "Code { number: 1, code: 0 }");
    let bytes = top_k(1, 0, &[0b1], bf16::ZERO, &[0]);
    refused(Codec::TopK, 4, &bytes, "Scale { number: 0");
}

#[test]
fn a_ternary_scale_that_is_no_mean_is_refused() {
    for share in [0.01, 1.0] {
        let bytes = good(Codec::Ternary, share, &numbers(300));
        for scale in [0.0, -0.0, -1.0, f32::NAN, f32::INFINITY] {
            let bytes = [&scale.to_le_bytes()[..], &bytes[4..]].concat();
            refused(Codec::Ternary, 300, &bytes, "Scale { number: 0");
        }
    }
}

#[test]
fn a_sign_scale_that_is_no_mean_and_signs_in_a_row_of_zeros_are_refused() {
    let mut values = vec![0.0; 64];
    values[3] = -1.0;
    let bytes = encode_rows(Codec::Sign, Density::WHOLE, 32, &values).unwrap();
    for scale in [-0.0, -1.0, f32::NAN, f32::INFINITY] {
        let bytes = [&bytes[..4], &scale.to_le_bytes(), &bytes[8..]].concat();
        let error = decode_rows(Codec::Sign, 32, 64, &bytes).unwrap_err();
        assert!(
            matches!(error, InvalidEncoding::Scale { number: 1, .. }),
            "{error:?}"
        );
    }
    let mut lying = bytes.clone();
    lying[12] = 0b100;
    let error = decode_rows(Codec::Sign, 32, 64, &lying).unwrap_err();
    assert_eq!(
        error,
        InvalidEncoding::Code {
            number: 34,
            code: -1
        }
    );
}
