//! Element types of tensors, and the only lossy number conversions of the project.
//!
//! The rounding rules: widening to f32 is exact; narrowing to F16 or BF16 rounds to nearest, ties to
//! even, and a magnitude over the type's largest becomes infinite. NaN stays NaN. Bytes are
//! little-endian, as safetensors has them.

use std::fmt;
use std::str::FromStr;

use bytemuck::{cast_slice, cast_slice_mut, try_cast_slice};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

mod narrow;

pub use narrow::encode_f64;

#[cfg(target_endian = "big")]
compile_error!("tensors are read in place, which needs a little-endian machine");

macro_rules! dtypes {
    ($($variant:ident, $name:literal, $bytes:literal, $doc:literal;)*) => {
        /// The element types of safetensors that fill whole bytes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Dtype { $(#[doc = $doc] $variant),* }

        impl Dtype {
            /// Every element type.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Size of one element, bytes.
            #[must_use]
            pub const fn bytes(self) -> usize {
                match self { $(Self::$variant => $bytes),* }
            }

            /// The name that safetensors uses, for example `BF16`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}

dtypes! {
    Bool, "BOOL", 1, "A byte that is 0 or 1.";
    U8, "U8", 1, "Unsigned, 8 bits.";
    I8, "I8", 1, "Signed, 8 bits.";
    F8E5M2, "F8_E5M2", 1, "Float with 5 bits of exponent and 2 of mantissa.";
    F8E4M3, "F8_E4M3", 1, "Float with 4 bits of exponent and 3 of mantissa.";
    F8E8M0, "F8_E8M0", 1, "A power of two, 8 bits of exponent.";
    I16, "I16", 2, "Signed, 16 bits.";
    U16, "U16", 2, "Unsigned, 16 bits.";
    F16, "F16", 2, "IEEE 754 half precision.";
    Bf16, "BF16", 2, "The upper half of an F32.";
    I32, "I32", 4, "Signed, 32 bits.";
    U32, "U32", 4, "Unsigned, 32 bits.";
    F32, "F32", 4, "IEEE 754 single precision.";
    C64, "C64", 8, "Complex, two F32.";
    F64, "F64", 8, "IEEE 754 double precision.";
    I64, "I64", 8, "Signed, 64 bits.";
    U64, "U64", 8, "Unsigned, 64 bits.";
}

impl Dtype {
    /// Whether tensors of this type are merged: F32, F16 and BF16. All others are carried over.
    #[must_use]
    pub const fn is_mergeable(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::Bf16)
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// A name that is no element type of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown dtype `{name}`")]
pub struct UnknownDtype {
    /// What was there.
    pub name: String,
}

impl FromStr for Dtype {
    type Err = UnknownDtype;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.iter().find(|dtype| dtype.name() == name);
        found.copied().ok_or_else(|| UnknownDtype {
            name: name.to_owned(),
        })
    }
}

/// A conversion that was asked for the impossible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// The type has no place among the mergeable ones.
    #[error("{dtype} is not a mergeable float type")]
    NotMergeable {
        /// The type asked for.
        dtype: Dtype,
    },
    /// The bytes are not as many as the elements need.
    #[error("{expected} bytes are needed, {found} were given")]
    Length {
        /// Bytes that the elements need.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
}

/// Widens `bytes` of a mergeable type to f32, exactly.
///
/// # Errors
/// When `dtype` is not mergeable or `bytes` does not hold exactly `values.len()` elements.
pub fn decode_f32(dtype: Dtype, bytes: &[u8], values: &mut [f32]) -> Result<(), ConvertError> {
    if !dtype.is_mergeable() {
        return Err(ConvertError::NotMergeable { dtype });
    }
    let expected = values.len().saturating_mul(dtype.bytes());
    if bytes.len() != expected {
        return Err(ConvertError::Length {
            expected,
            found: bytes.len(),
        });
    }
    if dtype == Dtype::F32 {
        cast_slice_mut(values).copy_from_slice(bytes);
    } else if dtype == Dtype::Bf16 {
        for (value, pair) in values.iter_mut().zip(bytes.chunks_exact(2)) {
            *value = bf16::from_le_bytes([pair[0], pair[1]]).to_f32();
        }
    } else if let Ok(halves) = try_cast_slice::<u8, f16>(bytes) {
        halves.convert_to_f32_slice(values);
    } else {
        for (value, pair) in values.iter_mut().zip(bytes.chunks_exact(2)) {
            *value = f16::from_le_bytes([pair[0], pair[1]]).to_f32();
        }
    }
    Ok(())
}

/// Appends `values` to `bytes` in a mergeable type, rounding to nearest, ties to even.
///
/// # Errors
/// When `dtype` is not mergeable.
pub fn encode_f32(dtype: Dtype, values: &[f32], bytes: &mut Vec<u8>) -> Result<(), ConvertError> {
    if !dtype.is_mergeable() {
        return Err(ConvertError::NotMergeable { dtype });
    }
    if dtype == Dtype::F32 {
        bytes.extend_from_slice(cast_slice(values));
    } else if dtype == Dtype::Bf16 {
        bytes.reserve(values.len() * 2);
        bytes.extend(
            values
                .iter()
                .flat_map(|&value| bf16::from_f32(value).to_le_bytes()),
        );
    } else {
        let mut halves = vec![f16::ZERO; values.len()];
        halves.convert_from_f32_slice(values);
        bytes.extend_from_slice(cast_slice(&halves));
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
#[expect(clippy::float_cmp, reason = "these values are exact")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn through(dtype: Dtype, values: &[f32]) -> Vec<f32> {
        let mut bytes = Vec::new();
        encode_f32(dtype, values, &mut bytes).unwrap();
        let mut back = vec![0.0; values.len()];
        decode_f32(dtype, &bytes, &mut back).unwrap();
        back
    }

    #[test]
    fn names_are_read_back() {
        for dtype in Dtype::ALL {
            assert_eq!(dtype.name().parse::<Dtype>().unwrap(), *dtype);
        }
        assert!("F4".parse::<Dtype>().is_err());
    }

    #[test]
    fn sizes_agree_with_the_safetensors_crate() {
        for dtype in Dtype::ALL {
            let name = format!("\"{}\"", dtype.name());
            let theirs: safetensors::Dtype = serde_json::from_str(&name).unwrap();
            assert_eq!(theirs.bitsize(), dtype.bytes() * 8, "{dtype}");
        }
    }

    #[test]
    fn narrowing_rounds_ties_to_even() {
        // BF16 keeps 8 significant bits: between 1 and 2 the step is 2^-7.
        assert_eq!(through(Dtype::Bf16, &[1.0 + 1.0 / 256.0]), [1.0]);
        assert_eq!(
            through(Dtype::Bf16, &[1.0 + 3.0 / 256.0]),
            [1.0 + 4.0 / 256.0]
        );
        // F16 keeps 11: the step is 2^-10.
        assert_eq!(through(Dtype::F16, &[1.0 + 1.0 / 2048.0]), [1.0]);
        assert_eq!(
            through(Dtype::F16, &[1.0 + 3.0 / 2048.0]),
            [1.0 + 4.0 / 2048.0]
        );
    }

    #[test]
    fn what_is_too_large_becomes_infinite_and_nan_stays_nan() {
        assert_eq!(
            through(Dtype::F16, &[65_520.0, -65_520.0]),
            [f32::INFINITY, f32::NEG_INFINITY]
        );
        assert_eq!(through(Dtype::Bf16, &[f32::MAX]), [f32::INFINITY]);
        for dtype in [Dtype::F16, Dtype::Bf16, Dtype::F32] {
            assert!(through(dtype, &[f32::NAN])[0].is_nan(), "{dtype}");
        }
    }

    #[test]
    fn unaligned_bytes_decode_like_aligned_ones() {
        let mut bytes = vec![0];
        encode_f32(Dtype::F16, &[1.5, -2.0], &mut bytes).unwrap();
        let mut values = [0.0; 2];
        decode_f32(Dtype::F16, &bytes[1..], &mut values).unwrap();
        assert_eq!(values, [1.5, -2.0]);
    }

    #[test]
    fn a_wrong_length_or_type_is_an_error() {
        let expected = ConvertError::Length {
            expected: 4,
            found: 3,
        };
        assert_eq!(
            decode_f32(Dtype::F16, &[0; 3], &mut [0.0; 2]),
            Err(expected)
        );
        let expected = ConvertError::NotMergeable { dtype: Dtype::I64 };
        assert_eq!(
            decode_f32(Dtype::I64, &[0; 8], &mut [0.0]),
            Err(expected.clone())
        );
        assert_eq!(
            encode_f32(Dtype::I64, &[0.0], &mut Vec::new()),
            Err(expected)
        );
    }

    proptest! {
        #[test]
        fn f32_bits_survive(bits: Vec<u32>) {
            let values: Vec<f32> = bits.iter().map(|&bits| f32::from_bits(bits)).collect();
            let back: Vec<u32> = through(Dtype::F32, &values).into_iter().map(f32::to_bits).collect();
            prop_assert_eq!(back, bits);
        }

        #[test]
        fn a_narrowed_value_is_not_narrowed_further(value in -1e4_f32..1e4) {
            for dtype in [Dtype::F16, Dtype::Bf16] {
                let once = through(dtype, &[value]);
                prop_assert_eq!(through(dtype, &once), once);
            }
        }
    }
}
