//! Inner products of all rows with one another, centred: what the Gram matrix is made of.
//!
//! Products are taken in the rows' own type within a stretch of [`STRETCH`] values, in [`LANES`] running sums that are folded in a fixed
//! tree, and in `f64` from stretch to stretch. Each row is centred first, so that what clients have in common does not take
//! the digits of what sets them apart. The centre leaves out rows that are far larger than most: a client that shouts must not take
//! the digits of the others' distances. The tile of rows that are multiplied together lives in registers.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::dispatch::vectorized;
use super::{Element, Rows};

/// How many values are summed in the rows' own type.
pub(crate) const STRETCH: usize = 1024;

/// How many running sums a product has.
const LANES: usize = 16;

/// How many times the median of the clients' largest magnitudes a row may reach and still count in the centre.
const LOUD: f64 = 8.0;

/// How many rows are multiplied with how many others at a time.
const TILE: usize = 4;

/// How many entries a triangle of so many rows has, the diagonal included.
pub(crate) const fn triangle(rows: usize) -> usize {
    rows * (rows + 1) / 2
}

/// The place of a pair in a triangle: the row, and a column that is not larger.
pub(crate) const fn place(row: usize, column: usize) -> usize {
    row * (row + 1) / 2 + column
}

/// How many values `add_products` needs as scratch for so many rows.
pub(crate) const fn scratch_len(rows: usize) -> usize {
    (rows + 1).next_multiple_of(TILE) * STRETCH
}

/// Adds to `sums`, a triangle of `rows + 1`, the products of the rows less their centre, and of the centre (the last row).
///
/// The centre is the mean of those of the first `clients` rows that are not [`LOUD`], near enough: any centre gives the same
/// distances.
pub(crate) fn add_products<T: Element>(
    rows: Rows<'_, T>,
    clients: usize,
    scratch: &mut [T],
    sums: &mut [f64],
) {
    let mut sizes = vec![T::Key::default(); rows.count()];
    for start in (0..rows.len()).step_by(STRETCH) {
        let end = rows.len().min(start + STRETCH);
        vectorized(
            #[inline(always)]
            || {
                for (size, row) in sizes.iter_mut().zip(rows.iter()) {
                    *size = largest(&row[start..end]);
                }
            },
        );
        let sizes: Vec<f64> = sizes.iter().map(|size| T::of_key(*size).widen()).collect();
        if !T::can_multiply(sizes.iter().copied().fold(0.0, f64::max)) {
            add_products_widely(rows, clients, start..end, sums);
            continue;
        }
        let counted = counted(&sizes[..clients]);
        vectorized(
            #[inline(always)]
            || centre(rows, &counted, start, scratch),
        );
        multiply(rows.count() + 1, scratch, sums);
    }
}

/// The same for a stretch whose squares are beyond what the rows' own type holds, in `f64`.
fn add_products_widely<T: Element>(
    rows: Rows<'_, T>,
    clients: usize,
    range: Range<usize>,
    sums: &mut [f64],
) {
    let wide: Vec<Vec<f64>> = rows
        .iter()
        .map(|row| {
            row[range.clone()]
                .iter()
                .map(|value| value.widen())
                .collect()
        })
        .collect();
    let slices: Vec<&[f64]> = wide.iter().map(Vec::as_slice).collect();
    let mut scratch = vec![0.0; scratch_len(rows.count())];
    add_products(Rows::new(&slices, range.len()), clients, &mut scratch, sums);
}

/// The largest magnitude, as a key.
#[inline(always)]
fn largest<T: Element>(values: &[T]) -> T::Key {
    let mut lanes = [T::Key::default(); LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = lanes[lane].max(chunk[lane].size_key());
        }
    }
    let rest = rest.iter().map(|value| value.size_key());
    lanes
        .into_iter()
        .chain(rest)
        .fold(T::Key::default(), Ord::max)
}

/// Which rows count in the centre: those that are not far larger than most.
fn counted(largest: &[f64]) -> Vec<usize> {
    let mut sorted = largest.to_vec();
    sorted.sort_by(f64::total_cmp);
    let limit = LOUD * sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
    (0..largest.len())
        .filter(|&row| largest[row] <= limit)
        .collect()
}

/// Packs the rows less their centre into `scratch`, and the centre after them: tile by tile, in each step [`LANES`] values of each of
/// its rows. Zeros fill up every stretch and every tile.
#[inline(always)]
fn centre<T: Element>(rows: Rows<'_, T>, counted: &[usize], start: usize, scratch: &mut [T]) {
    let share = T::nearest(1.0 / count(counted.len()));
    let mut centre = [T::default(); STRETCH];
    let mut room = [T::default(); STRETCH];
    let zeros = [T::default(); STRETCH];
    for &row in counted {
        let values = stretch(rows.row(row), start, &mut room);
        for at in 0..STRETCH {
            centre[at] = centre[at] + values[at] * share;
        }
    }
    let (tiles, _) = scratch.as_chunks_mut::<{ TILE * STRETCH }>();
    for row in 0..tiles.len() * TILE {
        let tile = &mut tiles[row / TILE];
        if row < rows.count() {
            pack(
                stretch(rows.row(row), start, &mut room),
                &centre,
                tile,
                row % TILE,
            );
        } else if row == rows.count() {
            pack(&centre, &zeros, tile, row % TILE);
        } else {
            pack(&zeros, &zeros, tile, row % TILE);
        }
    }
}

/// The next values of a row, filled up with zeros in `room` where there are fewer.
#[inline(always)]
fn stretch<'a, T: Element>(
    row: &'a [T],
    start: usize,
    room: &'a mut [T; STRETCH],
) -> &'a [T; STRETCH] {
    let rest = &row[start..];
    if let Some(values) = rest.first_chunk() {
        return values;
    }
    room.fill(T::default());
    room[..rest.len()].copy_from_slice(rest);
    room
}

/// In two loops: a long one that becomes vector instructions, and one that only moves.
#[inline(always)]
fn pack<T: Element>(
    values: &[T; STRETCH],
    centre: &[T; STRETCH],
    tile: &mut [T; TILE * STRETCH],
    row: usize,
) {
    let mut centred = [T::default(); STRETCH];
    for at in 0..STRETCH {
        centred[at] = values[at] - centre[at];
    }
    let (steps, _) = tile.as_chunks_mut::<{ TILE * LANES }>();
    for (step, lanes) in steps.iter_mut().zip(centred.as_chunks::<LANES>().0) {
        step[row * LANES..][..LANES].copy_from_slice(lanes);
    }
}

fn multiply<T: Element>(rows: usize, scratch: &[T], sums: &mut [f64]) {
    for first in (0..rows).step_by(TILE) {
        for second in (0..=first).step_by(TILE) {
            let tile = |row: usize| &scratch[row * STRETCH..][..TILE * STRETCH];
            let lanes = T::multiply_tile(tile(first), tile(second));
            for (row, products) in (first..rows).zip(&lanes) {
                for (column, lanes) in (second..=row).zip(products) {
                    sums[place(row, column)] += fold(lanes);
                }
            }
        }
    }
}

/// Products of every row of one packed tile with every row of another, lane by lane.
pub(crate) type TileProducts<T> = [[[T; LANES]; TILE]; TILE];

/// The plain way, for any type.
pub(super) fn multiply_tile<T: Element>(left: &[T], right: &[T]) -> TileProducts<T> {
    let mut sums = [[[T::default(); LANES]; TILE]; TILE];
    let steps = left
        .chunks_exact(TILE * LANES)
        .zip(right.chunks_exact(TILE * LANES));
    for (left, right) in steps {
        for (sums, left) in sums.iter_mut().zip(left.chunks_exact(LANES)) {
            for (sums, right) in sums.iter_mut().zip(right.chunks_exact(LANES)) {
                for ((sum, &left), &right) in sums.iter_mut().zip(left).zip(right) {
                    *sum = *sum + left * right;
                }
            }
        }
    }
    sums
}

/// The same in registers: 16 sums of as many lanes as a register has, in as many passes as make up [`LANES`].
pub(super) struct MultiplyTile<'a> {
    pub(super) left: &'a [f32],
    pub(super) right: &'a [f32],
}

impl WithSimd for MultiplyTile<'_> {
    type Output = TileProducts<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> TileProducts<f32> {
        let (left, _) = S::as_simd_f32s(self.left);
        let (right, _) = S::as_simd_f32s(self.right);
        let passes = LANES / S::F32_LANES;
        let mut out = [[[0.0; LANES]; TILE]; TILE];
        for pass in 0..passes {
            let mut sums = [[simd.splat_f32s(0.0); TILE]; TILE];
            let steps = left
                .chunks_exact(TILE * passes)
                .zip(right.chunks_exact(TILE * passes));
            for (left, right) in steps {
                let right: [S::f32s; TILE] = std::array::from_fn(|row| right[row * passes + pass]);
                for (row, sums) in sums.iter_mut().enumerate() {
                    multiply_add(simd, left[row * passes + pass], right, sums);
                }
            }
            for (out, sums) in out.iter_mut().flatten().zip(sums.iter().flatten()) {
                let lanes = bytemuck::bytes_of(sums);
                bytemuck::cast_slice_mut(&mut out[pass * S::F32_LANES..][..S::F32_LANES])
                    .copy_from_slice(lanes);
            }
        }
        out
    }
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
#[inline(always)]
fn fold<T: Element>(lanes: &[T; LANES]) -> f64 {
    let eight: [f64; 8] = std::array::from_fn(|lane| lanes[lane].widen() + lanes[lane + 8].widen());
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
            let mut scratch = vec![f32::NAN; scratch_len(rows.len())];
            let mut sums = vec![0.0; triangle(rows.len() + 1)];
            add_products(Rows::new(&slices, len), clients, &mut scratch, &mut sums);
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
        let mut scratch = vec![0.0; scratch_len(2)];
        let mut sums = vec![0.0; triangle(3)];
        add_products(Rows::new(&[&long, &near], len), 2, &mut scratch, &mut sums);
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
        let mut scratch = vec![0.0; scratch_len(5)];
        let mut sums = vec![0.0; triangle(6)];
        add_products(Rows::new(&slices, len), 5, &mut scratch, &mut sums);
        let exact: f64 = rows[0]
            .iter()
            .zip(&rows[4])
            .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2))
            .sum();
        let found = sums[place(0, 0)] + sums[place(4, 4)] - 2.0 * sums[place(4, 0)];
        assert!((found - exact).abs() <= 1e-6 * exact, "{found} {exact}");
    }
}
