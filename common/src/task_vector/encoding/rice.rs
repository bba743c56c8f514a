//! Rice codes of the gaps between kept values: the quotient by 2^k in unary, the remainder in k bits.
//!
//! R. F. Rice, "Some practical universal noiseless coding techniques", 1979. The parameter k is the one that takes the fewest
//! bits for the gaps at hand, the smallest of several, so that nothing is left to choose.

use super::bits::{BitReader, BitWriter};
use super::{ByteSource, DecodeError};

/// The largest parameter: beyond it, one value in a thousand million is kept.
pub(super) const MOST: u8 = 30;

const PARAMETERS: usize = MOST as usize + 1;

/// How many bits gaps would take with each parameter.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    count: u64,
    quotients: [u64; PARAMETERS],
}

impl Tally {
    /// Counts a gap: how many values lie between two that are kept.
    pub(super) fn add(&mut self, gap: u64) {
        self.count += 1;
        for (parameter, sum) in self.quotients.iter_mut().enumerate() {
            *sum += gap >> parameter;
        }
    }

    /// How many gaps there were.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The best parameter, and how many bits it takes.
    pub(super) fn best(&self) -> (u8, u64) {
        let bits = (0..=MOST).zip(&self.quotients).map(|(parameter, sum)| {
            let each = u64::from(parameter) + 1;
            (parameter, sum + self.count * each)
        });
        bits.min_by_key(|(_, bits)| *bits)
            .expect("there are parameters")
    }
}

/// Writes one gap.
pub(super) fn write<E>(bits: &mut BitWriter<'_, E>, parameter: u8, gap: u64) -> Result<(), E> {
    bits.push_unary(gap >> parameter)?;
    bits.push(gap & ((1 << parameter) - 1), u32::from(parameter))
}

/// Reads one gap; nothing when it is more than `most`.
pub(super) fn read<S: ByteSource>(
    bits: &mut BitReader<'_, S>,
    parameter: u8,
    most: u64,
) -> Result<Option<u64>, DecodeError> {
    let Some(quotient) = bits.unary(most >> parameter)? else {
        return Ok(None);
    };
    let gap = (quotient << parameter) | bits.take(u32::from(parameter))?;
    Ok((gap <= most).then_some(gap))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_parameter_is_the_smallest_that_takes_the_fewest_bits() {
        for (gaps, best) in [
            (vec![], (0, 0)),
            (vec![0], (0, 1)),
            // 1 takes 2 bits with both 0 and 1.
            (vec![1], (0, 2)),
            (vec![3, 3], (1, 6)),
            (vec![1000], (9, 11)),
            (vec![u64::from(u32::MAX)], (30, 34)),
        ] {
            let mut tally = Tally::default();
            gaps.iter().for_each(|gap| tally.add(*gap));
            assert_eq!(tally.best(), best, "{gaps:?}");
        }
    }
}
