//! The round protocol as a pure state machine: how a federation goes from one base to the next.
//!
//! [`Coordinator::step`] takes an event (something that happened, with the time) and answers with effects (what the shell must do).
//! It owns every decision about rounds: when one opens, who is invited, when it closes, whether it counts.
//!
//! **Architecture Invariant:** no I/O, no clock, no randomness, no async, no logging: the same events give the same effects, always.
//! Effects are idempotent, and the state is a value ([`Record`]): the shell stores it before it performs the effects, and after a
//! crash [`Coordinator::restore`] and [`Coordinator::resume`] go on where it ended.

pub mod cohort;
pub mod coordinator;
pub mod effect;
pub mod evaluation;
pub mod event;
pub mod invariant;
mod late;
mod phase;
pub mod plan;
pub mod population;
pub mod quorum;
pub mod record;
mod roll;
mod rollback;
mod round;
pub mod summary;
pub mod view;

pub use coordinator::Coordinator;
pub use effect::{Counted, Effect, EndReason, EvaluationTask, Rollback, Task, WithdrawReason};
pub use evaluation::{EvaluationOutcome, EvaluationRule, Gain, GainSummary, Goal, Measure, Score};
pub use event::{Event, UpdateRef};
pub use plan::{Cohort, LatePolicy, Mode, PlanError, RoundPlan};
pub use population::Population;
pub use record::{Record, RestoreError};
pub use roll::Origin;
pub use summary::{ClientOutcome, RoundOutcome, RoundSummary};
pub use view::{Assignment, Briefing, Evaluation, View};
