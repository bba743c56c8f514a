//! Waits until an older model is the base again: a durable fact the shell makes in one transaction.
//!
//! No round is open meanwhile. Nothing interrupts this phase, because the fact may exist already: a wish to stop is kept
//! until it does.

use serde::{Deserialize, Serialize};

use crate::effect::{Effect, EndReason, Rollback};

/// The wait for the publication of an older model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RollingBack {
    pub(crate) rollback: Rollback,
    /// Why the federation is over afterwards, where it is.
    pub(crate) then: Option<EndReason>,
}

impl RollingBack {
    /// Asks for the publication, again after a restart.
    pub(crate) fn resume(&self, effects: &mut Vec<Effect>) {
        effects.push(Effect::RollBack(self.rollback.clone()));
    }
}
