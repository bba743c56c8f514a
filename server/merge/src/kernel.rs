//! Arithmetic on short runs of numbers, without any notion of tensors or clients' identity.
//!
//! Every function here gives the same bits for the same input on every machine: orders of summation are written out.

pub(crate) mod ahead;
pub(crate) mod dispatch;
mod dot;
mod element;
mod network;
pub(crate) mod products;
mod registers;
mod rows;
mod scan;
mod select;
mod sort;
mod target;

pub(crate) use dot::dot;
pub use element::ABSENT;
pub(crate) use element::Element;
pub(crate) use products::triangle;
pub(crate) use rows::{Rows, Source};
pub(crate) use scan::{first_non_finite, sum_of_squares};
pub(crate) use sort::{Ranks, Sorter, Trim};
pub(crate) use target::{Added, Model, Target};

/// How many coordinates are sorted together.
pub(crate) const WIDTH: usize = 64;
