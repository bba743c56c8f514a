//! Checkpoints on disk: safetensors, one file or a sharded directory.
//!
//! [`Checkpoint`] reads by position and never maps a file, so that a file that shrinks is an error and
//! not a crash; [`CheckpointWriter`] writes by position into a temporary file that becomes the
//! target at once or not at all, and [`ShardedWriter`] does so into as many files as it takes. All are shared by
//! threads without locks. Everything a file says is checked when it is opened: after that, positions are trusted.

mod header;
mod index;
mod json;
mod open;
mod read;
mod sharded;
mod stamp;
mod write;

pub use header::{HeaderLimits, InvalidCheckpoint, MAX_HEADER_BYTES, MAX_NAME_BYTES};
pub use read::{Checkpoint, Floats, ReadCheckpointError};
pub use sharded::{ShardedWriter, WrittenFile};
pub use write::{CheckpointWriter, WriteCheckpointError, WrittenCheckpoint};

#[cfg(test)]
mod attack_tests;
#[cfg(test)]
mod round_trip_tests;
