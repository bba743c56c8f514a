//! Quantities with units: bytes, spans of time and moments.
//!
//! Arithmetic saturates: a hostile or absurd number becomes an absurd limit, never a panic.

mod byte_size;
mod millis;
mod timestamp;

pub use byte_size::{ByteSize, ParseByteSizeError};
pub use millis::{Millis, ParseMillisError};
pub use timestamp::Timestamp;
