//! A round that is open: its number, its base, its plan, and the roll of those who take part.
//!
//! The plan is a copy: a plan that changes while a round is open takes effect at the next round.

use std::collections::BTreeMap;

use fedmerge_common::ids::{ClientId, RoundNumber};
use fedmerge_common::units::Timestamp;
use fedmerge_common::update::ModelRef;
use serde::{Deserialize, Serialize};

use crate::effect::{Counted, Effect, WithdrawReason};
use crate::evaluation::EvaluationOutcome;
use crate::plan::RoundPlan;
use crate::quorum::Tally;
use crate::roll::{Frame, Origin, Roll, Standing};
use crate::summary::{ClientOutcome, RoundOutcome, RoundSummary};

/// A round between its first invitation and its end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct OpenRound {
    pub(crate) number: RoundNumber,
    pub(crate) base: ModelRef,
    pub(crate) plan: RoundPlan,
    pub(crate) opened: Timestamp,
    pub(crate) deadline: Timestamp,
    pub(crate) collected: Option<Timestamp>,
    #[serde(flatten)]
    pub(crate) roll: Roll,
    /// What came of asking clients to evaluate the candidate, so far.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) evaluations: BTreeMap<ClientId, EvaluationOutcome>,
}

impl OpenRound {
    /// Where the tasks come from that this round gave itself.
    pub(crate) fn own(&self) -> Origin {
        Origin {
            round: self.number,
            base: self.base,
        }
    }

    pub(crate) fn frame(&self, now: Timestamp) -> Frame {
        Frame {
            own: self.own(),
            deadline: self.deadline,
            now,
        }
    }

    pub(crate) fn tally(&self) -> Tally {
        self.roll.tally()
    }

    /// The accepted updates by client.
    pub(crate) fn counted(&self) -> BTreeMap<ClientId, Counted> {
        self.roll.counted(self.own())
    }

    /// Ends the pending tasks `which` picks, and tells the clients.
    pub(crate) fn withdraw(
        &mut self,
        reason: WithdrawReason,
        effects: &mut Vec<Effect>,
        which: impl Fn(&ClientId, &Standing) -> bool,
    ) {
        let own = self.own();
        self.roll.withdraw(own, reason, effects, which);
    }

    /// How a client's task of that round stands; none where it holds none here.
    pub(crate) fn standing(&self, client: &ClientId, round: RoundNumber) -> Option<&Standing> {
        self.roll.standing(client, round, self.own())
    }

    /// The round's story; every task must have ended.
    pub(crate) fn summary(self, outcome: RoundOutcome, now: Timestamp) -> RoundSummary {
        let clients = self.roll.clients.into_iter().map(|(client, standing)| {
            let outcome = match standing {
                Standing::Settled(outcome) => outcome,
                Standing::Pending { .. } => ClientOutcome::Silent {
                    reason: WithdrawReason::Stopped,
                },
            };
            (client, outcome)
        });
        RoundSummary {
            round: self.number,
            base: self.base,
            outcome,
            clients: clients.collect(),
            origins: self.roll.origins,
            evaluations: self.evaluations,
            opened: self.opened,
            collected: self.collected,
            closed: now.max(self.opened),
        }
    }
}
