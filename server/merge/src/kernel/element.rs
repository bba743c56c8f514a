//! The numbers a merge works in: `f32` as a rule, `bf16` where all clients send it, `f64` in tests that hold the mathematics
//! against golden values.
//!
//! Each has an integer key of its own width that orders as the values do. One NaN of `f32` and `f64` means *absent*: a coordinate
//! that a client did not send, which is not the same as 0.

use std::fmt::Debug;
use std::ops::{Add, Mul, Sub};

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::products::tile::{self, Block, Tile, TileProducts};
use super::select::Key;
use crate::block::Values;

/// A floating-point number that rules can be run on.
pub(crate) trait Element:
    Copy
    + Debug
    + Default
    + PartialOrd
    + Send
    + Sync
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + 'static
{
    /// A signed integer that orders as the value does: -NaN, -inf, ..., -0, +0, ..., +inf, +NaN.
    type Key: Key + Debug + Default + Send + Sync + 'static;

    /// The largest key: that of an absent coordinate, which so sorts above all values.
    const ABSENT_KEY: Self::Key;

    /// The keys of the smallest number and of the largest; outside are infinities and what is no number.
    const NUMBER_KEYS: [Self::Key; 2];

    /// The same number, exactly.
    fn widen(self) -> f64;

    /// The nearest number, ties to even.
    fn nearest(value: f64) -> Self;

    /// The key of `|x|`: at least 0, and that of what is no number is above all others.
    fn size_key(self) -> Self::Key;

    /// Whether products of numbers up to this size keep their digits in this type.
    fn can_multiply(largest: f64) -> bool;

    /// Whether the coordinate was not sent.
    fn is_absent(self) -> bool;

    /// What marks a coordinate that was not sent.
    fn absent() -> Self {
        Self::of_key(Self::ABSENT_KEY)
    }

    /// A lent row of the type itself, where there is one.
    fn as_rows<'a>(values: &Values<'a>) -> Option<&'a [Self]>;

    /// Adds the products of some rows with those of a tile, or with one another; see `kernel/products/tile.rs`.
    fn multiply_tile(
        left: &[Block<Self>],
        right: Option<&Tile<Self>>,
        sums: &mut TileProducts<Self>,
    ) {
        tile::multiply_tile(left, right, sums);
    }

    /// Takes over single precision.
    fn from_f32s(values: &[f32], out: &mut [Self]) {
        for (out, value) in out.iter_mut().zip(values) {
            *out = if value.is_absent() {
                Self::absent()
            } else {
                Self::nearest(value.widen())
            };
        }
    }

    /// Takes over IEEE half precision.
    fn from_f16s(values: &[f16], out: &mut [Self]) {
        for (out, value) in out.iter_mut().zip(values) {
            *out = Self::nearest(value.to_f64());
        }
    }

    /// Takes over the upper halves of single precision.
    fn from_bf16s(values: &[bf16], out: &mut [Self]) {
        for (out, value) in out.iter_mut().zip(values) {
            *out = Self::nearest(value.widen());
        }
    }

    /// Takes over double precision.
    fn from_f64s(values: &[f64], out: &mut [Self]) {
        for (out, &value) in out.iter_mut().zip(values) {
            *out = Self::nearest(value);
        }
    }

    /// The key of a value; [`Self::ABSENT_KEY`] where there is none.
    fn key(self) -> Self::Key;

    /// The value of a key.
    fn of_key(key: Self::Key) -> Self;
}

/// The `f32` that marks a coordinate which its client did not send: the NaN of the largest bit pattern, which no arithmetic makes.
pub const ABSENT: f32 = f32::from_bits(0x7fff_ffff);

impl Element for f32 {
    type Key = i32;

    const ABSENT_KEY: i32 = i32::MAX;
    const NUMBER_KEYS: [i32; 2] = [-0x7f80_0000, 0x7f7f_ffff];

    fn multiply_tile(
        left: &[Block<Self>],
        right: Option<&Tile<Self>>,
        sums: &mut TileProducts<Self>,
    ) {
        tile::multiply_f32_tile(left, right, sums);
    }

    fn as_rows<'a>(values: &Values<'a>) -> Option<&'a [Self]> {
        if let Values::F32(values) = values {
            Some(values)
        } else {
            None
        }
    }

    fn from_f32s(values: &[f32], out: &mut [Self]) {
        out.copy_from_slice(values);
    }

    fn from_f16s(values: &[f16], out: &mut [Self]) {
        values.convert_to_f32_slice(out);
    }

    fn from_bf16s(values: &[bf16], out: &mut [Self]) {
        for (out, value) in out.iter_mut().zip(values) {
            *out = Self::from_bits(u32::from(value.to_bits()) << 16);
        }
    }

    #[inline(always)]
    fn widen(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "rounding is the purpose")]
    fn nearest(value: f64) -> Self {
        value as Self
    }

    #[inline(always)]
    fn size_key(self) -> i32 {
        (self.to_bits() & 0x7fff_ffff).cast_signed()
    }

    fn can_multiply(largest: f64) -> bool {
        largest == 0.0 || (1e-15..1e15).contains(&largest) || !largest.is_finite()
    }

    #[inline(always)]
    fn is_absent(self) -> bool {
        self.to_bits() == ABSENT.to_bits()
    }

    #[inline(always)]
    fn key(self) -> i32 {
        let bits = self.to_bits().cast_signed();
        bits ^ ((bits >> 31) & i32::MAX)
    }

    #[inline(always)]
    fn of_key(key: i32) -> Self {
        Self::from_bits((key ^ ((key >> 31) & i32::MAX)).cast_unsigned())
    }
}

impl Element for f64 {
    type Key = i64;

    const ABSENT_KEY: i64 = i64::MAX;
    const NUMBER_KEYS: [i64; 2] = [-0x7ff0_0000_0000_0000, 0x7fef_ffff_ffff_ffff];

    fn as_rows<'a>(values: &Values<'a>) -> Option<&'a [Self]> {
        if let Values::F64(values) = values {
            Some(values)
        } else {
            None
        }
    }

    #[inline(always)]
    fn widen(self) -> f64 {
        self
    }

    #[inline(always)]
    fn nearest(value: f64) -> Self {
        value
    }

    #[inline(always)]
    fn size_key(self) -> i64 {
        (self.to_bits() & 0x7fff_ffff_ffff_ffff).cast_signed()
    }

    fn can_multiply(_largest: f64) -> bool {
        true
    }

    #[inline(always)]
    fn is_absent(self) -> bool {
        self.to_bits() == 0x7fff_ffff_ffff_ffff
    }

    #[inline(always)]
    fn key(self) -> i64 {
        let bits = self.to_bits().cast_signed();
        bits ^ ((bits >> 63) & i64::MAX)
    }

    #[inline(always)]
    fn of_key(key: i64) -> Self {
        Self::from_bits((key ^ ((key >> 63) & i64::MAX)).cast_unsigned())
    }
}

impl Element for bf16 {
    type Key = i16;

    const ABSENT_KEY: i16 = i16::MAX;
    const NUMBER_KEYS: [i16; 2] = [-0x7f80, 0x7f7f];

    fn as_rows<'a>(values: &Values<'a>) -> Option<&'a [Self]> {
        if let Values::Bf16(values) = values {
            Some(values)
        } else {
            None
        }
    }

    #[inline(always)]
    fn widen(self) -> f64 {
        f64::from(f32::from_bits(u32::from(self.to_bits()) << 16))
    }

    #[inline(always)]
    fn nearest(value: f64) -> Self {
        Self::from_f64(value)
    }

    #[inline(always)]
    fn size_key(self) -> i16 {
        (self.to_bits() & 0x7fff).cast_signed()
    }

    fn can_multiply(_largest: f64) -> bool {
        false
    }

    #[inline(always)]
    fn is_absent(self) -> bool {
        self.to_bits() == 0x7fff
    }

    #[inline(always)]
    fn key(self) -> i16 {
        let bits = self.to_bits().cast_signed();
        bits ^ ((bits >> 15) & i16::MAX)
    }

    #[inline(always)]
    fn of_key(key: i16) -> Self {
        Self::from_bits((key ^ ((key >> 15) & i16::MAX)).cast_unsigned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ascends<T: Element>(values: &[T]) {
        assert!(
            values.windows(2).all(|pair| pair[0].key() < pair[1].key()),
            "{values:?}"
        );
    }

    #[test]
    fn keys_order_as_values_do_and_lead_back_to_them() {
        let values = [
            f32::NEG_INFINITY,
            f32::MIN,
            -1.0,
            -f32::from_bits(1),
            -0.0,
            0.0,
            f32::from_bits(1),
            2.5,
            f32::MAX,
            f32::INFINITY,
            ABSENT,
        ];
        ascends(&values);
        ascends(&values.map(|value| {
            if value.is_absent() {
                f64::from_bits(i64::MAX.cast_unsigned())
            } else {
                f64::from(value)
            }
        }));
        ascends(&[
            bf16::NEG_INFINITY,
            bf16::NEG_ONE,
            bf16::NEG_ZERO,
            bf16::ZERO,
            bf16::ONE,
            bf16::INFINITY,
            bf16::from_bits(0x7fff),
        ]);
        for value in values {
            assert_eq!(f32::of_key(value.key()).to_bits(), value.to_bits());
        }
        assert_eq!(f32::NUMBER_KEYS, [f32::MIN.key(), f32::MAX.key()]);
        assert_eq!(f64::NUMBER_KEYS, [f64::MIN.key(), f64::MAX.key()]);
        assert_eq!(bf16::NUMBER_KEYS, [bf16::MIN.key(), bf16::MAX.key()]);
        assert_eq!(ABSENT.key(), f32::ABSENT_KEY);
        assert!(ABSENT.is_absent() && !f32::NAN.is_absent());
    }
}
