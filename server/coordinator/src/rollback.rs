//! An older model becomes the base again, because a person says so.
//!
//! What is under way is based on the model that is given up, so it ends: the open round is abandoned, tasks of earlier rounds end with it,
//! and what was accepted and not merged yet is given up once the older model is the base. A round whose model is about to be a fact goes first. Invariant: versions only rise: the older content gets the next
//! one, or one that is higher than any that clients know, where a backup has set the server back.

use fedmerge_common::ids::{ModelVersion, RoundNumber};
use fedmerge_common::reason::AbandonReason;
use fedmerge_common::units::Timestamp;
use fedmerge_common::update::ModelRef;
use serde::{Deserialize, Serialize};

use crate::coordinator::Coordinator;
use crate::effect::{Effect, EndReason, Rollback, WithdrawReason};
use crate::phase::Phase;
use crate::phase::rolling_back::RollingBack;

/// What a person asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wish {
    /// The older model.
    pub(crate) to: ModelRef,
    /// Why.
    pub(crate) reason: String,
    /// A version that the new one is to be higher than.
    pub(crate) above: ModelVersion,
}

impl Coordinator {
    /// Begins a rollback, or keeps the wish until the model of the open round is a fact, or refuses it.
    pub(crate) fn ask_rollback(&mut self, now: Timestamp, wish: Wish, effects: &mut Vec<Effect>) {
        let is_base = wish.to.digest == self.state.base.digest;
        if is_base && wish.above <= self.state.base.version {
            let base = self.state.base.version;
            return refuse(
                format!("model {base} is the base, and has that content"),
                effects,
            );
        }
        let then = match &mut self.state.phase {
            Phase::Publishing(publishing) => match &publishing.rollback {
                Some(first) => {
                    let detail = format!("a rollback to model {} is asked for", first.to.version);
                    return refuse(detail, effects);
                }
                None => {
                    publishing.rollback = Some(wish);
                    return;
                }
            },
            Phase::RollingBack(RollingBack { rollback, .. }) => {
                let detail = format!("a rollback to model {} is under way", rollback.of);
                return refuse(detail, effects);
            }
            Phase::Ended(reason) => Some(*reason),
            Phase::Gathering(_)
            | Phase::Collecting(_)
            | Phase::Merging(_)
            | Phase::Evaluating(_) => None,
        };
        let to = wish.to.version;
        self.abandon_open(AbandonReason::RolledBack { to }, now, effects);
        self.begin_rollback(wish, then, effects);
    }

    /// Asks for the publication of the older model; nothing is open any more.
    pub(crate) fn begin_rollback(
        &mut self,
        wish: Wish,
        then: Option<EndReason>,
        effects: &mut Vec<Effect>,
    ) {
        self.state
            .late
            .end_pending(WithdrawReason::RolledBack, effects);
        let rollback = Rollback {
            model: ModelRef {
                version: self.state.base.version.max(wish.above).next(),
                ..wish.to
            },
            of: wish.to.version,
            reason: wish.reason,
        };
        let rolling_back = RollingBack { rollback, then };
        rolling_back.resume(effects);
        self.state.phase = Phase::RollingBack(rolling_back);
    }

    /// The publication succeeded or failed: the federation goes on, or is over as it was before.
    pub(crate) fn end_rollback(
        &mut self,
        now: Timestamp,
        model: &ModelRef,
        outcome: Result<(), String>,
        effects: &mut Vec<Effect>,
    ) {
        let Phase::RollingBack(RollingBack { rollback, then }) = &self.state.phase else {
            return;
        };
        if rollback.model != *model {
            return;
        }
        let then = *then;
        if outcome.is_ok() {
            self.state.base = *model;
            self.state.failures_in_a_row = 0;
            self.state.late.give_up();
        }
        let outcome = outcome.map(|()| *model);
        effects.push(Effect::AnswerRollback { outcome });
        match then {
            Some(reason) => self.end(reason, effects),
            None => self.go_on(RoundNumber::new(self.state.rounds_opened), now, effects),
        }
    }
}

fn refuse(detail: String, effects: &mut Vec<Effect>) {
    effects.push(Effect::RefuseRollback { detail });
}
