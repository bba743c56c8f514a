//! Signs and changes, coordinate by coordinate: where clients contradict one another, and what each alone has changed.

use super::ACTIVE;
use crate::kernel::dispatch::vectorized;
use crate::kernel::{Element, Rows};

/// How many coordinates are looked at together.
const WIDTH: usize = 256;

/// Running sums of one row's magnitudes.
const LANES: usize = 8;

/// What was counted of some values of one tensor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SignCounts {
    /// Coordinates with both signs.
    pub(crate) conflicts: u64,
    /// Coordinates with at least two values that are not 0.
    pub(crate) shared: u64,
    /// `ΣΣ|τ|`
    pub(crate) mass: f64,
    /// `Σ|Στ|`
    pub(crate) net: f64,
    /// For each client.
    pub(crate) clients: Vec<ClientCounts>,
}

/// What was counted of one client.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct ClientCounts {
    /// `Σ|τ|`
    pub(crate) mass: f64,
    /// The part of it whose sign is opposite to that of the clients' sum.
    pub(crate) against: f64,
    /// Coordinates changed.
    pub(crate) active: u64,
    /// Coordinates that no other client changed.
    pub(crate) alone: u64,
}

impl SignCounts {
    pub(crate) fn new(clients: usize) -> Self {
        Self {
            conflicts: 0,
            shared: 0,
            mass: 0.0,
            net: 0.0,
            clients: vec![ClientCounts::default(); clients],
        }
    }

    /// What one takes, in bytes.
    pub(crate) fn bytes(clients: usize) -> usize {
        size_of::<Self>() + clients * size_of::<ClientCounts>()
    }

    /// Adds what a later run counted.
    pub(crate) fn add(&mut self, other: &Self) {
        self.conflicts += other.conflicts;
        self.shared += other.shared;
        self.mass += other.mass;
        self.net += other.net;
        for (sum, other) in self.clients.iter_mut().zip(&other.clients) {
            sum.mass += other.mass;
            sum.against += other.against;
            sum.active += other.active;
            sum.alone += other.alone;
        }
    }

    /// Counts a unit; leaves in `masks` the coordinates that each client changed, 64 to a word, a fixed number of words a client.
    pub(crate) fn count<T: Element>(&mut self, rows: Rows<'_, T>, masks: &mut [u64]) {
        let words = masks.len() / rows.count().max(1);
        masks.fill(0);
        vectorized(
            #[inline(always)]
            || {
                for start in (0..rows.len()).step_by(WIDTH) {
                    self.count_tile(rows, start, masks, words);
                }
            },
        );
    }

    #[inline(always)]
    fn count_tile<T: Element>(
        &mut self,
        rows: Rows<'_, T>,
        start: usize,
        masks: &mut [u64],
        words: usize,
    ) {
        let len = WIDTH.min(rows.len() - start);
        let (mut sums, mut sizes) = ([0.0_f64; WIDTH], [0.0_f64; WIDTH]);
        let (mut positive, mut negative, mut active) =
            ([0_i32; WIDTH], [0_i32; WIDTH], [0_i32; WIDTH]);
        for row in rows.iter() {
            let row = &row[start..start + len];
            for (at, value) in row.iter().enumerate() {
                let value = value.widen();
                sums[at] += value;
                sizes[at] += value.abs();
                positive[at] += i32::from(value > 0.0);
                negative[at] += i32::from(value < 0.0);
                active[at] += i32::from(value.abs() > ACTIVE);
            }
        }
        for at in 0..len {
            self.conflicts += u64::from(positive[at] > 0 && negative[at] > 0);
            self.shared += u64::from(positive[at] + negative[at] >= 2);
        }
        self.mass += folded(&sizes[..len]);
        self.net += folded(&sums.map(f64::abs)[..len]);
        for (client, row) in rows.iter().enumerate() {
            let counts = &mut self.clients[client];
            count_client(&row[start..start + len], &sums, &active, counts);
            let masks = &mut masks[client * words + start / 64..][..len.div_ceil(64)];
            for (mask, values) in masks.iter_mut().zip(row[start..start + len].chunks(64)) {
                for (bit, value) in values.iter().enumerate() {
                    *mask |= u64::from(value.widen().abs() > ACTIVE) << bit;
                }
            }
        }
    }
}

#[inline(always)]
fn count_client<T: Element>(
    row: &[T],
    sums: &[f64; WIDTH],
    active: &[i32; WIDTH],
    counts: &mut ClientCounts,
) {
    let (mut mass, mut against) = ([0.0_f64; LANES], [0.0_f64; LANES]);
    let (mut changed, mut alone) = (0_u64, 0_u64);
    for (at, values) in row.chunks(LANES).enumerate() {
        for (lane, value) in values.iter().enumerate() {
            let (value, sum) = (value.widen(), sums[at * LANES + lane]);
            let size = value.abs();
            mass[lane] += size;
            against[lane] += if value * sum < 0.0 { size } else { 0.0 };
        }
    }
    for (value, &active) in row.iter().zip(active) {
        let is_active = value.widen().abs() > ACTIVE;
        changed += u64::from(is_active);
        alone += u64::from(is_active && active == 1);
    }
    counts.mass += folded(&mass);
    counts.against += folded(&against);
    counts.active += changed;
    counts.alone += alone;
}

/// A sum in a fixed order that vector instructions can follow.
#[inline(always)]
fn folded(values: &[f64]) -> f64 {
    let mut sums = [0.0_f64; LANES];
    for chunk in values.chunks(LANES) {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            *sum += value;
        }
    }
    sums.iter().sum()
}

/// Adds, for each pair of clients, how many coordinates both have changed: a triangle.
pub(crate) fn count_overlaps(masks: &[u64], clients: usize, overlaps: &mut [u64]) {
    let words = masks.len() / clients.max(1);
    let of = |client: usize| &masks[client * words..][..words];
    vectorized(
        #[inline(always)]
        || {
            let pairs = (0..clients).flat_map(|row| (0..=row).map(move |column| (row, column)));
            for (sum, (row, column)) in overlaps.iter_mut().zip(pairs) {
                for (a, b) in of(row).iter().zip(of(column)) {
                    *sum += u64::from((a & b).count_ones());
                }
            }
        },
    );
}
