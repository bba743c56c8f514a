//! A run of keys of magnitudes: `low < key <= top`.
//!
//! Ends are signed, with -1 below all keys, since processors compare signed integers with fewer instructions; keys have 31 bits.

use crate::sparsify::magnitude::Magnitude;

/// The keys above one and up to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interval {
    low: i32,
    top: i32,
}

impl Interval {
    /// All keys of a type.
    pub(super) fn all<T: Magnitude>() -> Self {
        Self {
            low: -1,
            top: (T::END - 1).cast_signed(),
        }
    }

    /// The keys above `low`, or all where there is none, and up to `top`; at least the key `top`.
    pub(super) fn between(low: Option<u32>, top: u32) -> Self {
        let top = top.cast_signed();
        let low = low.map_or(-1, u32::cast_signed);
        Self {
            low: low.min(top - 1),
            top,
        }
    }

    /// What lies above.
    pub(super) fn above<T: Magnitude>(self) -> Self {
        Self {
            low: self.top,
            ..Self::all::<T>()
        }
    }

    /// What lies below, where that is more than 0 alone.
    pub(super) fn below(self) -> Option<Self> {
        (self.low > 0).then_some(Self {
            low: -1,
            top: self.low,
        })
    }

    /// `len` keys from the one at `place` on, as far as there are.
    pub(super) fn part(self, place: u32, len: u32) -> Self {
        let low = self.low + place.cast_signed();
        Self {
            low,
            top: low.saturating_add(len.cast_signed()).min(self.top),
        }
    }

    /// How many keys there are.
    pub(super) fn keys(self) -> u32 {
        self.top.abs_diff(self.low)
    }

    /// The key at a place.
    pub(super) fn key(self, place: u32) -> u32 {
        (self.low + 1).cast_unsigned() + place
    }

    /// The place of a key that is inside.
    #[inline(always)]
    pub(super) fn place(self, key: u32) -> u32 {
        key.wrapping_sub((self.low.wrapping_add(1)).cast_unsigned())
    }

    /// Whether a key is above all that is inside.
    #[inline(always)]
    pub(super) fn is_above(self, key: u32) -> bool {
        key.cast_signed() > self.top
    }

    /// Whether a key is below all that is inside.
    #[inline(always)]
    pub(super) fn is_below(self, key: u32) -> bool {
        key.cast_signed() <= self.low
    }

    /// Whether a key is inside; without a branch.
    #[inline(always)]
    pub(super) fn contains(self, key: u32) -> bool {
        !self.is_below(key) & !self.is_above(key)
    }
}
