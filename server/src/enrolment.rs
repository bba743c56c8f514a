//! Enrolment: the certificate authority that admits clients, and the tokens that open its door.
//!
//! Keys and secrets are made here from the system's randomness and never logged. What was handed out is the
//! ledger's to remember, and who may enrol is not decided here.

pub mod authority;
mod random;
pub mod token;

pub use random::RandomError;
