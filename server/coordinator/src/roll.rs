//! Who holds a task, and how each task stands.
//!
//! A round has a roll; so have the tasks that outlive their round, until the next one takes them over. Invariants: a standing that is not
//! `Pending` changes once more only where an accepted update is lost; a client is on one roll at a time, with one task.

use std::collections::BTreeMap;

use fedmerge_common::ids::{ClientId, RoundNumber};
use fedmerge_common::reason::Rejection;
use fedmerge_common::units::Timestamp;
use fedmerge_common::update::ModelRef;
use serde::{Deserialize, Serialize};

use crate::effect::{Counted, Effect, Task, WithdrawReason};
use crate::event::{Event, UpdateRef};
use crate::quorum::Tally;
use crate::summary::ClientOutcome;

/// Where a task stands.
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

impl Standing {
    /// Just given to a client that is there.
    pub(crate) const NEW: Self = Self::Pending {
        progress: None,
        absent_since: None,
    };

    pub(crate) fn is_pending(&self) -> bool {
        matches!(self, Self::Pending { .. })
    }

    /// What became of it, once it is over.
    pub(crate) fn outcome(&self) -> Option<&ClientOutcome> {
        match self {
            Self::Settled(outcome) => Some(outcome),
            Self::Pending { .. } => None,
        }
    }
}

/// The round that gave a task, and the base that it starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The round.
    pub round: RoundNumber,
    /// The base.
    pub base: ModelRef,
}

impl Origin {
    /// How many versions later `base` is than the task's own.
    pub fn staleness(&self, base: &ModelRef) -> u64 {
        let (now, then) = (base.version.get(), self.base.version.get());
        now.saturating_sub(then)
    }
}

/// What the tasks of a roll have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    /// Of the tasks that no earlier round gave.
    pub(crate) own: Origin,
    /// When they end for clients that show no progress.
    pub(crate) deadline: Timestamp,
    pub(crate) now: Timestamp,
}

/// Clients and their tasks.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Roll {
    pub(crate) clients: BTreeMap<ClientId, Standing>,
    /// Of the tasks that an earlier round gave.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) origins: BTreeMap<ClientId, Origin>,
}

impl Roll {
    /// Where a client's task comes from; `own` where no earlier round gave it.
    pub(crate) fn origin(&self, client: &ClientId, own: Origin) -> Origin {
        self.origins.get(client).copied().unwrap_or(own)
    }

    /// A client's task.
    pub(crate) fn task(&self, client: &ClientId, frame: &Frame) -> Task {
        let Origin { round, base } = self.origin(client, frame.own);
        Task {
            round,
            base,
            deadline: frame.deadline,
        }
    }

    /// How a client's task of that round stands; none where it is not on the roll.
    pub(crate) fn standing(
        &self,
        client: &ClientId,
        round: RoundNumber,
        own: Origin,
    ) -> Option<&Standing> {
        let standing = self.clients.get(client)?;
        (self.origin(client, own).round == round).then_some(standing)
    }

    pub(crate) fn is_pending(&self, client: &ClientId) -> bool {
        self.clients.get(client).is_some_and(Standing::is_pending)
    }

    pub(crate) fn pending(&self) -> impl Iterator<Item = &ClientId> {
        let pending = self.clients.iter().filter(|(_, task)| task.is_pending());
        pending.map(|(client, _)| client)
    }

    pub(crate) fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for standing in self.clients.values() {
            *match standing {
                Standing::Pending { .. } => &mut tally.pending,
                Standing::Settled(ClientOutcome::Accepted { .. }) => &mut tally.accepted,
                Standing::Settled(ClientOutcome::Rejected(_)) => &mut tally.rejected,
                Standing::Settled(ClientOutcome::Declined(_)) => &mut tally.declined,
                Standing::Settled(
                    ClientOutcome::Silent { .. }
                    | ClientOutcome::CarriedOver
                    | ClientOutcome::Lost { .. },
                ) => &mut tally.silent,
            } += 1;
        }
        tally
    }

    /// The accepted updates by client, each with how many versions the base has gone on since it was begun.
    pub(crate) fn counted(&self, own: Origin) -> BTreeMap<ClientId, Counted> {
        let accepted = self.clients.iter().filter_map(|(client, standing)| {
            let Some(ClientOutcome::Accepted { update, .. }) = standing.outcome() else {
                return None;
            };
            let origin = self.origin(client, own);
            let counted = Counted {
                update: update.clone(),
                round: origin.round,
                staleness: origin.staleness(&own.base),
            };
            Some((client.clone(), counted))
        });
        accepted.collect()
    }

    /// Gives a client a new task.
    pub(crate) fn invite(&mut self, client: ClientId, frame: &Frame, effects: &mut Vec<Effect>) {
        self.clients.insert(client.clone(), Standing::NEW);
        let task = self.task(&client, frame);
        effects.push(Effect::Invite { client, task });
    }

    /// Ends a pending task; one that has ended stays as it is.
    pub(crate) fn settle(&mut self, client: &ClientId, outcome: ClientOutcome) {
        if let Some(standing) = self.clients.get_mut(client)
            && standing.is_pending()
        {
            *standing = Standing::Settled(outcome);
        }
    }

    /// Takes an update out that was accepted and is not there any more: the one thing that a standing becomes after it is settled.
    pub(crate) fn lose(&mut self, client: &ClientId, detail: &str) {
        if let Some(Standing::Settled(outcome)) = self.clients.get_mut(client)
            && let ClientOutcome::Accepted { update, .. } = outcome
        {
            *outcome = ClientOutcome::Lost {
                update: update.clone(),
                detail: detail.to_owned(),
            };
        }
    }

    /// Ends the pending tasks `which` picks, and tells the clients.
    pub(crate) fn withdraw(
        &mut self,
        own: Origin,
        reason: WithdrawReason,
        effects: &mut Vec<Effect>,
        which: impl Fn(&ClientId, &Standing) -> bool,
    ) {
        let picked = self
            .clients
            .iter()
            .filter(|(client, standing)| standing.is_pending() && which(client, standing));
        let picked: Vec<ClientId> = picked.map(|(client, _)| client.clone()).collect();
        for client in picked {
            let round = self.origin(&client, own).round;
            self.settle(&client, ClientOutcome::Silent { reason });
            effects.push(Effect::Withdraw {
                client,
                round,
                reason,
            });
        }
    }

    /// Takes in what a client did about its task; does nothing where the event is about another one.
    pub(crate) fn on(&mut self, event: &Event, frame: &Frame, effects: &mut Vec<Effect>) {
        let holds = |client: &ClientId, round: RoundNumber| {
            self.standing(client, round, frame.own).is_some()
        };
        match event {
            Event::ClientArrived { client } => self.arrived(client, frame, effects),
            Event::ClientLeft { client } => self.left(client, frame.now),
            Event::ProgressReported { client, round } if holds(client, *round) => {
                self.progressed(client, frame.now);
            }
            Event::UpdateValidated {
                client,
                round,
                update,
            } if holds(client, *round) => {
                effects.push(self.validated(client, *round, update, frame.now));
            }
            Event::UpdateRejected {
                client,
                round,
                rejection,
            } if holds(client, *round) => {
                self.settle(client, ClientOutcome::Rejected(rejection.clone()));
                effects.push(Effect::RejectUpdate {
                    client: client.clone(),
                    round: *round,
                    rejection: rejection.clone(),
                });
            }
            Event::ClientDeclined {
                client,
                round,
                decline,
            } if holds(client, *round) => {
                self.settle(client, ClientOutcome::Declined(decline.clone()));
            }
            Event::ProgressReported { .. }
            | Event::UpdateValidated { .. }
            | Event::UpdateRejected { .. }
            | Event::ClientDeclined { .. }
            | Event::MergeFinished { .. }
            | Event::UpdatesLost { .. }
            | Event::MergeFailed { .. }
            | Event::EvaluationReported { .. }
            | Event::EvaluationDeclined { .. }
            | Event::ModelPublished { .. }
            | Event::PublishFailed { .. }
            | Event::RollbackAsked { .. }
            | Event::RolledBack { .. }
            | Event::RollbackFailed { .. }
            | Event::TimePassed
            | Event::Stopped => {}
        }
    }

    /// Tells a client its task again that came back, and counts its absence no longer.
    fn arrived(&mut self, client: &ClientId, frame: &Frame, effects: &mut Vec<Effect>) {
        let task = self.task(client, frame);
        if let Some(Standing::Pending { absent_since, .. }) = self.clients.get_mut(client) {
            *absent_since = None;
            effects.push(Effect::Invite {
                client: client.clone(),
                task,
            });
        }
    }

    fn left(&mut self, client: &ClientId, now: Timestamp) {
        if let Some(Standing::Pending { absent_since, .. }) = self.clients.get_mut(client) {
            absent_since.get_or_insert(now);
        }
    }

    /// Progress is a sign of life, even while the client's stream is lost.
    fn progressed(&mut self, client: &ClientId, now: Timestamp) {
        if let Some(Standing::Pending {
            progress,
            absent_since,
        }) = self.clients.get_mut(client)
        {
            *progress = Some(now);
            if absent_since.is_some() {
                *absent_since = Some(now);
            }
        }
    }

    fn validated(
        &mut self,
        client: &ClientId,
        round: RoundNumber,
        update: &UpdateRef,
        now: Timestamp,
    ) -> Effect {
        if self.is_pending(client) {
            let update = update.clone();
            self.settle(client, ClientOutcome::Accepted { update, at: now });
            return Effect::AcceptUpdate {
                client: client.clone(),
                round,
            };
        }
        let outcome = self.clients.get(client).and_then(Standing::outcome);
        answer(round, client, update, outcome)
    }

    /// After a restart: everyone is gone for the moment.
    pub(crate) fn lose_all(&mut self, now: Timestamp) {
        for standing in self.clients.values_mut() {
            if let Standing::Pending { absent_since, .. } = standing {
                *absent_since = Some(now);
            }
        }
    }

    /// Since when nobody who holds a task is there; none while one is, or where nobody holds any.
    pub(crate) fn all_gone_since(&self) -> Option<Timestamp> {
        let mut last = None;
        for standing in self.clients.values() {
            if let Standing::Pending { absent_since, .. } = standing {
                last = last.max(Some((*absent_since)?));
            }
        }
        last
    }
}

/// What to answer to an update, given what became of its client's task; none while it has none.
pub(crate) fn answer(
    round: RoundNumber,
    client: &ClientId,
    update: &UpdateRef,
    outcome: Option<&ClientOutcome>,
) -> Effect {
    let rejection = match outcome {
        // What was decided is not taken back.
        Some(
            ClientOutcome::Accepted {
                update: counted, ..
            }
            | ClientOutcome::Lost {
                update: counted, ..
            },
        ) => {
            if counted.payload == update.payload {
                return Effect::AcceptUpdate {
                    client: client.clone(),
                    round,
                };
            }
            Rejection::duplicate(round)
        }
        Some(ClientOutcome::Rejected(rejection)) => rejection.clone(),
        Some(
            ClientOutcome::Declined(_) | ClientOutcome::Silent { .. } | ClientOutcome::CarriedOver,
        ) => Rejection::round_closed(round),
        None => Rejection::not_invited(round),
    };
    Effect::RejectUpdate {
        client: client.clone(),
        round,
        rejection,
    }
}
