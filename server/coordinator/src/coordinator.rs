//! The coordinator: takes one event at a time and says what to do.
//!
//! It owns the line of bases and the count of rounds; the phases own the rest. Invariants: a round that opened is closed exactly
//! once; a decision that was announced is never taken back; after a step nothing that is due is left undone, so the only wait is
//! for an event or for [`Coordinator::wake_at`].

use std::collections::BTreeSet;
use std::mem;

use fedmerge_common::ids::{ClientId, RoundNumber};
use fedmerge_common::reason::{AbandonReason, Rejection};
use fedmerge_common::units::Timestamp;
use fedmerge_common::update::ModelRef;

use crate::effect::{Effect, EndReason, WithdrawReason};
use crate::event::{Event, UpdateRef};
use crate::late::Late;
use crate::phase::gathering::Gathering;
use crate::phase::{Phase, Surroundings, Turn};
use crate::plan::RoundPlan;
use crate::record::{Record, RestoreError, State};
use crate::roll::answer;
use crate::rollback::Wish;
use crate::round::OpenRound;
use crate::summary::{ClientOutcome, RoundOutcome, RoundSummary};

/// The round protocol of one federation.
#[derive(Debug, Clone, PartialEq)]
pub struct Coordinator {
    pub(crate) plan: RoundPlan,
    pub(crate) state: State,
    /// Clients connected now: not recorded, because a restart cuts every connection.
    pub(crate) attending: BTreeSet<ClientId>,
}

impl Coordinator {
    /// A federation before its first round.
    pub fn new(plan: RoundPlan, base: ModelRef) -> Self {
        Self {
            plan,
            state: State {
                base,
                phase: Phase::Gathering(Gathering::default()),
                rounds_opened: 0,
                failures_in_a_row: 0,
                last_round: None,
                late: Late::default(),
            },
            attending: BTreeSet::new(),
        }
    }

    /// The federation as it was when `record` was taken, with nobody connected. Follow with [`Coordinator::resume`].
    ///
    /// A plan that differs from the one before takes effect at the next round. A federation that had ended with its last round
    /// goes on where the plan now has more of them, and one between rounds ends where it has no more: with it the tasks that would
    /// have counted in the next.
    ///
    /// # Errors
    /// When the record was written by a newer version of this program, or is damaged.
    pub fn restore(plan: RoundPlan, record: Record) -> Result<Self, RestoreError> {
        let mut state = record.into_state()?;
        let rounds = state.rounds_opened;
        let has_more = plan.has_more_after(rounds);
        if let Phase::Ended(EndReason::RoundsCompleted { .. } | EndReason::PrivacySpent { .. }) =
            state.phase
            && has_more
        {
            state.phase = Phase::Gathering(Gathering::default());
        } else if let Phase::Gathering(_) = state.phase
            && !has_more
        {
            state.phase = Phase::Ended(plan.end_after(rounds));
        } else if let Phase::Collecting(collecting) = &mut state.phase {
            // Which round is the last concerns the open one: nothing is carried beyond it.
            collecting.round.plan.rounds = plan.rounds;
            collecting.round.plan.private_rounds = plan.private_rounds;
        }
        Ok(Self {
            plan,
            state,
            attending: BTreeSet::new(),
        })
    }

    /// The state to store: before the effects of a step are performed.
    pub fn record(&self) -> Record {
        Record::of(self.state.clone())
    }

    /// After [`Coordinator::restore`]: what may have been left undone, to be done again.
    ///
    /// Invitations are repeated when their clients arrive. Whoever is waited for gets the grace time to come back.
    pub fn resume(&mut self, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Some(summary) = self.state.last_round.clone() {
            effects.push(self.close_effect(summary));
        }
        self.state.late.roll.lose_all(now);
        match &mut self.state.phase {
            Phase::Gathering(_) => {}
            Phase::Collecting(collecting) => collecting.resume(now),
            Phase::Merging(merging) => merging.resume(&mut effects),
            Phase::Evaluating(evaluating) => evaluating.resume(now, &mut effects),
            Phase::Publishing(publishing) => publishing.resume(&mut effects),
            Phase::RollingBack(rolling_back) => rolling_back.resume(&mut effects),
            Phase::Ended(reason) => {
                let reason = *reason;
                self.end(reason, &mut effects);
            }
        }
        self.settle(now, &mut effects);
        effects
    }

    /// Takes in what happened and answers with what to do, in order.
    pub fn step(&mut self, now: Timestamp, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.note_attendance(&event);
        if let Event::Stopped = event {
            self.stop(now, &mut effects);
        } else if let Event::RollbackAsked { to, reason, above } = event {
            self.ask_rollback(now, Wish { to, reason, above }, &mut effects);
        } else if let Event::RolledBack { model } = event {
            self.end_rollback(now, &model, Ok(()), &mut effects);
        } else if let Event::RollbackFailed { model, detail } = event {
            self.end_rollback(now, &model, Err(detail), &mut effects);
        } else {
            self.answer_latecomer(&event, &mut effects);
            self.state.late.on(&event, now, &mut effects);
            self.turn(now, &mut effects, |phase, around, effects| {
                phase.on(&event, around, effects)
            });
        }
        self.settle(now, &mut effects);
        effects
    }

    /// When to call [`Coordinator::step`] with [`Event::TimePassed`] if nothing else happens; none when nothing depends on time.
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.state.phase.wake_at(&self.plan)
    }

    /// Why the federation is over, once it is.
    pub fn ended(&self) -> Option<EndReason> {
        self.state.phase.ended()
    }

    /// The present base.
    pub fn base(&self) -> &ModelRef {
        &self.state.base
    }

    fn note_attendance(&mut self, event: &Event) {
        if let Event::ClientArrived { client } = event {
            self.attending.insert(client.clone());
        }
        if let Event::ClientLeft { client } = event {
            self.attending.remove(client);
        }
    }

    fn settle(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        while self.turn(now, effects, Phase::settle) {}
    }

    /// Lets the phase act once; true if another phase began.
    fn turn(
        &mut self,
        now: Timestamp,
        effects: &mut Vec<Effect>,
        act: impl FnOnce(Phase, &mut Surroundings<'_>, &mut Vec<Effect>) -> Turn,
    ) -> bool {
        let idle = Phase::Gathering(Gathering::default());
        let phase = mem::replace(&mut self.state.phase, idle);
        let was_open = phase.round().is_some();
        let (stopping, wish) = match &phase {
            Phase::Publishing(publishing) => {
                let ends = publishing.stop_requested.then_some(EndReason::Stopped);
                (ends, publishing.rollback.clone())
            }
            Phase::Gathering(_)
            | Phase::Collecting(_)
            | Phase::Merging(_)
            | Phase::Evaluating(_)
            | Phase::RollingBack(_)
            | Phase::Ended(_) => (None, None),
        };
        let mut around = Surroundings {
            now,
            plan: &self.plan,
            attending: &self.attending,
            base: &self.state.base,
            next_round: RoundNumber::new(self.state.rounds_opened.saturating_add(1)),
            late: &mut self.state.late,
        };
        match act(phase, &mut around, effects) {
            Turn::Stay(phase) => {
                self.state.phase = phase;
                false
            }
            Turn::Go(phase) => {
                if !was_open {
                    self.state.rounds_opened = self.state.rounds_opened.saturating_add(1);
                }
                self.state.phase = phase;
                true
            }
            Turn::Close(round, outcome) => {
                let number = round.number;
                self.close(round, outcome, now, effects);
                match (wish, stopping) {
                    (Some(wish), then) => self.begin_rollback(wish, then, effects),
                    (None, Some(reason)) => self.end(reason, effects),
                    (None, None) => self.go_on(number, now, effects),
                }
                true
            }
        }
    }

    /// Ends a round and tells its story.
    fn close(
        &mut self,
        round: OpenRound,
        outcome: RoundOutcome,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) {
        match &outcome {
            RoundOutcome::Published(model) => {
                self.state.base = *model;
                self.state.failures_in_a_row = 0;
            }
            RoundOutcome::Abandoned(_) => {
                self.state.failures_in_a_row = self.state.failures_in_a_row.saturating_add(1);
            }
        }
        let summary = round.summary(outcome, now);
        self.state.last_round = Some(summary.clone());
        effects.push(self.close_effect(summary));
    }

    fn close_effect(&self, summary: RoundSummary) -> Effect {
        let open = self.state.phase.round();
        let tasks =
            open.and_then(|round| round.roll.origins.values().map(|origin| origin.round).min());
        let needed = [
            self.state.late.oldest(),
            tasks,
            open.map(|round| round.number),
        ];
        let late = &self.state.late.roll;
        let origins = late.origins.values();
        let origins = origins.chain(open.into_iter().flat_map(|open| open.roll.origins.values()));
        let oldest_base = origins.map(|origin| origin.base.version).min();
        let base = self.state.base.version;
        Effect::CloseRound {
            oldest_base: oldest_base.unwrap_or(base).min(base),
            needed_from: needed
                .into_iter()
                .flatten()
                .min()
                .unwrap_or(summary.round.next()),
            summary,
        }
    }

    /// After round `number`: the next one, or the end.
    pub(crate) fn go_on(&mut self, number: RoundNumber, now: Timestamp, effects: &mut Vec<Effect>) {
        let rounds = number.get();
        if self.plan.has_more_after(rounds) {
            let gathering = Gathering::after(self.state.failures_in_a_row, now);
            self.state.phase = Phase::Gathering(gathering);
        } else {
            self.end(self.plan.end_after(rounds), effects);
        }
    }

    pub(crate) fn end(&mut self, reason: EndReason, effects: &mut Vec<Effect>) {
        let withdrawn = match reason {
            EndReason::RoundsCompleted { .. } | EndReason::PrivacySpent { .. } => {
                WithdrawReason::Ended
            }
            EndReason::Stopped => WithdrawReason::Stopped,
        };
        self.state.late.withdraw(withdrawn, effects);
        self.state.phase = Phase::Ended(reason);
        effects.push(self.end_effect(reason));
    }

    fn end_effect(&self, reason: EndReason) -> Effect {
        Effect::EndFederation {
            reason,
            last: self.state.base,
        }
    }

    /// Ends the federation: the round that is open is abandoned, but for one whose model may be a fact already.
    fn stop(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        match &mut self.state.phase {
            Phase::Publishing(publishing) => publishing.stop_requested = true,
            Phase::RollingBack(rolling_back) => rolling_back.then = Some(EndReason::Stopped),
            Phase::Ended(_) => {}
            Phase::Gathering(_)
            | Phase::Collecting(_)
            | Phase::Merging(_)
            | Phase::Evaluating(_) => {
                self.abandon_open(AbandonReason::Interrupted, now, effects);
                self.end(EndReason::Stopped, effects);
            }
        }
    }

    /// Abandons the round that is open, if one is; not to be called while its model may be a fact already.
    pub(crate) fn abandon_open(
        &mut self,
        reason: AbandonReason,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) {
        let idle = Phase::Gathering(Gathering::default());
        let mut round = match mem::replace(&mut self.state.phase, idle) {
            Phase::Collecting(collecting) => collecting.round,
            Phase::Merging(merging) => merging.round,
            Phase::Evaluating(evaluating) => evaluating.into_round(),
            other @ (Phase::Gathering(_)
            | Phase::Publishing(_)
            | Phase::RollingBack(_)
            | Phase::Ended(_)) => {
                self.state.phase = other;
                return;
            }
        };
        let withdrawn = match &reason {
            AbandonReason::RolledBack { .. } => WithdrawReason::RolledBack,
            AbandonReason::QuorumNotReached { .. }
            | AbandonReason::MergeFailed { .. }
            | AbandonReason::PublishFailed { .. }
            | AbandonReason::NotEvaluated { .. }
            | AbandonReason::Regression { .. }
            | AbandonReason::Interrupted => WithdrawReason::Stopped,
        };
        round.withdraw(withdrawn, effects, |_, _| true);
        self.close(round, RoundOutcome::Abandoned(reason), now, effects);
    }

    /// Answers an update that no roll will see: its task is over, or never was.
    fn answer_latecomer(&self, event: &Event, effects: &mut Vec<Effect>) {
        if let Event::UpdateValidated {
            client,
            round,
            update,
        } = event
            && !self.is_on_a_roll(client, *round)
        {
            effects.push(self.late_answer(client, *round, update));
        }
        if let Event::UpdateRejected {
            client,
            round,
            rejection,
        } = event
            && !self.is_on_a_roll(client, *round)
        {
            effects.push(Effect::RejectUpdate {
                client: client.clone(),
                round: *round,
                rejection: rejection.clone(),
            });
        }
    }

    /// Whether a roll that still takes updates has the client's task of that round.
    fn is_on_a_roll(&self, client: &ClientId, round: RoundNumber) -> bool {
        let collecting = match &self.state.phase {
            Phase::Collecting(collecting) => Some(&collecting.round),
            Phase::Gathering(_)
            | Phase::Merging(_)
            | Phase::Evaluating(_)
            | Phase::Publishing(_)
            | Phase::RollingBack(_)
            | Phase::Ended(_) => None,
        };
        let standing = collecting.and_then(|open| open.standing(client, round));
        standing.is_some() || self.state.late.standing(client, round).is_some()
    }

    /// An answer that was lost is given again; anything else is too late, or was never asked for.
    fn late_answer(&self, client: &ClientId, round: RoundNumber, update: &UpdateRef) -> Effect {
        if let Some(outcome) = self.outcome(client, round) {
            return answer(round, client, update, Some(outcome));
        }
        let is_collecting =
            matches!(&self.state.phase, Phase::Collecting(open) if open.round.number == round);
        let rejection = if is_collecting {
            Rejection::not_invited(round)
        } else {
            Rejection::round_closed(round)
        };
        Effect::RejectUpdate {
            client: client.clone(),
            round,
            rejection,
        }
    }

    /// What became of a client's task, as far as it is remembered: of the open round, and the last one.
    fn outcome(&self, client: &ClientId, round: RoundNumber) -> Option<&ClientOutcome> {
        let open = self.state.phase.round();
        if let Some(standing) = open.and_then(|open| open.standing(client, round)) {
            return standing.outcome();
        }
        self.state.last_round.as_ref()?.outcome(client, round)
    }
}
