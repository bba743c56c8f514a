//! What both ends of a federation must agree on: names, units, digests, tensors, checkpoints,
//! task vectors, reasons, identities and the shape of TLS.
//!
//! Everything here is synchronous and deterministic: plain values, and files read and written by
//! position. It must never contain an async runtime, the wire, or a decision about a round.
//!
//! Read it in this order: [`ids`], [`units`], [`digest`], then [`schema`], [`checkpoint`] and
//! [`task_vector`], then [`update`], [`rollback`], [`endorsement`] and [`reason`], and last [`identity`], [`authority`], [`join`],
//! [`renewal`] and [`tls`].

pub mod authority;
pub mod checkpoint;
pub mod clock;
pub mod digest;
pub mod dtype;
pub mod endorsement;
pub mod failpoint;
pub mod failure;
pub mod hex;
pub mod identity;
pub mod ids;
pub mod join;
pub mod lock;
pub mod log_file;
pub mod output;
pub mod packing;
pub mod pieces;
pub mod proof;
pub mod reason;
pub mod renewal;
pub mod rollback;
pub mod schema;
pub mod task_vector;
pub mod tls;
pub mod units;
pub mod update;
