//! Magnitudes by size, roughly: which share of a task vector's mass lies in its largest values.

use crate::kernel::{Element, Rows};

/// Bits of a magnitude that make a bin: the exponent, and 3 bits of the fraction, so 8 bins an octave.
const BIN_BITS: u32 = 11;
const BINS: usize = 1 << BIN_BITS;

/// In tensors of more units than this, every so many units are counted.
const MANY_UNITS: usize = 64;
const EVERY: usize = 8;

/// A histogram of magnitudes for each client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sizes {
    counts: Vec<u64>,
}

/// Whether a unit of a tensor of so many is counted.
pub(super) fn is_counted(units: usize, unit: usize) -> bool {
    units <= MANY_UNITS || unit.is_multiple_of(EVERY)
}

impl Sizes {
    pub(super) fn new(clients: usize) -> Self {
        Self {
            counts: vec![0; clients * BINS],
        }
    }

    /// What it takes, in bytes.
    pub(super) fn bytes(clients: usize) -> usize {
        clients * BINS * size_of::<u64>()
    }

    pub(super) fn count<T: Element>(&mut self, rows: Rows<'_, T>) {
        for (row, counts) in rows.iter().zip(self.counts.chunks_exact_mut(BINS)) {
            for value in row {
                counts[bin(f32::nearest(value.widen().abs()))] += 1;
            }
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (sum, count) in self.counts.iter_mut().zip(&other.counts) {
            *sum += count;
        }
    }

    /// The share of a client's mass that lies in the largest `share` of its values; 0 where there is no mass.
    #[expect(clippy::cast_precision_loss, reason = "shares of counts")]
    pub(crate) fn top_mass(&self, client: usize, share: f64) -> f64 {
        let counts = &self.counts[client * BINS..][..BINS];
        let masses = || {
            (0_u32..)
                .zip(counts)
                .map(|(bin, &count)| (count as f64, count as f64 * middle(bin)))
        };
        let (values, mass) = masses().fold((0.0, 0.0), |sum, (count, mass)| {
            (sum.0 + count, sum.1 + mass)
        });
        let (mut wanted, mut found) = (values * share, 0.0);
        let bins: Vec<(f64, f64)> = masses().collect();
        for (count, mass) in bins.into_iter().rev() {
            if count > 0.0 {
                let taken = (wanted / count).min(1.0);
                found += mass * taken;
                wanted -= count * taken;
            }
        }
        if mass > 0.0 { found / mass } else { 0.0 }
    }
}

fn bin(magnitude: f32) -> usize {
    (magnitude.to_bits() >> (31 - BIN_BITS)) as usize
}

/// The middle of a bin; the bins above all numbers are empty.
fn middle(bin: u32) -> f64 {
    let edge = |bin: u32| f64::from(f32::from_bits(bin << (31 - BIN_BITS)).min(f32::MAX));
    if bin == 0 {
        return 0.0;
    }
    edge(bin) / 2.0 + edge(bin + 1) / 2.0
}
