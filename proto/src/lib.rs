//! The wire: `fedmerge.v1` over gRPC.
//!
//! [`v1`] is generated from `proto/fedmerge/v1/*.proto`, where every field is described with its
//! unit. [`convert`] turns messages into the types of `fedmerge-common` and back, [`status`] is the one
//! table of refusals, and [`limits`] what both ends agree to send at most.
//!
//! It must not contain logic, I/O or defaults.

pub mod convert;
pub mod limits;
pub mod status;
pub mod v1;
