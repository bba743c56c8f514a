//! Waits for the merge of the accepted updates, which the shell performs.
//!
//! Where updates turn out to be lost, the others are merged if they are enough. A merge is repeated after a restart: the same updates give the same bytes. The candidate must carry the version after the
//! base's, so that there is one base per version whatever happens.

use std::collections::BTreeMap;

use fedmerge_common::ids::ClientId;
use fedmerge_common::reason::AbandonReason;
use fedmerge_common::update::ModelRef;
use serde::{Deserialize, Serialize};

use super::evaluating::Evaluating;
use super::publishing::Publishing;
use super::{Phase, Surroundings, Turn};
use crate::effect::Effect;
use crate::event::Event;
use crate::round::OpenRound;
use crate::summary::RoundOutcome;

/// The wait for the merge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Merging {
    pub(crate) round: OpenRound,
}

impl Merging {
    pub(super) fn start(round: OpenRound, effects: &mut Vec<Effect>) -> Phase {
        let merging = Self { round };
        merging.resume(effects);
        Phase::Merging(merging)
    }

    /// Starts the merge, again after a restart.
    pub(crate) fn resume(&self, effects: &mut Vec<Effect>) {
        effects.push(Effect::StartMerge {
            round: self.round.number,
            base: self.round.base,
            updates: self.round.counted(),
        });
    }

    pub(super) fn on(
        self,
        event: &Event,
        around: &Surroundings<'_>,
        effects: &mut Vec<Effect>,
    ) -> Turn {
        let ours = self.round.number;
        if let Event::MergeFinished { round, candidate } = event
            && *round == ours
        {
            return self.finished(*candidate, around, effects);
        }
        if let Event::UpdatesLost { round, lost } = event
            && *round == ours
        {
            return self.lost(lost, effects);
        }
        if let Event::MergeFailed { round, detail } = event
            && *round == ours
        {
            return self.failed(detail.clone());
        }
        Turn::Stay(Phase::Merging(self))
    }

    /// Goes on without what is lost, where the quorum still holds.
    fn lost(mut self, lost: &BTreeMap<ClientId, String>, effects: &mut Vec<Effect>) -> Turn {
        for (client, detail) in lost {
            self.round.roll.lose(client, detail);
        }
        let (tally, quorum) = (self.round.tally(), self.round.plan.quorum);
        if tally.reaches(quorum) {
            self.resume(effects);
            return Turn::Stay(Phase::Merging(self));
        }
        let reason = tally.shortfall(quorum);
        Turn::Close(self.round, RoundOutcome::Abandoned(reason))
    }

    fn finished(
        self,
        candidate: ModelRef,
        around: &Surroundings<'_>,
        effects: &mut Vec<Effect>,
    ) -> Turn {
        let expected = self.round.base.version.next();
        if candidate.version != expected {
            return self.failed(format!(
                "the merge made version {}, expected {expected}",
                candidate.version
            ));
        }
        Turn::Go(match self.round.plan.evaluate.clone() {
            Some(rule) => Phase::Evaluating(Evaluating::start(
                self.round, candidate, rule, around, effects,
            )),
            None => Publishing::start(self.round, candidate, None, effects),
        })
    }

    fn failed(self, detail: String) -> Turn {
        Turn::Close(
            self.round,
            RoundOutcome::Abandoned(AbandonReason::MergeFailed { detail }),
        )
    }
}
