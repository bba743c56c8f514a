//! The federation's client.
