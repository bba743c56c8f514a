//! Which values a sparse encoding keeps: those of the largest magnitude, and of equal ones the first.
//!
//! Magnitudes of finite f32 are ordered like their bits, so two histograms find the least one that is kept, in memory that does
//! not grow with the tensor.

use super::Values;

const SIGN: u32 = 1 << 31;
/// Lower bits of a magnitude, which the second histogram tells apart.
const LOWER_BITS: u32 = 15;
const UPPER_BUCKETS: usize = 1 << (31 - LOWER_BITS);
const LOWER_BUCKETS: usize = 1 << LOWER_BITS;

/// The values that are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Selection {
    /// How many.
    pub(super) count: u64,
    /// Bits of the least magnitude among them.
    threshold: u32,
    /// How many of exactly that magnitude are kept.
    ties: u64,
}

fn bits(value: f32) -> u32 {
    value.to_bits() & !SIGN
}

fn upper(bits: u32) -> usize {
    (bits >> LOWER_BITS) as usize
}

fn lower(bits: u32) -> usize {
    bits as usize % LOWER_BUCKETS
}

impl Selection {
    /// The `most` largest of the values whose magnitude is at least `least`, which is above 0; nothing where there are none.
    pub(super) fn of<E>(values: &Values<'_, E>, most: u64, least: f32) -> Result<Option<Self>, E> {
        let least = bits(least);
        let mut tops = vec![0_u64; UPPER_BUCKETS];
        values.for_each_block(|_, block| {
            for value in block.iter().map(|value| bits(*value)) {
                tops[upper(value)] += u64::from(value >= least);
            }
            Ok(())
        })?;
        let count = tops.iter().sum::<u64>().min(most);
        if count == 0 {
            return Ok(None);
        }
        let (top, wanted) = reach(&tops, count);
        let mut bottoms = vec![0_u64; LOWER_BUCKETS];
        values.for_each_block(|_, block| {
            for value in block.iter().map(|value| bits(*value)) {
                bottoms[lower(value)] += u64::from(value >= least && upper(value) == top);
            }
            Ok(())
        })?;
        let (bottom, ties) = reach(&bottoms, wanted);
        let threshold = (top << LOWER_BITS) | bottom;
        Ok(Some(Self {
            count,
            threshold: u32::try_from(threshold).expect("31 bits"),
            ties,
        }))
    }

    /// Shows the index and the value of all that are kept, in order.
    pub(super) fn for_each<E>(
        &self,
        values: &Values<'_, E>,
        mut see: impl FnMut(usize, f32) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut ties = self.ties;
        values.for_each_block(|offset, block| {
            for (index, &value) in block.iter().enumerate() {
                let bits = bits(value);
                if bits < self.threshold || (bits == self.threshold && ties == 0) {
                    continue;
                }
                ties -= u64::from(bits == self.threshold);
                see(offset + index, value)?;
            }
            Ok(())
        })
    }
}

/// The bucket in which the `wanted`-largest is, and how many are wanted of it. There are as many.
fn reach(buckets: &[u64], wanted: u64) -> (usize, u64) {
    let mut left = wanted;
    for (bucket, &count) in buckets.iter().enumerate().rev() {
        if count >= left {
            return (bucket, left);
        }
        left -= count;
    }
    (0, left)
}
