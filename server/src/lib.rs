//! The federation's server: the shell around two pure cores, the round protocol and the merge engine.
//!
//! It owns sockets, files, the clock and the ledger, and decides nothing about rounds.

pub mod directory;
pub mod plan;
pub mod settings;
pub mod template;
pub mod intake;
pub mod store;
pub mod enrolment;
pub mod listener;
pub mod rpc;
