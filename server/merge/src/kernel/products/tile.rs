//! Products of a few rows with a few others, over a block of values: the innermost loop of the Gram matrix.

use pulp::{Simd, WithSimd};

use crate::kernel::Element;
use crate::kernel::dispatch::chosen;

/// How many values of all rows are centred before they are multiplied.
pub(super) const BLOCK: usize = 256;

/// How many running sums a product has.
pub(super) const LANES: usize = 16;

/// How many rows are multiplied with how many others at a time.
pub(super) const TILE: usize = 4;

/// A block of a row, centred.
pub(crate) type Block<T> = [T; BLOCK];

/// A block of some rows.
pub(crate) type Tile<T> = [Block<T>; TILE];

/// Products of every row of one tile with every row of another, lane by lane.
pub(crate) type TileProducts<T> = [[[T; LANES]; TILE]; TILE];

/// Adds products of rows with those of a tile, or with one another, lane by lane: the plain way, for any type.
pub(crate) fn multiply_tile<T: Element>(
    left: &[Block<T>],
    right: Option<&Tile<T>>,
    sums: &mut TileProducts<T>,
) {
    let right = right.map_or(left, |tile| tile.as_slice());
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

/// The same in registers, of some of a tile's rows: so many sums of as many lanes as a register has, in as many passes as make up [`LANES`].
struct MultiplyTile<'a, const ROWS: usize> {
    left: &'a [Block<f32>; ROWS],
    right: &'a Tile<f32>,
    sums: &'a mut TileProducts<f32>,
}

impl<const ROWS: usize> WithSimd for MultiplyTile<'_, ROWS> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (left, right) = (registers::<S, _>(self.left), registers::<S, _>(self.right));
        each_pass::<S, ROWS>(simd, self.sums, |step, sums| {
            let right: [S::f32s; TILE] = std::array::from_fn(|row| right[row][step]);
            for (left, sums) in left.iter().zip(sums) {
                for (sum, right) in sums.iter_mut().zip(right) {
                    *sum = multiply_add(simd, left[step], right, *sum);
                }
            }
        });
    }
}

/// The products of a tile's rows with one another, each with those up to itself alone: nobody asks for the others.
struct MultiplyOwnTile<'a, const ROWS: usize> {
    tile: &'a [Block<f32>; ROWS],
    sums: &'a mut TileProducts<f32>,
}

impl<const ROWS: usize> WithSimd for MultiplyOwnTile<'_, ROWS> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let rows = registers::<S, _>(self.tile);
        each_pass::<S, ROWS>(simd, self.sums, |step, sums| {
            let rows: [S::f32s; ROWS] = std::array::from_fn(|row| rows[row][step]);
            for row in 0..ROWS {
                for column in 0..=row {
                    sums[row][column] =
                        multiply_add(simd, rows[row], rows[column], sums[row][column]);
                }
            }
        });
    }
}

/// [`multiply_tile`] for single precision.
pub(crate) fn multiply_f32_tile(
    left: &[Block<f32>],
    right: Option<&Tile<f32>>,
    sums: &mut TileProducts<f32>,
) {
    // Sums that nobody asks for are not taken: of a tile that is not full, and above the diagonal.
    if let Some(left) = left.first_chunk::<4>() {
        multiply_rows(left, right, sums);
    } else if let Some(left) = left.first_chunk::<3>() {
        multiply_rows(left, right, sums);
    } else if let Some(left) = left.first_chunk::<2>() {
        multiply_rows(left, right, sums);
    } else if let Some(left) = left.first_chunk::<1>() {
        multiply_rows(left, right, sums);
    }
}

fn multiply_rows<const ROWS: usize>(
    left: &[Block<f32>; ROWS],
    right: Option<&Tile<f32>>,
    sums: &mut TileProducts<f32>,
) {
    let arch = chosen();
    match right {
        Some(right) => arch.dispatch(MultiplyTile { left, right, sums }),
        None => arch.dispatch(MultiplyOwnTile { tile: left, sums }),
    }
}

/// Takes the sums into registers, some lanes at a time, and goes through the steps that belong to these.
#[inline(always)]
fn each_pass<S: Simd, const ROWS: usize>(
    simd: S,
    sums: &mut TileProducts<f32>,
    mut multiply: impl FnMut(usize, &mut [[S::f32s; TILE]; ROWS]),
) {
    let passes = LANES / S::F32_LANES;
    for pass in 0..passes {
        let mut registers = [[simd.splat_f32s(0.0); TILE]; ROWS];
        for (register, all) in registers.iter_mut().flatten().zip(sums.as_flattened()) {
            *register = S::as_simd_f32s(all).0[pass];
        }
        for step in (pass..BLOCK / S::F32_LANES).step_by(passes) {
            multiply(step, &mut registers);
        }
        for (register, all) in registers.iter().flatten().zip(sums.as_flattened_mut()) {
            S::as_mut_simd_f32s(all).0[pass] = *register;
        }
    }
}

/// Rows, register by register.
#[inline(always)]
fn registers<S: Simd, const ROWS: usize>(rows: &[Block<f32>; ROWS]) -> [&[S::f32s]; ROWS] {
    std::array::from_fn(
        #[inline(always)]
        |row| &S::as_simd_f32s(&rows[row]).0[..BLOCK / S::F32_LANES],
    )
}

/// The sum and a product that is rounded before it is added.
#[inline(always)]
fn multiply_add<S: Simd>(simd: S, left: S::f32s, right: S::f32s, sum: S::f32s) -> S::f32s {
    simd.add_f32s(sum, simd.mul_f32s(left, right))
}
