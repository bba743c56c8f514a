//! The whole engine on small models: against a plain composition of its parts, against published vectors, by laws, when it is cut in other
//! ways, over a lineage of merges, and when things fail.

mod composed;
mod diagnostics;
mod failures;
mod fixture;
mod golden;
mod invariance;
mod lanes;
mod laws;
mod lineage;
mod sparse;
