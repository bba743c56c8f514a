//! The federation's server.
