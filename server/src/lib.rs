//! The federation's server: the shell around two pure cores, the round protocol and the merge engine.
//!
//! It owns sockets, files, the clock and the ledger, and decides nothing about rounds. Follow a task vector: [`rpc`] takes
//! its bytes, [`uploads`] says which are wanted, [`intake`] judges them, [`driver`] brings them to the coordinator,
//! [`merging`] runs the engine, [`publish`] makes the result the base, and [`notice`] is what clients hear of it.

pub mod app;
pub mod audit;
pub mod cli;
pub mod closed_round;
pub mod compute;
pub mod console;
pub mod directory;
pub mod driver;
pub mod enrolment;
pub mod files;
pub mod intake;
pub mod keep;
pub mod listener;
pub mod merging;
pub mod notice;
pub mod offline;
pub mod open_files;
mod pace;
pub mod plan;
pub mod privacy;
pub mod publish;
pub mod refusals;
pub mod rollback;
pub mod rpc;
pub mod settings;
pub mod store;
pub mod telemetry;
pub mod template;
#[cfg(test)]
pub(crate) mod testbed;
pub mod traffic;
pub mod uploads;
