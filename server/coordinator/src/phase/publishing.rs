//! Waits until the candidate is the base: a durable fact the shell makes in one transaction.
//!
//! Nothing interrupts this phase, because the fact may exist already when the wish to stop arrives:
//! the round ends first, then the federation; or then the rollback begins.

use fedmerge_common::reason::AbandonReason;
use fedmerge_common::update::ModelRef;
use serde::{Deserialize, Serialize};

use super::{Phase, Turn};
use crate::effect::Effect;
use crate::evaluation::Score;
use crate::event::Event;
use crate::rollback::Wish;
use crate::round::OpenRound;
use crate::summary::RoundOutcome;

/// The wait for the publication.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Publishing {
    pub(crate) round: OpenRound,
    pub(crate) candidate: ModelRef,
    /// How good it is, as far as clients measured it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) score: Option<Score>,
    /// Whether the federation is to end with this round.
    pub(crate) stop_requested: bool,
    /// The older model that is to be the base after this round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rollback: Option<Wish>,
}

impl Publishing {
    pub(super) fn start(
        round: OpenRound,
        candidate: ModelRef,
        score: Option<Score>,
        effects: &mut Vec<Effect>,
    ) -> Phase {
        let publishing = Self {
            round,
            candidate,
            score,
            stop_requested: false,
            rollback: None,
        };
        publishing.resume(effects);
        Phase::Publishing(publishing)
    }

    /// Asks for the publication, again after a restart.
    pub(crate) fn resume(&self, effects: &mut Vec<Effect>) {
        effects.push(Effect::Publish {
            round: self.round.number,
            candidate: self.candidate,
            score: self.score.clone(),
        });
    }

    pub(super) fn on(self, event: &Event) -> Turn {
        let ours = self.round.number;
        if let Event::ModelPublished { round, model } = event
            && *round == ours
        {
            return self.published(model);
        }
        if let Event::PublishFailed { round, detail } = event
            && *round == ours
        {
            let detail = detail.clone();
            return Turn::Close(
                self.round,
                RoundOutcome::Abandoned(AbandonReason::PublishFailed { detail }),
            );
        }
        Turn::Stay(Phase::Publishing(self))
    }

    fn published(self, model: &ModelRef) -> Turn {
        if *model == self.candidate {
            return Turn::Close(self.round, RoundOutcome::Published(self.candidate));
        }
        let detail = format!(
            "model {} was published, the candidate is {}",
            model.digest.short(),
            self.candidate.digest.short()
        );
        Turn::Close(
            self.round,
            RoundOutcome::Abandoned(AbandonReason::PublishFailed { detail }),
        )
    }
}
