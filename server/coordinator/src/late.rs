//! Tasks that outlive the round that gave them, where the plan lets late updates count.
//!
//! While no round collects they are here; the next round takes all of them over, and what was delivered meanwhile counts there, discounted
//! by its staleness. Invariant: a task is carried over only while its update would not be staler than the plan allows, and what was
//! accepted is carried until it counts, or the federation ends.

use std::collections::BTreeSet;
use std::mem;

use fedmerge_common::ids::{ClientId, RoundNumber};
use fedmerge_common::units::Timestamp;
use fedmerge_common::update::ModelRef;
use serde::{Deserialize, Serialize};

use crate::effect::{Effect, Task, WithdrawReason};
use crate::event::Event;
use crate::roll::{Frame, Origin, Roll, Standing};
use crate::round::OpenRound;
use crate::summary::ClientOutcome;

/// Tasks between two rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Late {
    #[serde(flatten)]
    pub(crate) roll: Roll,
    /// That of the round that carried them over.
    deadline: Timestamp,
}

impl Default for Late {
    fn default() -> Self {
        Self {
            roll: Roll::default(),
            deadline: Timestamp::new(0),
        }
    }
}

impl Late {
    /// Takes over the pending tasks of a round that collects no longer; those that would become too stale end.
    pub(crate) fn carry_pending(&mut self, round: &mut OpenRound, effects: &mut Vec<Effect>) {
        let (own, most) = (round.own(), round.plan.max_staleness);
        // The next base is one version later, if the round succeeds.
        let too_stale = |origin: Origin| origin.staleness(&own.base).saturating_add(1) > most;
        let origins = round.roll.origins.clone();
        round.withdraw(WithdrawReason::TooStale, effects, |client, _| {
            too_stale(origins.get(client).copied().unwrap_or(own))
        });
        self.carry(round, Standing::is_pending);
    }

    /// Takes over the accepted updates of a round that is abandoned for want of others.
    pub(crate) fn carry_accepted(&mut self, round: &mut OpenRound) {
        self.carry(round, |standing| {
            matches!(standing.outcome(), Some(ClientOutcome::Accepted { .. }))
        });
    }

    fn carry(&mut self, round: &mut OpenRound, which: impl Fn(&Standing) -> bool) {
        self.deadline = round.deadline;
        let own = round.own();
        for (client, standing) in &mut round.roll.clients {
            if !which(standing) {
                continue;
            }
            let carried = mem::replace(standing, Standing::Settled(ClientOutcome::CarriedOver));
            let origin = round.roll.origins.get(client).copied().unwrap_or(own);
            self.roll.clients.insert(client.clone(), carried);
            self.roll.origins.insert(client.clone(), origin);
        }
    }

    /// Ends the tasks that are staler than a plan allows that was changed meanwhile: their clients are free for new ones.
    pub(crate) fn end_stale(&mut self, base: &ModelRef, most: u64, effects: &mut Vec<Effect>) {
        let Some(frame) = self.frame(self.deadline) else {
            return;
        };
        let stale = self.roll.origins.iter().filter(|(client, origin)| {
            self.roll.is_pending(client) && origin.staleness(base) > most
        });
        let stale: BTreeSet<ClientId> = stale.map(|(client, _)| client.clone()).collect();
        self.roll
            .withdraw(frame.own, WithdrawReason::TooStale, effects, |client, _| {
                stale.contains(client)
            });
        for client in &stale {
            self.roll.clients.remove(client);
            self.roll.origins.remove(client);
        }
    }

    /// All of them, for the round that opens.
    pub(crate) fn hand_over(&mut self) -> Roll {
        mem::take(&mut self.roll)
    }

    /// Takes in what a client did about a task that is here.
    pub(crate) fn on(&mut self, event: &Event, now: Timestamp, effects: &mut Vec<Effect>) {
        if let Some(frame) = self.frame(now) {
            self.roll.on(event, &frame, effects);
        }
    }

    /// The task that a client holds here.
    pub(crate) fn task(&self, client: &ClientId) -> Option<Task> {
        let frame = self.frame(self.deadline)?;
        self.roll
            .is_pending(client)
            .then(|| self.roll.task(client, &frame))
    }

    /// How a client's task of that round stands, where it is here.
    pub(crate) fn standing(&self, client: &ClientId, round: RoundNumber) -> Option<&Standing> {
        let frame = self.frame(self.deadline)?;
        self.roll.standing(client, round, frame.own)
    }

    /// Ends all that is pending; what was accepted stays.
    pub(crate) fn end_pending(&mut self, reason: WithdrawReason, effects: &mut Vec<Effect>) {
        let Some(frame) = self.frame(self.deadline) else {
            return;
        };
        self.roll.withdraw(frame.own, reason, effects, |_, _| true);
        let is_accepted = |standing: &Standing| {
            matches!(standing.outcome(), Some(ClientOutcome::Accepted { .. }))
        };
        self.roll
            .clients
            .retain(|_, standing| is_accepted(standing));
        let accepted = &self.roll.clients;
        self.roll
            .origins
            .retain(|client, _| accepted.contains_key(client));
    }

    /// Gives up what was accepted; nothing is pending.
    pub(crate) fn give_up(&mut self) {
        self.roll = Roll::default();
    }

    /// Ends all that is pending.
    pub(crate) fn withdraw(&mut self, reason: WithdrawReason, effects: &mut Vec<Effect>) {
        if let Some(frame) = self.frame(self.deadline) {
            self.roll.withdraw(frame.own, reason, effects, |_, _| true);
        }
        self.roll = Roll::default();
    }

    /// The first round that a task here comes from.
    pub(crate) fn oldest(&self) -> Option<RoundNumber> {
        self.roll.origins.values().map(|origin| origin.round).min()
    }

    /// Every task here has an origin; which stands for those without does not matter.
    fn frame(&self, now: Timestamp) -> Option<Frame> {
        let own = *self.roll.origins.values().next()?;
        Some(Frame {
            own,
            deadline: self.deadline,
            now,
        })
    }
}
