//! Runs a rule over rows, a fixed number of coordinates at a time, which is what the compiler needs to use wide registers.

use crate::kernel::dispatch::vectorized;
use crate::kernel::{Element, Rows, Target};

/// How many coordinates are worked on together, by a rule that goes through the rows more than once: few enough that all clients' values of
/// them stay near.
const TILE: usize = 64;

/// The same for one that goes through them once, of [`FEW`] clients: few enough that their sums stay in registers.
const NARROW: usize = 32;

/// The same for more clients: of each row so many that the processor sees a stream.
const WIDE: usize = 128;

const FEW: usize = 64;

/// A rule that goes through the clients' values in their order.
pub(super) trait Streamed<T: Element> {
    /// Whether it looks at each value once.
    const IS_ONE_PASS: bool = false;

    /// Merges a tile; `#[inline(always)]`, with loops over all `LANES`.
    fn merge<const LANES: usize>(&self, tile: Tile<'_, T>, out: &mut [f64; LANES]);
}

/// The rows at some coordinates.
#[derive(Debug)]
pub(super) struct Tile<'a, T> {
    rows: Rows<'a, T>,
    start: usize,
}

impl<T> Clone for Tile<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Tile<'_, T> {}

impl<'a, T> Tile<'a, T> {
    /// The clients' values, in their order.
    #[inline(always)]
    pub(super) fn rows<const LANES: usize>(self) -> impl Iterator<Item = &'a [T; LANES]> {
        self.rows.iter().map(
            #[inline(always)]
            move |row| {
                row[self.start..]
                    .first_chunk()
                    .expect("a tile lies within its rows")
            },
        )
    }

    /// How many clients there are.
    #[inline(always)]
    pub(super) fn count(self) -> usize {
        self.rows.count()
    }
}

/// Runs a rule over all coordinates.
pub(super) fn run<T: Element>(rule: &impl Streamed<T>, rows: Rows<'_, T>, target: &mut Target<'_>) {
    run_from(rule, rows, 0, target);
}

/// Runs a rule over the coordinates from `start` on, for which the target is: whole tiles, and the rest one by one.
pub(super) fn run_from<T: Element, R: Streamed<T>>(
    rule: &R,
    rows: Rows<'_, T>,
    start: usize,
    target: &mut Target<'_>,
) {
    vectorized(
        #[inline(always)]
        || {
            if !R::IS_ONE_PASS {
                merge_all::<T, TILE>(rule, rows, start, target);
            } else if rows.count() <= FEW {
                merge_all::<T, NARROW>(rule, rows, start, target);
            } else {
                merge_all::<T, WIDE>(rule, rows, start, target);
            }
        },
    );
}

#[inline(always)]
fn merge_all<T: Element, const WIDTH: usize>(
    rule: &impl Streamed<T>,
    rows: Rows<'_, T>,
    start: usize,
    target: &mut Target<'_>,
) {
    let len = target.len();
    let whole = len - len % WIDTH;
    for at in (0..whole).step_by(WIDTH) {
        merge::<T, WIDTH>(rule, rows, start, at, target);
    }
    for at in whole..len {
        merge::<T, 1>(rule, rows, start, at, target);
    }
}

#[inline(always)]
fn merge<T: Element, const LANES: usize>(
    rule: &impl Streamed<T>,
    rows: Rows<'_, T>,
    start: usize,
    at: usize,
    target: &mut Target<'_>,
) {
    rows.fetch_after(start + at, LANES);
    let mut merged = [0.0; LANES];
    let tile = Tile {
        rows,
        start: start + at,
    };
    rule.merge(tile, &mut merged);
    target.put(at, &merged);
}
