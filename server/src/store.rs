//! What a server keeps on disk apart from models: the ledger, and uploads that are not complete.
//!
//! It stores and finds, and decides nothing about rounds. Whatever it has answered for survives a crash.

pub mod ledger;
pub mod staging;
