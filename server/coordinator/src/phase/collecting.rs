//! Step of the straight line: at quorum, deadline or target, the accepted updates go to the merge.
//!
//! Each client with a task is waited for until the deadline, and longer while it shows progress: nobody who works is cut off for being
//! slow, but nobody holds a round for more than a second deadline. Where late updates count, the round does not wait beyond its quorum:
//! who is not done goes on with its task. Updates are accepted or rejected here and nowhere else; a decision is never taken back.

use std::collections::BTreeSet;

use fedmerge_common::ids::ClientId;
use fedmerge_common::units::Timestamp;
use serde::{Deserialize, Serialize};

use super::merging::Merging;
use super::{Phase, Surroundings, Turn};
use crate::cohort;
use crate::effect::{Effect, WithdrawReason};
use crate::event::Event;
use crate::plan::{Mode, RoundPlan};
use crate::roll::Standing;
use crate::round::OpenRound;
use crate::summary::RoundOutcome;

/// The wait for updates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Collecting {
    pub(crate) round: OpenRound,
}

/// Why a round collects no longer.
enum End {
    /// It has all the updates that it wants.
    Enough,
    /// Late updates count in the next round, so it does not wait for them.
    Early,
    /// It cannot become a merge.
    OutOfReach,
    /// Nobody is left to wait for.
    Done,
}

impl Collecting {
    pub(super) fn on(
        mut self,
        event: &Event,
        around: &Surroundings<'_>,
        effects: &mut Vec<Effect>,
    ) -> Turn {
        let frame = self.round.frame(around.now);
        self.round.roll.on(event, &frame, effects);
        Turn::Stay(Phase::Collecting(self))
    }

    pub(super) fn settle(
        mut self,
        around: &mut Surroundings<'_>,
        effects: &mut Vec<Effect>,
    ) -> Turn {
        self.expire(around.now, effects);
        self.recruit(around, effects);
        let Some(end) = self.end(around.now) else {
            return Turn::Stay(Phase::Collecting(self));
        };
        let quorum = self.round.plan.quorum;
        let has_quorum = self.round.tally().reaches(quorum);
        if self.carries() && has_quorum {
            around.late.carry_pending(&mut self.round, effects);
        }
        let reason = match end {
            End::Enough | End::Early | End::Done => WithdrawReason::EnoughUpdates,
            End::OutOfReach => WithdrawReason::QuorumOutOfReach,
        };
        self.round.withdraw(reason, effects, |_, _| true);
        self.round.collected = Some(around.now.max(self.round.opened));
        if has_quorum {
            return Turn::Go(Merging::start(self.round, effects));
        }
        let reason = self.round.tally().shortfall(quorum);
        if self.carries() {
            around.late.carry_accepted(&mut self.round);
        }
        Turn::Close(self.round, RoundOutcome::Abandoned(reason))
    }

    fn carries(&self) -> bool {
        self.round.plan.carries(self.round.number)
    }

    /// Whether it ends with its quorum now: who is not done goes on with its task.
    fn ends_early(&self, now: Timestamp) -> bool {
        let is_over =
            self.round.deadline <= now || self.absence_ends().is_some_and(|end| end <= now);
        self.carries() && is_over && self.round.tally().reaches(self.round.plan.quorum)
    }

    /// Whether the round collects no longer, and why.
    fn end(&self, now: Timestamp) -> Option<End> {
        let plan = &self.round.plan;
        let tally = self.round.tally();
        if tally.accepted >= plan.cohort.target.max(1) {
            Some(End::Enough)
        } else if self.ends_early(now) {
            Some(End::Early)
        } else if plan.mode == Mode::Buffered && now < self.round.deadline {
            // Somebody may come.
            None
        } else if !tally.can_reach(plan.quorum) {
            Some(End::OutOfReach)
        } else {
            (tally.pending == 0).then_some(End::Done)
        }
    }

    /// Ends the tasks that have been waited for long enough: the single ones first, because whoever is left may all be gone.
    fn expire(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        if self.ends_early(now) {
            return;
        }
        let (deadline, plan) = (self.round.deadline, self.round.plan.clone());
        self.round
            .withdraw(WithdrawReason::DeadlinePassed, effects, |_, standing| {
                patience(standing, deadline, &plan).is_some_and(|end| end <= now)
            });
        if self.absence_ends().is_some_and(|end| end <= now) {
            self.round
                .withdraw(WithdrawReason::Absent, effects, |_, _| true);
        }
    }

    /// Gives a buffered round's tasks to those who have none, as far as so many may be at work at once.
    fn recruit(&mut self, around: &Surroundings<'_>, effects: &mut Vec<Effect>) {
        let round = &mut self.round;
        if round.plan.mode != Mode::Buffered || round.deadline <= around.now {
            return;
        }
        let most = cohort::invitation_size(&round.plan.cohort, around.attending.len());
        // Whoever is gone may come back, but somebody else can be at work meanwhile.
        let is_there = |standing: &&Standing| {
            matches!(
                standing,
                Standing::Pending {
                    absent_since: None,
                    ..
                }
            )
        };
        let at_work = round.roll.clients.values().filter(is_there).count();
        let idle = around
            .attending
            .iter()
            .filter(|client| !round.roll.clients.contains_key(*client));
        let idle: BTreeSet<ClientId> = idle.cloned().collect();
        let chosen = cohort::choose(
            round.plan.seed,
            round.number,
            &idle,
            most.saturating_sub(at_work),
        );
        let frame = round.frame(around.now);
        for client in chosen {
            round.roll.invite(client, &frame, effects);
        }
    }

    /// When the round stops waiting because everyone it waits for is gone; none while one is there, or somebody else may come.
    fn absence_ends(&self) -> Option<Timestamp> {
        let since = match self.round.plan.mode {
            Mode::Synchronous => self.round.roll.all_gone_since(),
            Mode::Buffered => None,
        };
        since.map(|since| since + self.round.plan.grace)
    }

    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        let round = &self.round;
        let standings = round.roll.clients.values();
        let patience =
            standings.filter_map(|standing| patience(standing, round.deadline, &round.plan));
        let tally = round.tally();
        let ends_at_deadline =
            tally.pending == 0 || (self.carries() && tally.reaches(round.plan.quorum));
        let deadline = ends_at_deadline.then_some(round.deadline);
        patience.chain(self.absence_ends()).chain(deadline).min()
    }

    /// After a restart: everyone is gone for the moment, and gets the grace time to come back, even past the deadline.
    pub(crate) fn resume(&mut self, now: Timestamp) {
        self.round.deadline = self.round.deadline.max(now + self.round.plan.grace);
        self.round.roll.lose_all(now);
    }

    /// Until when the round may wait, at most.
    pub(crate) fn waits_until(&self) -> Timestamp {
        self.wake_at().unwrap_or(self.round.deadline)
    }
}

/// Until when one client is waited for: the deadline, or the grace time after its last progress where that is later, but not beyond
/// a second deadline after the first. None for a task that has ended.
fn patience(standing: &Standing, deadline: Timestamp, plan: &RoundPlan) -> Option<Timestamp> {
    match standing {
        Standing::Settled(_) => None,
        Standing::Pending { progress, .. } => Some(match progress {
            Some(at) => (*at + plan.grace).clamp(deadline, deadline + plan.deadline),
            None => deadline,
        }),
    }
}
