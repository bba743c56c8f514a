//! Waits for the clients' verdict on the candidate: each compares it with the base on its own held-out data.
//!
//! Those whose updates count in the round are asked, whichever round gave their tasks; a verdict needs reports from as many as a
//! merge needs updates. Whoever declines is not waited for, and nobody is once too few can report. What each answered is kept in
//! the round's story.

use std::collections::{BTreeMap, BTreeSet};

use fedmerge_common::ids::ClientId;
use fedmerge_common::reason::AbandonReason;
use fedmerge_common::units::Timestamp;
use fedmerge_common::update::ModelRef;
use serde::{Deserialize, Serialize};

use super::publishing::Publishing;
use super::{Phase, Surroundings, Turn};
use crate::effect::{Effect, EvaluationTask};
use crate::evaluation::{EvaluationOutcome, EvaluationRule, Gain, Measure, Score};
use crate::event::Event;
use crate::round::OpenRound;
use crate::summary::RoundOutcome;

/// The wait for reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Evaluating {
    /// With the answers that came so far.
    pub(crate) round: OpenRound,
    pub(crate) candidate: ModelRef,
    pub(crate) rule: EvaluationRule,
    pub(crate) deadline: Timestamp,
    /// Clients without an answer, and since when each is gone.
    pub(crate) waiting: BTreeMap<ClientId, Option<Timestamp>>,
}

impl Evaluating {
    pub(super) fn start(
        round: OpenRound,
        candidate: ModelRef,
        rule: EvaluationRule,
        around: &Surroundings<'_>,
        effects: &mut Vec<Effect>,
    ) -> Self {
        let waiting = round.counted().into_keys().map(|client| {
            let gone = (!around.attending.contains(&client)).then_some(around.now);
            (client, gone)
        });
        let evaluating = Self {
            waiting: waiting.collect(),
            candidate,
            rule,
            deadline: around.now + round.plan.deadline,
            round,
        };
        let clients = evaluating.waiting.keys().cloned().collect();
        effects.push(evaluating.request(clients));
        evaluating
    }

    fn request(&self, clients: BTreeSet<ClientId>) -> Effect {
        let task = self.task();
        Effect::RequestEvaluations { task, clients }
    }

    pub(crate) fn task(&self) -> EvaluationTask {
        EvaluationTask {
            round: self.round.number,
            base: self.round.base,
            candidate: self.candidate,
            metric: self.rule.metric.clone(),
            deadline: self.deadline,
        }
    }

    /// After a restart: everyone is gone for the moment, and gets the grace time to come back, even past the deadline.
    pub(crate) fn resume(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        self.deadline = self.deadline.max(now + self.round.plan.grace);
        for absent_since in self.waiting.values_mut() {
            *absent_since = Some(now);
        }
        effects.push(self.request(self.waiting.keys().cloned().collect()));
    }

    pub(super) fn on(
        mut self,
        event: &Event,
        around: &Surroundings<'_>,
        effects: &mut Vec<Effect>,
    ) -> Turn {
        let ours = self.round.number;
        match event {
            Event::ClientArrived { client } => self.arrived(client, effects),
            Event::ClientLeft { client } => {
                if let Some(absent_since) = self.waiting.get_mut(client) {
                    absent_since.get_or_insert(around.now);
                }
            }
            Event::EvaluationReported {
                client,
                round,
                before,
                after,
                num_examples,
            } if *round == ours => {
                let outcome = EvaluationOutcome::Reported {
                    gain: self.rule.gain(*before, *after),
                    after: Measure(after.is_finite().then_some(*after)),
                    num_examples: *num_examples,
                };
                self.answered(client, outcome);
            }
            Event::EvaluationDeclined {
                client,
                round,
                decline,
            } if *round == ours => {
                self.answered(client, EvaluationOutcome::Declined(decline.clone()));
            }
            Event::EvaluationReported { .. }
            | Event::EvaluationDeclined { .. }
            | Event::ProgressReported { .. }
            | Event::UpdateValidated { .. }
            | Event::UpdateRejected { .. }
            | Event::ClientDeclined { .. }
            | Event::MergeFinished { .. }
            | Event::UpdatesLost { .. }
            | Event::MergeFailed { .. }
            | Event::ModelPublished { .. }
            | Event::PublishFailed { .. }
            | Event::RollbackAsked { .. }
            | Event::RolledBack { .. }
            | Event::RollbackFailed { .. }
            | Event::TimePassed
            | Event::Stopped => {}
        }
        Turn::Stay(Phase::Evaluating(self))
    }

    /// Asks a client again that came back, and counts its absence no longer.
    fn arrived(&mut self, client: &ClientId, effects: &mut Vec<Effect>) {
        if let Some(absent_since) = self.waiting.get_mut(client) {
            *absent_since = None;
            effects.push(self.request(BTreeSet::from([client.clone()])));
        }
    }

    /// Takes the first answer of each client that was asked.
    fn answered(&mut self, client: &ClientId, outcome: EvaluationOutcome) {
        if self.waiting.remove(client).is_some() {
            self.round.evaluations.insert(client.clone(), outcome);
        }
    }

    pub(super) fn settle(self, around: &mut Surroundings<'_>, effects: &mut Vec<Effect>) -> Turn {
        let waited = self.wake_at().is_some_and(|end| end <= around.now);
        let can_suffice = self.gains().len() + self.waiting.len() >= self.round.plan.quorum;
        if !self.waiting.is_empty() && can_suffice && !waited {
            return Turn::Stay(Phase::Evaluating(self));
        }
        let (candidate, verdict, score) = (self.candidate, self.verdict(), self.score());
        let round = self.into_round();
        match verdict {
            Ok(()) => Turn::Go(Publishing::start(round, candidate, Some(score), effects)),
            Err(reason) => Turn::Close(round, RoundOutcome::Abandoned(reason)),
        }
    }

    /// The round when its evaluation is over: whoever has not answered was silent.
    pub(crate) fn into_round(self) -> OpenRound {
        let mut round = self.round;
        let silent = self.waiting.into_keys();
        round
            .evaluations
            .extend(silent.map(|client| (client, EvaluationOutcome::Silent)));
        round
    }

    pub(crate) fn wake_at(&self) -> Option<Timestamp> {
        if self.waiting.is_empty() {
            return None;
        }
        let gone = self.waiting.values().copied().collect::<Option<Vec<_>>>();
        let absence_ends = gone
            .and_then(|moments| moments.into_iter().max())
            .map(|since| since + self.round.plan.grace);
        Some(absence_ends.map_or(self.deadline, |end| end.min(self.deadline)))
    }

    /// The gains that were reported.
    pub(crate) fn gains(&self) -> Vec<Gain> {
        let gains = self.round.evaluations.values();
        let gains = gains.filter_map(|outcome| match outcome {
            EvaluationOutcome::Reported { gain, .. } => Some(*gain),
            EvaluationOutcome::Declined(_) | EvaluationOutcome::Silent => None,
        });
        gains.collect()
    }

    /// How good the candidate is by the values that were reported.
    fn score(&self) -> Score {
        let values = self.round.evaluations.values();
        let values = values.filter_map(|outcome| match outcome {
            EvaluationOutcome::Reported { after, .. } => Some(*after),
            EvaluationOutcome::Declined(_) | EvaluationOutcome::Silent => None,
        });
        self.rule.score(values.collect())
    }

    /// Whether the candidate is good enough; if not, why.
    fn verdict(&self) -> Result<(), AbandonReason> {
        let gains = self.gains();
        let (reports, needed) = (gains.len(), self.round.plan.quorum);
        if reports < needed {
            return Err(AbandonReason::NotEvaluated {
                reports,
                needed,
                declined: self.round.evaluations.len() - reports,
                silent: self.waiting.len(),
            });
        }
        self.rule
            .judge(gains)
            .map_err(|detail| AbandonReason::Regression { detail })
    }
}
