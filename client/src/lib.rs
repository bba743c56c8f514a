//! The federation's client: trains on data that stays where it is, and submits what it learnt as a task vector.
//!
//! The client must never import the server or listen on a port.

pub mod trainer;
