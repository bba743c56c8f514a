//! The values of all clients for one run of coordinates, client by client.

use super::ahead::fetch_some;

/// How many values ahead are fetched: the time that memory takes to answer, and few enough to stay near until they are used.
const AHEAD: usize = 512;

/// Slices of equal length, one for each client; several may be the same memory.
#[derive(Debug)]
pub(crate) struct Rows<'a, T> {
    rows: &'a [&'a [T]],
    len: usize,
    source: Source<'a, T>,
}

/// What is read while rows are worked on: longer rows, of which they are a part, or from which they are made.
#[derive(Debug)]
pub(crate) struct Source<'a, T> {
    pub(crate) rows: &'a [&'a [T]],
    /// The place in them that belongs to the first coordinate.
    pub(crate) start: usize,
}

impl<T> Clone for Source<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Source<'_, T> {}

impl<T> Clone for Rows<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Rows<'_, T> {}

impl<'a, T> Rows<'a, T> {
    /// Rows of `len` values each.
    pub(crate) fn new(rows: &'a [&'a [T]], len: usize) -> Self {
        debug_assert!(
            rows.iter().all(|row| row.len() == len),
            "rows are of one length"
        );
        Self {
            rows,
            len,
            source: Source { rows, start: 0 },
        }
    }

    /// The same, made of others.
    pub(crate) fn made_of(self, source: Option<Source<'a, T>>) -> Self {
        Self {
            source: source.unwrap_or(self.source),
            ..self
        }
    }

    /// Has fetched what will be worked on somewhat after these coordinates.
    #[inline(always)]
    pub(crate) fn fetch_after(&self, at: usize, len: usize) {
        for row in self.source.rows {
            fetch_some(row, self.source.start + at + AHEAD, len);
        }
    }

    /// How many values each row has.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How many rows there are.
    pub(crate) fn count(&self) -> usize {
        self.rows.len()
    }

    /// The rows in the clients' order.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &'a [T]> + Clone + use<'a, T> {
        self.rows.iter().copied()
    }

    /// One client's row.
    pub(crate) fn row(&self, client: usize) -> &'a [T] {
        self.rows[client]
    }
}
