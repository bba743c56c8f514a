//! Enrolment: the certificate authority that admits clients, the tokens that open its door, and the way out.
//!
//! Keys and secrets are made here from the system's randomness and never logged. What was handed out is the
//! ledger's to remember, and who may enrol is not decided here.

pub mod authority;
pub mod eviction;
pub mod keeper;
mod random;
pub mod site;
pub mod token;

pub use random::RandomError;
pub(crate) use random::random_bytes;
