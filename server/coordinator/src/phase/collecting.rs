//! Step of the straight line: at quorum, deadline or target, the accepted updates go to the merge.
//!
//! Each invited client is waited for until the deadline, a little longer while it shows progress, and not longer than the grace
//! time once all who are missing are gone. Updates are accepted or rejected here and nowhere else; a decision is never taken back.

use fedmerge_common::ids::{ClientId, RoundNumber};
use fedmerge_common::reason::Rejection;
use fedmerge_common::units::Timestamp;
use serde::{Deserialize, Serialize};

use super::merging::Merging;
use super::{Phase, Surroundings, Turn};
use crate::effect::{Effect, WithdrawReason};
use crate::event::{Event, UpdateRef};
use crate::round::{OpenRound, Standing, answer};
use crate::summary::{ClientOutcome, RoundOutcome};

/// The wait for updates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Collecting {
    pub(crate) round: OpenRound,
}

impl Collecting {
    pub(super) fn on(
        mut self,
        event: &Event,
        around: &Surroundings<'_>,
        effects: &mut Vec<Effect>,
    ) -> Turn {
        let now = around.now;
        let ours = self.round.number;
        match event {
            Event::ClientArrived { client } => self.arrived(client, effects),
            Event::ClientLeft { client } => self.left(client, now),
            Event::ProgressReported { client, round } if *round == ours => {
                self.progressed(client, now);
            }
            Event::UpdateValidated {
                client,
                round,
                update,
            } if *round == ours => effects.push(self.validated(client, update, now)),
            Event::UpdateRejected {
                client,
                round,
                rejection,
            } if *round == ours => effects.push(self.rejected(client, rejection)),
            Event::ClientDeclined {
                client,
                round,
                decline,
            } if *round == ours => self
                .round
                .settle(client, ClientOutcome::Declined(decline.clone())),
            Event::ProgressReported { .. }
            | Event::UpdateValidated { .. }
            | Event::UpdateRejected { .. }
            | Event::ClientDeclined { .. }
            | Event::MergeFinished { .. }
            | Event::MergeFailed { .. }
            | Event::EvaluationReported { .. }
            | Event::ModelPublished { .. }
            | Event::PublishFailed { .. }
            | Event::TimePassed
            | Event::Stopped => {}
        }
        Turn::Stay(Phase::Collecting(self))
    }

    /// Invites a client again that came back, and counts its absence no longer.
    fn arrived(&mut self, client: &ClientId, effects: &mut Vec<Effect>) {
        let task = self.round.task();
        if let Some(Standing::Pending { absent_since, .. }) = self.round.clients.get_mut(client) {
            *absent_since = None;
            effects.push(Effect::Invite {
                client: client.clone(),
                task,
            });
        }
    }

    fn left(&mut self, client: &ClientId, now: Timestamp) {
        if let Some(Standing::Pending { absent_since, .. }) = self.round.clients.get_mut(client) {
            absent_since.get_or_insert(now);
        }
    }

    /// Progress is a sign of life, even while the client's stream is lost.
    fn progressed(&mut self, client: &ClientId, now: Timestamp) {
        if let Some(Standing::Pending {
            progress,
            absent_since,
        }) = self.round.clients.get_mut(client)
        {
            *progress = Some(now);
            if absent_since.is_some() {
                *absent_since = Some(now);
            }
        }
    }

    fn validated(&mut self, client: &ClientId, update: &UpdateRef, now: Timestamp) -> Effect {
        let round = self.round.number;
        match self.round.clients.get(client) {
            Some(Standing::Pending { .. }) => {
                let accepted = ClientOutcome::Accepted {
                    update: update.clone(),
                    at: now,
                };
                self.round.settle(client, accepted);
                Effect::AcceptUpdate {
                    client: client.clone(),
                    round,
                }
            }
            Some(Standing::Settled(outcome)) => answer(round, client, update, Some(outcome)),
            None => answer(round, client, update, None),
        }
    }

    fn rejected(&mut self, client: &ClientId, rejection: &Rejection) -> Effect {
        self.round
            .settle(client, ClientOutcome::Rejected(rejection.clone()));
        Effect::RejectUpdate {
            client: client.clone(),
            round: self.round.number,
            rejection: rejection.clone(),
        }
    }

    pub(super) fn settle(mut self, around: &Surroundings<'_>, effects: &mut Vec<Effect>) -> Turn {
        self.expire(around.now, effects);
        let quorum = self.round.plan.quorum;
        let tally = self.round.tally();
        let enough = tally.accepted >= self.round.plan.cohort.target.max(1);
        if enough {
            self.round
                .withdraw(WithdrawReason::EnoughUpdates, effects, |_| true);
        } else if !tally.can_reach(quorum) {
            self.round
                .withdraw(WithdrawReason::QuorumOutOfReach, effects, |_| true);
        } else if tally.pending > 0 {
            return Turn::Stay(Phase::Collecting(self));
        }
        self.round.collected = Some(around.now.max(self.round.opened));
        let tally = self.round.tally();
        if tally.reaches(quorum) {
            Turn::Go(Merging::start(self.round, effects))
        } else {
            let reason = tally.shortfall(quorum);
            Turn::Close(self.round, RoundOutcome::Abandoned(reason))
        }
    }

    /// Ends the invitations that have been waited for long enough: the single ones first, because whoever is left may all be gone.
    fn expire(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        let (deadline, grace) = (self.round.deadline, self.round.plan.grace);
        self.round
            .withdraw(WithdrawReason::DeadlinePassed, effects, |standing| {
                patience(standing, deadline, grace).is_some_and(|end| end <= now)
            });
        if self.absence_ends().is_some_and(|end| end <= now) {
            self.round
                .withdraw(WithdrawReason::Absent, effects, |_| true);
        }
    }

    /// When the round stops waiting because everyone it waits for is gone; none while one is there.
    fn absence_ends(&self) -> Option<Timestamp> {
        let mut last: Option<Timestamp> = None;
        for standing in self.round.clients.values() {
            if let Standing::Pending { absent_since, .. } = standing {
                last = last.max(Some((*absent_since)?));
            }
        }
        last.map(|since| since + self.round.plan.grace)
    }

    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        let (deadline, grace) = (self.round.deadline, self.round.plan.grace);
        let expiries = self
            .round
            .clients
            .values()
            .filter_map(|standing| patience(standing, deadline, grace));
        expiries.chain(self.absence_ends()).min()
    }

    /// After a restart: everyone is gone for the moment, and gets the grace time to come back, even past the deadline.
    pub(crate) fn resume(&mut self, now: Timestamp) {
        self.round.deadline = self.round.deadline.max(now + self.round.plan.grace);
        for standing in self.round.clients.values_mut() {
            if let Standing::Pending { absent_since, .. } = standing {
                *absent_since = Some(now);
            }
        }
    }

    /// Until when the round may wait, at most.
    pub(crate) fn waits_until(&self) -> Timestamp {
        self.wake_at().unwrap_or(self.round.deadline)
    }

    /// The round's number.
    pub(crate) fn number(&self) -> RoundNumber {
        self.round.number
    }
}

/// Until when one client is waited for: the deadline, or the grace time after its last progress where that is later,
/// but not beyond the grace time after the deadline. None for an invitation that has ended.
fn patience(
    standing: &Standing,
    deadline: Timestamp,
    grace: fedmerge_common::units::Millis,
) -> Option<Timestamp> {
    match standing {
        Standing::Settled(_) => None,
        Standing::Pending { progress, .. } => Some(match progress {
            Some(at) => (*at + grace).clamp(deadline, deadline + grace),
            None => deadline,
        }),
    }
}
