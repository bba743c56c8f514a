//! Inner products of all rows with one another, centred: what the Gram matrix is made of.
//!
//! Products are taken in the rows' own type within a stretch of [`STRETCH`] values, in [`LANES`] running sums; these are added up in
//! `f64` from stretch to stretch, and folded in a fixed tree at the end of each [`UNIT`]. Each row is centred first, so that what
//! clients have in common does not take the digits of what sets them apart. The centre leaves out rows that are far larger
//! than most: a client that shouts must not take the digits of the others' distances. The sums of a tile of rows that are multiplied
//! together lie in registers, and centred rows come and go a block at a time, so that they stay near.

pub(super) mod tile;

use std::ops::Range;

use self::tile::{BLOCK, Block, LANES, TILE, TileProducts};
use super::ahead::Ahead;
use super::dispatch::vectorized;
use super::{Element, Rows};

/// How many values are centred alike, and lie between two folds.
const UNIT: usize = 4096;

/// How many values are summed in the rows' own type.
const STRETCH: usize = 1024;

/// How many values are centred in registers.
const PART: usize = 64;

/// How many times the median of the clients' largest magnitudes a row may reach and still count in the centre.
const LOUD: f64 = 8.0;

/// How many entries a triangle of so many rows has, the diagonal included.
pub(crate) const fn triangle(rows: usize) -> usize {
    rows * (rows + 1) / 2
}

/// The place of a pair in a triangle: the row, and a column that is not larger.
pub(crate) const fn place(row: usize, column: usize) -> usize {
    row * (row + 1) / 2 + column
}

/// Multiplies rows with one another; owns its memory.
#[derive(Debug)]
pub(crate) struct Products<T> {
    /// The largest magnitude of each row in a unit.
    sizes: Vec<f64>,
    sorted: Vec<f64>,
    /// The centre of a unit.
    centre: Vec<T>,
    /// A block of each row less the centre, then of the centre.
    centred: Vec<Block<T>>,
    /// Pairs of tiles, each with those up to itself: sums within a stretch.
    narrow: Vec<TileProducts<T>>,
    /// The same, within a unit.
    wide: Vec<TileProducts<f64>>,
}

impl<T: Element> Products<T> {
    /// For so many rows.
    pub(crate) fn new(rows: usize) -> Self {
        let tiles = tiles(rows);
        Self {
            sizes: Vec::with_capacity(rows),
            sorted: Vec::with_capacity(rows),
            centre: vec![T::default(); UNIT],
            centred: vec![[T::default(); BLOCK]; rows + 1],
            narrow: vec![Default::default(); triangle(tiles)],
            wide: vec![Default::default(); triangle(tiles)],
        }
    }

    /// What they take, in bytes.
    pub(crate) const fn bytes(rows: usize) -> usize {
        let tiles = tiles(rows);
        let row = 2 * size_of::<f64>();
        let pair = size_of::<TileProducts<T>>() + size_of::<TileProducts<f64>>();
        rows * row
            + UNIT * size_of::<T>()
            + (rows + 1) * size_of::<Block<T>>()
            + triangle(tiles) * pair
    }

    /// Adds to `sums`, a triangle of `rows + 1`, the products of the rows less their centre, and of the centre (the last row).
    ///
    /// The centre is the mean of those of the first `clients` rows that are not [`LOUD`], near enough: any centre gives the same
    /// distances.
    pub(crate) fn add(&mut self, rows: Rows<'_, T>, clients: usize, sums: &mut [f64]) {
        for unit in ranges(0..rows.len(), UNIT) {
            self.sweep(rows, clients, unit.clone());
            if !T::can_multiply(self.sizes.iter().copied().fold(0.0, f64::max)) {
                add_widely(rows, clients, unit, sums);
                continue;
            }
            self.find_centre(rows, clients, unit.clone());
            self.wide.fill(Default::default());
            let next = unit.end..(unit.end + UNIT).min(rows.len());
            let mut ahead = Ahead::new(rows, next);
            let share = ahead
                .lines()
                .div_ceil(self.narrow.len() * unit.len().div_ceil(BLOCK));
            for stretch in ranges(unit.clone(), STRETCH) {
                self.narrow.fill(Default::default());
                for block in ranges(stretch, BLOCK) {
                    self.centre_rows(rows, block.clone(), block.start - unit.start);
                    self.multiply(|| ahead.fetch(share));
                }
                self.widen();
            }
            self.fold(rows.count() + 1, sums);
        }
    }

    /// Reads a unit row by row, so that memory is read in long runs: finds the largest magnitude of each, and adds up what is likely to
    /// become the centre.
    fn sweep(&mut self, rows: Rows<'_, T>, clients: usize, unit: Range<usize>) {
        let Self { sizes, centre, .. } = self;
        vectorized(
            #[inline(always)]
            || {
                sizes.clear();
                centre.fill(T::default());
                for (number, row) in rows.iter().enumerate() {
                    let row = &row[unit.clone()];
                    let size = if number < clients {
                        largest_and_sum(row, centre)
                    } else {
                        largest(row)
                    };
                    sizes.push(T::of_key(size).widen());
                }
            },
        );
    }

    /// Makes the sum of the clients' rows their mean, after those are taken out that are far larger than most.
    fn find_centre(&mut self, rows: Rows<'_, T>, clients: usize, unit: Range<usize>) {
        let Self {
            sizes,
            sorted,
            centre,
            ..
        } = self;
        sorted.clear();
        sorted.extend(&sizes[..clients]);
        sorted.select_nth_unstable_by(clients / 2, f64::total_cmp);
        let limit = LOUD * sorted[clients / 2];
        let quiet = rows.iter().zip(&*sizes).take(clients);
        let quiet = quiet.filter(|(_, size)| **size <= limit);
        let counted = quiet.clone().count();
        let share = T::nearest(1.0 / count(counted));
        vectorized(
            #[inline(always)]
            || {
                if counted < clients {
                    centre.fill(T::default());
                    // Their magnitudes are known by now: this happens where somebody shouts, and need not be fast.
                    for (row, _) in quiet.clone() {
                        largest_and_sum(&row[unit.clone()], centre);
                    }
                }
                for value in &mut *centre {
                    *value = *value * share;
                }
            },
        );
    }

    /// Puts a block of each row less the centre, and the centre after them, into `centred`.
    fn centre_rows(&mut self, rows: Rows<'_, T>, block: Range<usize>, offset: usize) {
        let Self {
            centre, centred, ..
        } = self;
        let (of_rows, rest) = centred.split_at_mut(rows.count());
        vectorized(
            #[inline(always)]
            || {
                let centre: &Block<T> = centre[offset..].first_chunk().expect("whole blocks");
                for (centred, row) in of_rows.iter_mut().zip(rows.iter()) {
                    let row = &row[block.clone()];
                    match row.first_chunk() {
                        Some(row) => subtract(row, centre, centred),
                        None => subtract(&padded(row), centre, centred),
                    }
                }
                rest[0] = *centre;
            },
        );
    }

    /// Multiplies all rows of a block; does something else after each pair of tiles.
    fn multiply(&mut self, mut also: impl FnMut()) {
        let (whole, _) = self.centred.as_chunks();
        let mut pairs = self.narrow.iter_mut();
        for (at, left) in self.centred.chunks(TILE).enumerate() {
            let right = whole[..at].iter().map(Some).chain([None]);
            for (right, sums) in right.zip(&mut pairs) {
                T::multiply_tile(left, right, sums);
                also();
            }
        }
    }

    /// Adds the sums of a stretch to those of its unit.
    fn widen(&mut self) {
        let narrow = self.narrow.as_flattened().as_flattened().as_flattened();
        let wide = self.wide.as_flattened_mut().as_flattened_mut();
        let wide = wide.as_flattened_mut();
        vectorized(
            #[inline(always)]
            || {
                for (wide, narrow) in wide.iter_mut().zip(narrow) {
                    *wide += narrow.widen();
                }
            },
        );
    }

    /// Adds what a unit left.
    fn fold(&self, rows: usize, sums: &mut [f64]) {
        let firsts = (0..rows).step_by(TILE);
        let pairs =
            firsts.flat_map(|left| (0..=left).step_by(TILE).map(move |right| (left, right)));
        for ((left, right), products) in pairs.zip(&self.wide) {
            for (row, products) in (left..rows).zip(products) {
                for (column, lanes) in (right..=row).zip(products) {
                    sums[place(row, column)] += sum(lanes);
                }
            }
        }
    }
}

/// How many tiles so many rows and their centre make.
const fn tiles(rows: usize) -> usize {
    (rows + 1).div_ceil(TILE)
}

/// The range in pieces of this length.
fn ranges(range: Range<usize>, len: usize) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range
        .step_by(len)
        .map(move |start| start..end.min(start + len))
}

/// The same as [`Products::add`] for a unit whose squares are beyond what the rows' own type holds, in `f64`.
fn add_widely<T: Element>(rows: Rows<'_, T>, clients: usize, unit: Range<usize>, sums: &mut [f64]) {
    let widened = |row: &[T]| {
        row[unit.clone()]
            .iter()
            .map(|value| value.widen())
            .collect()
    };
    let wide: Vec<Vec<f64>> = rows.iter().map(widened).collect();
    let slices: Vec<&[f64]> = wide.iter().map(Vec::as_slice).collect();
    Products::new(rows.count()).add(Rows::new(&slices, unit.len()), clients, sums);
}

/// The largest magnitude, as a key.
#[inline(always)]
fn largest<T: Element>(values: &[T]) -> T::Key {
    let mut sizes = [T::Key::default(); PART];
    let (parts, rest) = values.as_chunks();
    for part in parts {
        raise(&mut sizes, part);
    }
    raise(&mut sizes, &padded(rest));
    sizes.into_iter().fold(T::Key::default(), Ord::max)
}

/// The largest magnitude, as a key; adds the values to sums.
#[inline(always)]
fn largest_and_sum<T: Element>(values: &[T], sums: &mut [T]) -> T::Key {
    let mut sizes = [T::Key::default(); PART];
    let (parts, rest) = values.as_chunks();
    for (part, sums) in parts.iter().zip(sums.as_chunks_mut().0) {
        raise(&mut sizes, part);
        let mut added: [T; PART] = *sums;
        for at in 0..PART {
            added[at] = added[at] + part[at];
        }
        *sums = added;
    }
    raise(&mut sizes, &padded(rest));
    for (sum, value) in sums[values.len() - rest.len()..].iter_mut().zip(rest) {
        *sum = *sum + *value;
    }
    sizes.into_iter().fold(T::Key::default(), Ord::max)
}

/// Makes each size that of the value, where that is larger.
#[inline(always)]
fn raise<T: Element>(sizes: &mut [T::Key; PART], values: &[T; PART]) {
    for at in 0..PART {
        sizes[at] = sizes[at].max(values[at].size_key());
    }
}

/// Puts the differences into `out`; a part at a time, made apart from it, lest the compiler fear that they overlap.
#[inline(always)]
fn subtract<T: Element>(values: &Block<T>, centre: &Block<T>, out: &mut Block<T>) {
    let parts = values
        .as_chunks()
        .0
        .iter()
        .zip(centre.as_chunks::<PART>().0);
    for ((values, centre), out) in parts.zip(out.as_chunks_mut().0) {
        let mut less: [T; PART] = *values;
        for at in 0..PART {
            less[at] = less[at] - centre[at];
        }
        *out = less;
    }
}

/// The values, zeros behind their end.
#[inline(always)]
fn padded<T: Element, const LEN: usize>(values: &[T]) -> [T; LEN] {
    let mut padded = [T::default(); LEN];
    padded[..values.len()].copy_from_slice(values);
    padded
}

/// The sum of the lanes, as a tree.
fn sum(lanes: &[f64; LANES]) -> f64 {
    let eight: [f64; 8] = std::array::from_fn(|lane| lanes[lane] + lanes[lane + 8]);
    let four: [f64; 4] = std::array::from_fn(|lane| eight[lane] + eight[lane + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}

#[expect(clippy::cast_precision_loss, reason = "counts of clients are small")]
fn count(clients: usize) -> f64 {
    clients as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::dispatch::with_each;

    fn values(seed: u32, len: usize) -> Vec<f32> {
        let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
        (0..len)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                f32::from(u16::try_from(state >> 16).expect("16 bits")) / 65536.0 - 0.5
            })
            .collect()
    }

    #[test]
    fn products_are_those_of_the_centred_rows() {
        for (clients, others, len) in [
            (1, 0, 1),
            (2, 0, 15),
            (3, 1, 1025),
            (10, 1, 4096),
            (11, 1, 9000),
            (64, 0, 100),
        ] {
            let rows: Vec<Vec<f32>> = (0..clients + others)
                .map(|row| values(u32::try_from(row).expect("few"), len))
                .collect();
            let slices: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
            let mut products = Products::new(rows.len());
            let mut sums = vec![0.0; triangle(rows.len() + 1)];
            products.add(Rows::new(&slices, len), clients, &mut sums);
            for i in 0..rows.len() {
                for j in 0..=i {
                    let distance: f64 = rows[i]
                        .iter()
                        .zip(&rows[j])
                        .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2))
                        .sum();
                    let found = sums[place(i, i)] + sums[place(j, j)] - 2.0 * sums[place(i, j)];
                    assert!(
                        (found - distance).abs() <= 1e-5 * (1.0 + distance),
                        "{i} {j}: {found} {distance}"
                    );
                }
            }
        }
    }

    #[test]
    fn vector_instructions_do_not_change_a_bit() {
        for rows in 1..=9 {
            let rows: Vec<Vec<f32>> = (0..rows).map(|row| values(row, 5001)).collect();
            let slices: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
            let results = with_each(|| {
                let mut sums = vec![0.0; triangle(rows.len() + 1)];
                Products::new(rows.len()).add(Rows::new(&slices, 5001), rows.len(), &mut sums);
                sums.iter().map(|sum| sum.to_bits()).collect::<Vec<u64>>()
            });
            for result in &results[1..] {
                assert_eq!(result, &results[0], "{} rows", rows.len());
            }
        }
    }

    #[test]
    fn small_distances_between_long_rows_keep_their_digits() {
        let len = 1 << 16;
        let long = values(1, len);
        let near: Vec<f32> = long
            .iter()
            .zip(values(2, len))
            .map(|(x, e)| x + e * 1e-3)
            .collect();
        let exact: f64 = long
            .iter()
            .zip(&near)
            .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2))
            .sum();
        let mut products = Products::new(2);
        let mut sums = vec![0.0; triangle(3)];
        products.add(Rows::new(&[&long, &near], len), 2, &mut sums);
        let found = sums[place(0, 0)] + sums[place(1, 1)] - 2.0 * sums[place(1, 0)];
        assert!((found - exact).abs() <= 1e-5 * exact, "{found} {exact}");
    }

    #[test]
    fn a_client_that_shouts_does_not_blur_the_distances_of_the_others() {
        let len = 1 << 14;
        let mut rows: Vec<Vec<f32>> = (0..5).map(|row| values(row, len)).collect();
        for value in &mut rows[2] {
            *value *= 1e6;
        }
        let slices: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let mut products = Products::new(5);
        let mut sums = vec![0.0; triangle(6)];
        products.add(Rows::new(&slices, len), 5, &mut sums);
        let exact: f64 = rows[0]
            .iter()
            .zip(&rows[4])
            .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2))
            .sum();
        let found = sums[place(0, 0)] + sums[place(4, 4)] - 2.0 * sums[place(4, 0)];
        assert!((found - exact).abs() <= 1e-6 * exact, "{found} {exact}");
    }
}
