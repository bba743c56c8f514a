//! The federation's client: enrols a machine, waits for invitations, runs the user's trainer on the base, and submits
//! what it learnt as a task vector.
//!
//! Read it along the straight line of a task vector: [`trainer`] obtains a fine-tuned checkpoint, [`submission`] turns it
//! into an update, [`transfer`] carries it, and [`agent`] decides what comes next. [`driver`] runs the agent's decisions
//! and keeps what is finished in the [`journal`]; [`residual`] keeps what encodings lost; [`lineage`] and [`trust`] keep it from being led backwards; [`link`] is the one place that connects and retries;
//! [`member`] is a client from taking its directory to leaving; [`doctor`] looks for what keeps it from that, and holds a [`rehearsal`];
//! `cli` is what a person types.
//!
//! The client must never import the server or listen on a port.

pub mod agent;
pub mod cache;
#[cfg(feature = "program")]
pub mod cli;
pub mod doctor;
pub mod driver;
pub mod enrolment;
pub mod journal;
pub mod lineage;
pub mod link;
pub mod member;
pub mod milestone;
pub mod policy;
pub mod rehearsal;
pub mod residual;
pub mod settings;
pub mod site_log;
pub mod submission;
pub mod task;
pub mod telemetry;
pub mod trainer;
pub mod transfer;
pub mod trust;

#[cfg(test)]
mod testbed;
