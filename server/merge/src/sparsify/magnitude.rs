//! Magnitudes as integers that order as they do, and the bounds between which values are kept.
//!
//! The key of a magnitude is its bits without the sign: 31 of an `f32`, 15 of a `bf16`. NaN is above infinity. An absent coordinate has the
//! magnitude 0, since nothing was changed there.

use half::bf16;

use crate::kernel::Element;
use crate::kernel::dispatch::vectorized;

/// A number whose magnitude has an integer key.
pub(crate) trait Magnitude: Element {
    /// One more than the largest key.
    const END: u32;

    /// The key of `|x|`, of a value that is not absent.
    fn sent_magnitude(self) -> u32;

    /// The key of `|x|`.
    #[inline(always)]
    fn magnitude(self) -> u32 {
        if self.is_absent() {
            0
        } else {
            self.sent_magnitude()
        }
    }
}

impl Magnitude for f32 {
    const END: u32 = 1 << 31;

    #[inline(always)]
    fn sent_magnitude(self) -> u32 {
        self.to_bits() & (Self::END - 1)
    }
}

impl Magnitude for bf16 {
    const END: u32 = 1 << 15;

    #[inline(always)]
    fn sent_magnitude(self) -> u32 {
        u32::from(self.to_bits()) & (Self::END - 1)
    }
}

/// Magnitudes are ranked as rounded to `f32`.
impl Magnitude for f64 {
    const END: u32 = 1 << 31;

    #[inline(always)]
    fn sent_magnitude(self) -> u32 {
        f32::nearest(self).sent_magnitude()
    }
}

/// Ranks of magnitudes that are kept, 1 being that of the largest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The rank of the largest magnitude that is kept.
    pub(crate) first: u64,
    /// The rank of the smallest one.
    pub(crate) last: u64,
}

/// Keys of the smallest and the largest magnitude that are kept; so all values equal to either are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// The smallest.
    pub(crate) low: u32,
    /// The largest.
    pub(crate) high: u32,
}

impl Bounds {
    /// Everything is kept.
    pub(crate) const ALL: Self = Self {
        low: 0,
        high: u32::MAX,
    };

    /// Whether the magnitude of this key is kept.
    #[inline(always)]
    pub(crate) fn hold(self, magnitude: u32) -> bool {
        (self.low <= magnitude) & (magnitude <= self.high)
    }

    /// The value, or `fill` where its magnitude is out of bounds.
    #[inline(always)]
    fn keep<T: Magnitude>(self, value: T, fill: T) -> T {
        // No branches: `|` rather than `||`.
        if self.hold(value.magnitude()) | value.is_absent() {
            value
        } else {
            fill
        }
    }

    /// Puts `fill` where a magnitude is out of bounds.
    pub(crate) fn filter<T: Magnitude>(self, values: &mut [T], fill: T) {
        vectorized(
            #[inline(always)]
            || {
                // Copies: the compiler fears that a write to a value changes what the closure refers to.
                let (bounds, fill) = (self, fill);
                for value in &mut *values {
                    *value = bounds.keep(*value, fill);
                }
            },
        );
    }
}

/// A share of a count, rounded down.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a count is a count; a float's cast saturates"
)]
pub(crate) fn share_of(values: u64, share: f64) -> u64 {
    (share * values as f64) as u64
}
