//! Rounding f64 to a mergeable type, once: to nearest, ties to even, as if with no step in between.
//!
//! The halves are reached over an f32 that was rounded *to odd*: cut towards zero, with the last bit set where something was
//! cut. An f32 has more than two bits to spare over a half, so the second rounding then is that of the exact value
//! (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008). No loop here has a branch or allocates.

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::{ConvertError, Dtype};

/// Values that are narrowed to F16 at a time: their f32 are on the stack.
const STRIP: usize = 256;

/// Writes `values` as a mergeable type over all of `bytes`. Answers how many finite values were too large for the type and
/// became infinite.
///
/// # Errors
/// When `dtype` is not mergeable or `bytes` does not hold exactly as many elements as there are values.
pub fn encode_f64(dtype: Dtype, values: &[f64], bytes: &mut [u8]) -> Result<usize, ConvertError> {
    let expected = values.len().saturating_mul(dtype.bytes());
    let infinite_from = infinite_from(dtype).ok_or(ConvertError::NotMergeable { dtype })?;
    if bytes.len() != expected {
        return Err(ConvertError::Length {
            expected,
            found: bytes.len(),
        });
    }
    if dtype == Dtype::Bf16 {
        for (pair, &value) in bytes.as_chunks_mut().0.iter_mut().zip(values) {
            *pair = bf16_bits(to_odd(value)).to_le_bytes();
        }
    } else if dtype == Dtype::F16 {
        for (bytes, values) in bytes.chunks_mut(2 * STRIP).zip(values.chunks(STRIP)) {
            encode_f16(values, bytes);
        }
    } else {
        for (word, &value) in bytes.as_chunks_mut().0.iter_mut().zip(values) {
            *word = to_nearest(value).to_le_bytes();
        }
    }
    Ok(values
        .iter()
        .map(|value| usize::from(value.is_finite() & (value.abs() >= infinite_from)))
        .sum())
}

/// The least magnitude that rounds to infinity: half a step over the largest value.
fn infinite_from(dtype: Dtype) -> Option<f64> {
    let significant_bits = match dtype {
        Dtype::F32 => 24,
        Dtype::Bf16 => 8,
        Dtype::F16 => return Some(65_520.0),
        Dtype::Bool
        | Dtype::U8
        | Dtype::I8
        | Dtype::F8E5M2
        | Dtype::F8E4M3
        | Dtype::F8E8M0
        | Dtype::I16
        | Dtype::U16
        | Dtype::I32
        | Dtype::U32
        | Dtype::C64
        | Dtype::F64
        | Dtype::I64
        | Dtype::U64 => return None,
    };
    Some((2.0 - 2.0_f64.powi(-significant_bits)) * 2.0_f64.powi(127))
}

fn encode_f16(values: &[f64], bytes: &mut [u8]) {
    let (mut singles, mut halves) = ([0.0; STRIP], [f16::ZERO; STRIP]);
    let (singles, halves) = (&mut singles[..values.len()], &mut halves[..values.len()]);
    for (single, &value) in singles.iter_mut().zip(values) {
        *single = to_odd(value);
    }
    halves.convert_from_f32_slice(singles);
    for (pair, half) in bytes.as_chunks_mut().0.iter_mut().zip(halves) {
        *pair = half.to_le_bytes();
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the cast rounds to nearest, ties to even"
)]
fn to_nearest(value: f64) -> f32 {
    value as f32
}

/// The two f32 around an f64 that is none of them: the one whose last bit is set.
#[expect(
    clippy::float_cmp,
    reason = "whether anything was lost is the question"
)]
fn to_odd(value: f64) -> f32 {
    let nearest = to_nearest(value);
    let back = f64::from(nearest);
    let is_over = u32::from(back.abs() > value.abs());
    let is_inexact = u32::from(back != value);
    f32::from_bits((nearest.to_bits() - is_over) | is_inexact)
}

/// The upper half of an f32, rounded.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the upper half of 32 bits are 16"
)]
fn bf16_bits(single: f32) -> u16 {
    let bits = single.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    let not_a_number = bits >> 16 | 0x40;
    (if single.is_nan() {
        not_a_number
    } else {
        rounded
    }) as u16
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
#[expect(clippy::float_cmp, reason = "these values are exact")]
mod tests {
    use half::bf16;
    use proptest::prelude::*;

    use super::super::encode_f32;
    use super::*;

    fn narrowed(dtype: Dtype, value: f64) -> f32 {
        let mut bytes = vec![0; dtype.bytes()];
        encode_f64(dtype, &[value], &mut bytes).unwrap();
        let mut back = [0.0];
        super::super::decode_f32(dtype, &bytes, &mut back).unwrap();
        back[0]
    }

    /// All finite magnitudes of a half type, in order.
    fn magnitudes(dtype: Dtype) -> Vec<f64> {
        let value = |bits| {
            if dtype == Dtype::F16 {
                f16::from_bits(bits).to_f64()
            } else {
                bf16::from_bits(bits).to_f64()
            }
        };
        (0..0x8000_u16)
            .map(value)
            .take_while(|value| value.is_finite())
            .collect()
    }

    #[test]
    fn every_half_and_all_around_the_middle_of_two_are_rounded_once() {
        for dtype in [Dtype::F16, Dtype::Bf16] {
            for (number, pair) in magnitudes(dtype).windows(2).enumerate() {
                let (low, high) = (pair[0], pair[1]);
                let middle = f64::midpoint(low, high);
                let even = if number % 2 == 0 { low } else { high };
                for (value, expected) in [
                    (low, low),
                    (middle.next_down(), low),
                    (middle, even),
                    (middle.next_up(), high),
                ] {
                    assert_eq!(f64::from(narrowed(dtype, value)), expected, "{value:e}");
                    assert_eq!(f64::from(narrowed(dtype, -value)), -expected, "{value:e}");
                }
            }
        }
    }

    #[test]
    fn what_is_too_large_becomes_infinite_and_is_counted() {
        for (dtype, largest) in [
            (Dtype::F16, 65_504.0),
            (Dtype::Bf16, bf16::MAX.to_f64()),
            (Dtype::F32, f64::from(f32::MAX)),
        ] {
            let limit = infinite_from(dtype).unwrap();
            let values = [limit, -limit, limit.next_down(), f64::INFINITY, f64::NAN];
            let mut bytes = vec![0; values.len() * dtype.bytes()];
            assert_eq!(encode_f64(dtype, &values, &mut bytes), Ok(2), "{dtype}");
            assert_eq!(narrowed(dtype, limit), f32::INFINITY);
            assert_eq!(f64::from(narrowed(dtype, limit.next_down())), largest);
            assert_eq!(narrowed(dtype, f64::NEG_INFINITY), f32::NEG_INFINITY);
            assert!(narrowed(dtype, f64::NAN).is_nan());
            assert_eq!(narrowed(dtype, 1e-300), 0.0);
        }
    }

    #[test]
    fn more_values_than_a_strip_all_arrive() {
        let values: Vec<f64> = (0..1000).map(f64::from).collect();
        for dtype in [Dtype::F16, Dtype::Bf16, Dtype::F32] {
            let mut bytes = vec![0; values.len() * dtype.bytes()];
            assert_eq!(encode_f64(dtype, &values, &mut bytes), Ok(0));
            let mut back = vec![0.0; values.len()];
            super::super::decode_f32(dtype, &bytes, &mut back).unwrap();
            assert_eq!(f64::from(back[255]), 255.0);
            assert_eq!(back[999], narrowed(dtype, 999.0));
        }
    }

    #[test]
    fn a_wrong_length_or_type_is_an_error() {
        let expected = ConvertError::Length {
            expected: 2,
            found: 3,
        };
        assert_eq!(encode_f64(Dtype::F16, &[0.0], &mut [0; 3]), Err(expected));
        let expected = ConvertError::NotMergeable { dtype: Dtype::F64 };
        assert_eq!(encode_f64(Dtype::F64, &[0.0], &mut [0; 8]), Err(expected));
    }

    proptest! {
        #[test]
        fn an_f32_is_narrowed_as_from_f32(bits: Vec<u32>) {
            let singles: Vec<f32> = bits.iter().map(|&bits| f32::from_bits(bits)).filter(|value| !value.is_nan()).collect();
            let doubles: Vec<f64> = singles.iter().copied().map(f64::from).collect();
            for dtype in [Dtype::F16, Dtype::Bf16, Dtype::F32] {
                let (mut expected, mut found) = (Vec::new(), vec![0; singles.len() * dtype.bytes()]);
                encode_f32(dtype, &singles, &mut expected).unwrap();
                encode_f64(dtype, &doubles, &mut found).unwrap();
                prop_assert_eq!(found, expected);
            }
        }
    }
}
