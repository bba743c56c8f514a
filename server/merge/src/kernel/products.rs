//! Inner products of all rows with one another, centred: what the Gram matrix is made of.
//!
//! Products are taken in the rows' own type within a stretch of [`STRETCH`] values, in [`LANES`] running sums; these are added up in
//! `f64` from stretch to stretch, and folded in a fixed tree at the end of each [`UNIT`]. Each row is centred first, so that what
//! clients have in common does not take the digits of what sets them apart. The centre leaves out rows that are far larger
//! than most: a client that shouts must not take the digits of the others' distances. The sums of a tile of rows that are multiplied
//! together lie in registers, and centred rows come and go a block at a time, so that they stay near.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::dispatch::vectorized;
use super::{Element, Rows};

/// How many values are centred alike, and lie between two folds.
const UNIT: usize = 4096;

/// How many values are summed in the rows' own type.
const STRETCH: usize = 1024;

/// How many values of all rows are centred before they are multiplied.
const BLOCK: usize = 256;

/// How many values are centred in registers.
const PART: usize = 64;

/// How many running sums a product has.
const LANES: usize = 16;

/// How many times the median of the clients' largest magnitudes a row may reach and still count in the centre.
const LOUD: f64 = 8.0;

/// How many rows are multiplied with how many others at a time.
const TILE: usize = 4;

/// A block of some rows, centred.
pub(crate) type Tile<T> = [[T; BLOCK]; TILE];

/// Products of every row of one tile with every row of another, lane by lane.
pub(crate) type TileProducts<T> = [[[T; LANES]; TILE]; TILE];

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
    /// The rows that count in the centre of a unit.
    counted: Vec<usize>,
    /// A block of each row less the centre, then the centre, then zeros up to a whole tile.
    centred: Vec<[T; BLOCK]>,
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
            counted: Vec::with_capacity(rows),
            centred: vec![[T::default(); BLOCK]; tiles * TILE],
            narrow: vec![Default::default(); triangle(tiles)],
            wide: vec![Default::default(); triangle(tiles)],
        }
    }

    /// What they take, in bytes.
    pub(crate) const fn bytes(rows: usize) -> usize {
        let tiles = tiles(rows);
        let row = 2 * size_of::<f64>() + size_of::<usize>();
        let pair = size_of::<TileProducts<T>>() + size_of::<TileProducts<f64>>();
        rows * row + tiles * TILE * size_of::<[T; BLOCK]>() + triangle(tiles) * pair
    }

    /// Adds to `sums`, a triangle of `rows + 1`, the products of the rows less their centre, and of the centre (the last row).
    ///
    /// The centre is the mean of those of the first `clients` rows that are not [`LOUD`], near enough: any centre gives the same
    /// distances.
    pub(crate) fn add(&mut self, rows: Rows<'_, T>, clients: usize, sums: &mut [f64]) {
        for unit in ranges(0..rows.len(), UNIT) {
            // A whole unit at a time, row by row: memory is read in long runs.
            self.measure(rows, unit.clone());
            if !T::can_multiply(self.sizes.iter().copied().fold(0.0, f64::max)) {
                add_widely(rows, clients, unit, sums);
                continue;
            }
            self.count_in(clients);
            self.wide.fill(Default::default());
            for stretch in ranges(unit, STRETCH) {
                self.narrow.fill(Default::default());
                for block in ranges(stretch, BLOCK) {
                    self.multiply(rows, block);
                }
                self.widen();
            }
            self.fold(rows.count() + 1, sums);
        }
    }

    /// Multiplies all rows of a block.
    fn multiply(&mut self, rows: Rows<'_, T>, block: Range<usize>) {
        let Self {
            counted,
            centred,
            narrow,
            ..
        } = self;
        vectorized(
            #[inline(always)]
            || centre(rows, counted, block.clone(), centred),
        );
        let (tiles, _) = centred.as_chunks::<TILE>();
        let mut pairs = narrow.iter_mut();
        for (at, left) in tiles.iter().enumerate() {
            for (right, sums) in tiles[..=at].iter().zip(&mut pairs) {
                T::multiply_tile(left, right, sums);
            }
        }
    }

    /// Finds the largest magnitude of each row.
    fn measure(&mut self, rows: Rows<'_, T>, unit: Range<usize>) {
        let sizes = &mut self.sizes;
        vectorized(
            #[inline(always)]
            || {
                sizes.clear();
                for row in rows.iter() {
                    sizes.push(T::of_key(largest(&row[unit.clone()])).widen());
                }
            },
        );
    }

    /// Finds which rows count in the centre: those that are not far larger than most.
    fn count_in(&mut self, clients: usize) {
        let Self {
            sizes,
            sorted,
            counted,
            ..
        } = self;
        sorted.clear();
        sorted.extend(&sizes[..clients]);
        let middle = clients / 2;
        sorted.select_nth_unstable_by(middle, f64::total_cmp);
        let limit = LOUD * sorted[middle];
        counted.clear();
        counted.extend((0..clients).filter(|&row| sizes[row] <= limit));
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
    const SIDE_BY_SIDE: usize = 64;
    let mut lanes = [T::Key::default(); SIDE_BY_SIDE];
    let (chunks, rest) = values.as_chunks::<SIDE_BY_SIDE>();
    for chunk in chunks {
        for lane in 0..SIDE_BY_SIDE {
            lanes[lane] = lanes[lane].max(chunk[lane].size_key());
        }
    }
    let rest = rest.iter().map(|value| value.size_key());
    lanes
        .into_iter()
        .chain(rest)
        .fold(T::Key::default(), Ord::max)
}

/// Puts a block of each row less the centre, and the centre after them, into `centred`: zeros behind the end of the rows.
#[inline(always)]
fn centre<T: Element>(
    rows: Rows<'_, T>,
    counted: &[usize],
    range: Range<usize>,
    centred: &mut [[T; BLOCK]],
) {
    let share = T::nearest(1.0 / count(counted.len()));
    let (of_rows, rest) = centred.split_at_mut(rows.count());
    rest.fill([T::default(); BLOCK]);
    for part in 0..BLOCK / PART {
        let start = range.start + part * PART;
        // Rows often lie in memory so that those of one coordinate push each other out of the cache: each is read once.
        for (copy, row) in of_rows.iter_mut().zip(rows.iter()) {
            *part_of(copy, part) = values(row, start..range.end);
        }
        let mut centre = [T::default(); PART];
        for &row in counted {
            let values = &*part_of(&mut of_rows[row], part);
            for at in 0..PART {
                centre[at] = centre[at] + values[at] * share;
            }
        }
        for row in &mut *of_rows {
            let values = part_of(row, part);
            for at in 0..PART {
                values[at] = values[at] - centre[at];
            }
        }
        *part_of(&mut rest[0], part) = centre;
    }
}

/// Some of a block.
#[inline(always)]
fn part_of<T>(block: &mut [T; BLOCK], part: usize) -> &mut [T; PART] {
    &mut block.as_chunks_mut().0[part]
}

/// The next values of a row, zeros behind its end.
#[inline(always)]
fn values<T: Element>(row: &[T], range: Range<usize>) -> [T; PART] {
    let rest = row.get(range).unwrap_or_default();
    if let Some(values) = rest.first_chunk() {
        return *values;
    }
    let mut values = [T::default(); PART];
    values[..rest.len()].copy_from_slice(rest);
    values
}

/// Adds products of two tiles of rows, lane by lane: the plain way, for any type.
pub(super) fn multiply_tile<T: Element>(
    left: &Tile<T>,
    right: &Tile<T>,
    sums: &mut TileProducts<T>,
) {
    for (left, sums) in left.iter().zip(sums) {
        for (right, sums) in right.iter().zip(sums) {
            let steps = left.as_chunks::<LANES>().0.iter();
            for (left, right) in steps.zip(right.as_chunks::<LANES>().0) {
                for lane in 0..LANES {
                    sums[lane] = sums[lane] + left[lane] * right[lane];
                }
            }
        }
    }
}

/// The same in registers: 16 sums of as many lanes as a register has, in as many passes as make up [`LANES`].
pub(super) struct MultiplyTile<'a> {
    pub(super) left: &'a Tile<f32>,
    pub(super) right: &'a Tile<f32>,
    pub(super) sums: &'a mut TileProducts<f32>,
}

impl WithSimd for MultiplyTile<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (left, right) = (registers::<S>(self.left), registers::<S>(self.right));
        let passes = LANES / S::F32_LANES;
        let steps = BLOCK / S::F32_LANES;
        for pass in 0..passes {
            let mut sums = [[simd.splat_f32s(0.0); TILE]; TILE];
            for (sum, all) in sums.iter_mut().flatten().zip(self.sums.as_flattened()) {
                *sum = S::as_simd_f32s(all).0[pass];
            }
            for step in (pass..steps).step_by(passes) {
                let right: [S::f32s; TILE] = std::array::from_fn(|row| right[row][step]);
                for (left, sums) in left.iter().zip(&mut sums) {
                    multiply_add(simd, left[step], right, sums);
                }
            }
            for (sum, all) in sums.iter().flatten().zip(self.sums.as_flattened_mut()) {
                S::as_mut_simd_f32s(all).0[pass] = *sum;
            }
        }
    }
}

/// The rows of a tile, register by register.
#[inline(always)]
fn registers<S: Simd>(tile: &Tile<f32>) -> [&[S::f32s]; TILE] {
    std::array::from_fn(
        #[inline(always)]
        |row| &S::as_simd_f32s(&tile[row]).0[..BLOCK / S::F32_LANES],
    )
}

/// Adds the product of one register with each of a tile; the product is rounded before it is added.
#[inline(always)]
fn multiply_add<S: Simd>(
    simd: S,
    left: S::f32s,
    right: [S::f32s; TILE],
    sums: &mut [S::f32s; TILE],
) {
    for (sum, right) in sums.iter_mut().zip(right) {
        *sum = simd.add_f32s(*sum, simd.mul_f32s(left, right));
    }
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
