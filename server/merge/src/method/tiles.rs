//! Runs a rule over rows, a fixed number of coordinates at a time, which is what the compiler needs to use wide registers.

use crate::kernel::dispatch::vectorized;
use crate::kernel::{Element, Rows};

/// How many coordinates are worked on together: few enough that all clients' values of them stay near.
const TILE: usize = 64;

/// A rule that goes through the clients' values in their order.
pub(super) trait Streamed {
    /// Merges a tile; `#[inline(always)]`, with loops over all `LANES`.
    fn merge<T: Element, const LANES: usize>(&self, tile: Tile<'_, T>, out: &mut [f64; LANES]);
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
pub(super) fn run<T: Element>(rule: &impl Streamed, rows: Rows<'_, T>, out: &mut [f64]) {
    run_from(rule, rows, 0, out);
}

/// Runs a rule over the coordinates from `start` on: whole tiles, and the rest one by one.
pub(super) fn run_from<T: Element>(
    rule: &impl Streamed,
    rows: Rows<'_, T>,
    start: usize,
    out: &mut [f64],
) {
    vectorized(
        #[inline(always)]
        || {
            let (tiles, rest) = out.as_chunks_mut::<TILE>();
            let done = start + tiles.len() * TILE;
            for (tile, out) in tiles.iter_mut().enumerate() {
                rule.merge(
                    Tile {
                        rows,
                        start: start + tile * TILE,
                    },
                    out,
                );
            }
            for (at, out) in rest.as_chunks_mut::<1>().0.iter_mut().enumerate() {
                rule.merge(
                    Tile {
                        rows,
                        start: done + at,
                    },
                    out,
                );
            }
        },
    );
}
