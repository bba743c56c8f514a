//! The story of a round that is over: who took part, what became of it, why, and when.

use std::collections::BTreeMap;
use std::fmt;

use fedmerge_common::ids::{ClientId, RoundNumber};
use fedmerge_common::reason::{AbandonReason, Decline, Rejection};
use fedmerge_common::units::{Millis, Timestamp};
use fedmerge_common::update::ModelRef;
use serde::{Deserialize, Serialize};

use crate::effect::WithdrawReason;
use crate::evaluation::EvaluationOutcome;
use crate::event::UpdateRef;
use crate::roll::Origin;

/// What became of a round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoundOutcome {
    /// It produced this base.
    Published(ModelRef),
    /// The base stayed as it was.
    Abandoned(AbandonReason),
}

impl RoundOutcome {
    /// The new base, where there is one.
    pub fn published(&self) -> Option<&ModelRef> {
        match self {
            Self::Published(model) => Some(model),
            Self::Abandoned(_) => None,
        }
    }
}

impl fmt::Display for RoundOutcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Published(model) => write!(out, "published model {}", model.version),
            Self::Abandoned(reason) => write!(out, "abandoned: {reason}"),
        }
    }
}

/// What became of one client's invitation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientOutcome {
    /// Its update counted.
    Accepted {
        /// The update.
        update: UpdateRef,
        /// When it was accepted.
        at: Timestamp,
    },
    /// Its update did not count.
    Rejected(Rejection),
    /// It gave the invitation back.
    Declined(Decline),
    /// Nothing came from it, for this reason.
    Silent {
        /// Why its invitation ended.
        reason: WithdrawReason,
    },
    /// Its update was accepted, and then lost on the server's disk: the merge did without it.
    Lost {
        /// The update.
        update: UpdateRef,
        /// What was found in its place.
        detail: String,
    },
    /// Its task, or what it handed in, goes on in the next round.
    CarriedOver,
}

/// The story of a round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoundSummary {
    /// The round.
    pub round: RoundNumber,
    /// The base it started from.
    pub base: ModelRef,
    /// What became of it.
    pub outcome: RoundOutcome,
    /// Every invited client and what became of its invitation.
    pub clients: BTreeMap<ClientId, ClientOutcome>,
    /// Where the tasks come from that an earlier round gave.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub origins: BTreeMap<ClientId, Origin>,
    /// Every client that was asked to evaluate the candidate, and what came of it; none where the plan has no gate.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub evaluations: BTreeMap<ClientId, EvaluationOutcome>,
    /// When the invitations went out.
    pub opened: Timestamp,
    /// When updates were last accepted; absent when the round was stopped before.
    pub collected: Option<Timestamp>,
    /// When it was over.
    pub closed: Timestamp,
}

impl RoundSummary {
    /// Number of updates that counted.
    pub fn accepted(&self) -> usize {
        self.clients
            .values()
            .filter(|outcome| matches!(outcome, ClientOutcome::Accepted { .. }))
            .count()
    }

    /// Number of updates that were refused.
    pub fn rejected(&self) -> usize {
        self.clients
            .values()
            .filter(|outcome| matches!(outcome, ClientOutcome::Rejected(_)))
            .count()
    }

    /// What became of a client's task of `round`, which this round or an earlier one gave.
    pub fn outcome(&self, client: &ClientId, round: RoundNumber) -> Option<&ClientOutcome> {
        let origin = self.origins.get(client);
        let given = origin.map_or(self.round, |origin| origin.round);
        self.clients.get(client).filter(|_| given == round)
    }

    /// Time from the first invitation to the end.
    pub fn wall(&self) -> Millis {
        self.closed - self.opened
    }
}
