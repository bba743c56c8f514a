//! The values of all clients for one run of coordinates, client by client.

/// Slices of equal length, one for each client; several may be the same memory.
#[derive(Debug)]
pub(crate) struct Rows<'a, T> {
    rows: &'a [&'a [T]],
    len: usize,
}

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
        Self { rows, len }
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
