//! The whole engine on small models: against the reference, against published vectors, by laws, and when things fail.

mod failures;
mod fixture;
mod golden;
mod invariance;
mod laws;
