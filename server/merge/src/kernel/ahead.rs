//! Asks the processor for what will be read soon. It guesses well where one row is read from end to end, and badly where many are read
//! side by side, or where it is busy with arithmetic in between.

use std::mem::size_of;
use std::ops::Range;

use super::Rows;

/// A line of the cache, in bytes.
const LINE: usize = 64;

/// Has the line fetched in which the row's value is; nothing happens behind the row's end, nor on other processors than x86-64. A hint: it
/// changes the time alone.
#[inline(always)]
fn fetch<T>(row: &[T], at: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(value) = row.get(at) {
        safe_arch::prefetch_t1(value);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let (_, _) = (row, at);
}

/// The same for all lines of so many values.
#[inline(always)]
pub(crate) fn fetch_some<T>(row: &[T], start: usize, len: usize) {
    for at in (start..start + len).step_by(LINE / size_of::<T>()) {
        fetch(row, at);
    }
}

/// The lines of some coordinates of all rows, row by row.
#[derive(Debug)]
pub(crate) struct Ahead<'a, T> {
    rows: Rows<'a, T>,
    range: Range<usize>,
    row: usize,
    at: usize,
}

impl<'a, T> Ahead<'a, T> {
    /// Values of a line.
    const STEP: usize = LINE / size_of::<T>();

    /// Of these coordinates, which may reach behind the end.
    pub(crate) fn new(rows: Rows<'a, T>, range: Range<usize>) -> Self {
        let at = range.start;
        Self {
            rows,
            range,
            row: 0,
            at,
        }
    }

    /// How many lines there are.
    pub(crate) fn lines(&self) -> usize {
        self.rows.count() * self.range.len().div_ceil(Self::STEP)
    }

    /// Has the next lines fetched.
    #[inline(always)]
    pub(crate) fn fetch(&mut self, lines: usize) {
        for _ in 0..lines {
            if self.at >= self.range.end {
                (self.row, self.at) = (self.row + 1, self.range.start);
            }
            if self.row >= self.rows.count() {
                return;
            }
            fetch(self.rows.row(self.row), self.at);
            self.at += Self::STEP;
        }
    }
}
