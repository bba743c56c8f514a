//! Signs and changes, coordinate by coordinate: where clients contradict one another, and what each alone has changed.

use std::ops::Range;

use super::ACTIVE;
use crate::kernel::dispatch::vectorized;
use crate::kernel::{Element, Rows};

/// How many coordinates are looked at together.
const WIDTH: usize = 256;
/// How many words hold a bit for each of them.
const WORDS: usize = WIDTH / 64;

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
                    let words = start / 64..words.min(start / 64 + WORDS);
                    self.count_tile(rows, start, masks, words);
                }
            },
        );
    }

    /// Counts a tile; `words` are those of its coordinates among each client's.
    #[inline(always)]
    fn count_tile<T: Element>(
        &mut self,
        rows: Rows<'_, T>,
        start: usize,
        masks: &mut [u64],
        words: Range<usize>,
    ) {
        let mut columns = Columns::default();
        for row in rows.iter() {
            columns.add(&tile(row, start));
        }
        for at in 0..WIDTH {
            let (positive, negative) = (columns.positive[at], columns.negative[at]);
            self.conflicts = self
                .conflicts
                .wrapping_add(u64::from(positive > 0 && negative > 0));
            let changed = positive.wrapping_add(negative);
            self.shared = self.shared.wrapping_add(u64::from(changed >= 2));
        }
        self.mass += folded(&columns.sizes);
        self.net += folded(&columns.sums.map(f64::abs));
        let alone = packed(&columns.active.map(|active| active == 1));
        let each = masks.len() / rows.count().max(1);
        for ((row, counts), masks) in rows
            .iter()
            .zip(&mut self.clients)
            .zip(masks.chunks_mut(each))
        {
            let tile = tile(row, start);
            counts.weigh(&tile, &columns.sums);
            let active = packed(&tile.map(|value| value.widen().abs() > ACTIVE));
            for (active, alone) in active.iter().zip(alone) {
                counts.active = counts.active.wrapping_add(active.count_ones().into());
                counts.alone = counts
                    .alone
                    .wrapping_add((active & alone).count_ones().into());
            }
            for (mask, active) in masks[words.clone()].iter_mut().zip(active) {
                *mask = active;
            }
        }
    }
}

/// What all clients together have at each coordinate of a tile. Counts have the width of the sums, so that vectors hold as many of both, and
/// wrap, because nothing that may panic becomes a vector.
struct Columns {
    sums: [f64; WIDTH],
    sizes: [f64; WIDTH],
    positive: [u64; WIDTH],
    negative: [u64; WIDTH],
    active: [u64; WIDTH],
}

impl Default for Columns {
    #[inline(always)]
    fn default() -> Self {
        Self {
            sums: [0.0; WIDTH],
            sizes: [0.0; WIDTH],
            positive: [0; WIDTH],
            negative: [0; WIDTH],
            active: [0; WIDTH],
        }
    }
}

impl Columns {
    #[inline(always)]
    fn add<T: Element>(&mut self, tile: &[T; WIDTH]) {
        for (at, value) in tile.iter().enumerate() {
            let value = value.widen();
            self.sums[at] += value;
            self.sizes[at] += value.abs();
            self.positive[at] = self.positive[at].wrapping_add((value > 0.0).into());
            self.negative[at] = self.negative[at].wrapping_add((value < 0.0).into());
            self.active[at] = self.active[at].wrapping_add((value.abs() > ACTIVE).into());
        }
    }
}

impl ClientCounts {
    /// Adds the magnitudes of a tile, and those of the values against the sums of all.
    #[inline(always)]
    fn weigh<T: Element>(&mut self, tile: &[T; WIDTH], sums: &[f64; WIDTH]) {
        let (mut mass, mut against) = ([0.0_f64; LANES], [0.0_f64; LANES]);
        let ((tile, _), (sums, _)) = (tile.as_chunks::<LANES>(), sums.as_chunks::<LANES>());
        for (values, sums) in tile.iter().zip(sums) {
            for lane in 0..LANES {
                let value = values[lane].widen();
                let size = value.abs();
                mass[lane] += size;
                against[lane] += if value * sums[lane] < 0.0 { size } else { 0.0 };
            }
        }
        self.mass += folded(&mass);
        self.against += folded(&against);
    }
}

/// The values of a row from `start` on, as many as a tile has; zeros, which count as nothing, after its end.
#[inline(always)]
fn tile<T: Element>(row: &[T], start: usize) -> [T; WIDTH] {
    let rest = &row[start..];
    if let Some(whole) = rest.first_chunk() {
        return *whole;
    }
    let mut tile = [T::default(); WIDTH];
    tile[..rest.len()].copy_from_slice(rest);
    tile
}

/// One bit for each coordinate of a tile.
#[inline(always)]
fn packed(flags: &[bool; WIDTH]) -> [u64; WORDS] {
    /// Moves the lowest bit of byte *i* to bit 56 + *i*.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let bytes = flags.map(u8::from);
    let (eights, _) = bytes.as_chunks::<8>();
    let mut words = [0; WORDS];
    for (number, eight) in eights.iter().enumerate() {
        let bits = u64::from_le_bytes(*eight).wrapping_mul(GATHER) >> 56;
        words[number / 8] |= bits << (number % 8 * 8);
    }
    words
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
                let both = of(row).iter().zip(of(column));
                *sum += both.fold(0_u64, |both, (a, b)| {
                    both.wrapping_add((a & b).count_ones().into())
                });
            }
        },
    );
}
