//! A round that is open: its invitations and how each stands.
//!
//! Invariant: a standing that is not `Pending` never changes again. The plan is a copy: a plan that changes while a round is open
//! takes effect at the next round.

use std::collections::BTreeMap;

use fedmerge_common::ids::{ClientId, RoundNumber};
use fedmerge_common::reason::Rejection;
use fedmerge_common::units::Timestamp;
use fedmerge_common::update::ModelRef;
use serde::{Deserialize, Serialize};

use crate::effect::{Effect, Task, WithdrawReason};
use crate::event::UpdateRef;
use crate::plan::RoundPlan;
use crate::quorum::Tally;
use crate::summary::{ClientOutcome, RoundOutcome, RoundSummary};

/// Where an invitation stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Standing {
    /// The client works on it, as far as we know.
    Pending {
        /// Its last sign of progress.
        progress: Option<Timestamp>,
        /// Since when it is gone; absent while it is connected.
        absent_since: Option<Timestamp>,
    },
    /// It is over.
    Settled(ClientOutcome),
}

/// A round between its first invitation and its end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct OpenRound {
    pub(crate) number: RoundNumber,
    pub(crate) base: ModelRef,
    pub(crate) plan: RoundPlan,
    pub(crate) opened: Timestamp,
    pub(crate) deadline: Timestamp,
    pub(crate) collected: Option<Timestamp>,
    pub(crate) clients: BTreeMap<ClientId, Standing>,
}

impl OpenRound {
    pub(crate) fn task(&self) -> Task {
        Task {
            round: self.number,
            base: self.base,
            deadline: self.deadline,
        }
    }

    pub(crate) fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for standing in self.clients.values() {
            *match standing {
                Standing::Pending { .. } => &mut tally.pending,
                Standing::Settled(ClientOutcome::Accepted { .. }) => &mut tally.accepted,
                Standing::Settled(ClientOutcome::Rejected(_)) => &mut tally.rejected,
                Standing::Settled(ClientOutcome::Declined(_)) => &mut tally.declined,
                Standing::Settled(ClientOutcome::Silent { .. }) => &mut tally.silent,
            } += 1;
        }
        tally
    }

    pub(crate) fn is_pending(&self, client: &ClientId) -> bool {
        matches!(self.clients.get(client), Some(Standing::Pending { .. }))
    }

    pub(crate) fn pending(&self) -> impl Iterator<Item = &ClientId> {
        self.clients.iter().filter_map(|(client, standing)| {
            matches!(standing, Standing::Pending { .. }).then_some(client)
        })
    }

    /// The accepted updates by client.
    pub(crate) fn updates(&self) -> BTreeMap<ClientId, UpdateRef> {
        let accepted = self.clients.iter().filter_map(|(client, standing)| {
            if let Standing::Settled(ClientOutcome::Accepted { update, .. }) = standing {
                Some((client.clone(), update.clone()))
            } else {
                None
            }
        });
        accepted.collect()
    }

    /// Ends a pending invitation; one that has ended stays as it is.
    pub(crate) fn settle(&mut self, client: &ClientId, outcome: ClientOutcome) {
        if let Some(standing @ Standing::Pending { .. }) = self.clients.get_mut(client) {
            *standing = Standing::Settled(outcome);
        }
    }

    /// Ends the pending invitations `which` picks, and tells the clients.
    pub(crate) fn withdraw(
        &mut self,
        reason: WithdrawReason,
        effects: &mut Vec<Effect>,
        which: impl Fn(&Standing) -> bool,
    ) {
        for (client, standing) in &mut self.clients {
            if matches!(standing, Standing::Pending { .. }) && which(standing) {
                *standing = Standing::Settled(ClientOutcome::Silent { reason });
                effects.push(Effect::Withdraw {
                    client: client.clone(),
                    round: self.number,
                    reason,
                });
            }
        }
    }

    /// The round's story; every invitation must have ended.
    pub(crate) fn summary(self, outcome: RoundOutcome, now: Timestamp) -> RoundSummary {
        let clients = self.clients.into_iter().map(|(client, standing)| {
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
            opened: self.opened,
            collected: self.collected,
            closed: now.max(self.opened),
        }
    }
}

/// What to answer to an update, given what became of its client's invitation; none while it is pending.
pub(crate) fn answer(
    round: RoundNumber,
    client: &ClientId,
    update: &UpdateRef,
    outcome: Option<&ClientOutcome>,
) -> Effect {
    let rejection = match outcome {
        Some(ClientOutcome::Accepted {
            update: counted, ..
        }) => {
            if counted.payload == update.payload {
                return Effect::AcceptUpdate {
                    client: client.clone(),
                    round,
                };
            }
            Rejection::duplicate(round)
        }
        Some(ClientOutcome::Rejected(rejection)) => rejection.clone(),
        Some(ClientOutcome::Declined(_) | ClientOutcome::Silent { .. }) => {
            Rejection::round_closed(round)
        }
        None => Rejection::not_invited(round),
    };
    Effect::RejectUpdate {
        client: client.clone(),
        round,
        rejection,
    }
}
