//! Waits for the clients' verdict on the candidate: each compares it with the base on its own held-out data.
//!
//! The rule looks at a quantile of the gains, so one liar can neither veto nor wave through. A gain that is no number counts as
//! the worst. Those whose updates were accepted are asked; a verdict needs reports from as many as a merge needs updates.

use std::collections::{BTreeMap, BTreeSet};
use std::num::ParseFloatError;

use fedmerge_common::ids::ClientId;
use fedmerge_common::reason::AbandonReason;
use fedmerge_common::units::Timestamp;
use fedmerge_common::update::ModelRef;
use serde::{Deserialize, Serialize};

use super::publishing::Publishing;
use super::{Phase, Surroundings, Turn};
use crate::effect::{Effect, EvaluationTask};
use crate::event::Event;
use crate::plan::EvaluationRule;
use crate::round::OpenRound;
use crate::summary::RoundOutcome;

/// A client's gain; none where it was no number. Stored as text, because JSON's readers round numbers differently.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct Gain(pub(crate) Option<f64>);

impl From<Gain> for String {
    fn from(gain: Gain) -> Self {
        gain.0.map_or_else(Self::new, |gain| gain.to_string())
    }
}

impl TryFrom<String> for Gain {
    type Error = ParseFloatError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        text.parse().map(|gain| Self(Some(gain)))
    }
}

/// The wait for reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Evaluating {
    pub(crate) round: OpenRound,
    pub(crate) candidate: ModelRef,
    pub(crate) rule: EvaluationRule,
    pub(crate) deadline: Timestamp,
    /// Clients without a report, and since when each is gone.
    pub(crate) waiting: BTreeMap<ClientId, Option<Timestamp>>,
    /// Each client's gain, after − before; none where it was no number.
    pub(crate) gains: BTreeMap<ClientId, Gain>,
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
            gains: BTreeMap::new(),
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
        if let Event::ClientArrived { client } = event
            && let Some(absent_since) = self.waiting.get_mut(client)
        {
            *absent_since = None;
            effects.push(self.request(BTreeSet::from([client.clone()])));
        }
        if let Event::ClientLeft { client } = event
            && let Some(absent_since) = self.waiting.get_mut(client)
        {
            absent_since.get_or_insert(around.now);
        }
        if let Event::EvaluationReported {
            client,
            round,
            before,
            after,
        } = event
            && *round == ours
            && self.waiting.remove(client).is_some()
        {
            let gain = after - before;
            self.gains
                .insert(client.clone(), Gain(gain.is_finite().then_some(gain)));
        }
        Turn::Stay(Phase::Evaluating(self))
    }

    pub(super) fn settle(self, around: &mut Surroundings<'_>, effects: &mut Vec<Effect>) -> Turn {
        let waited = self.wake_at().is_some_and(|end| end <= around.now);
        if !self.waiting.is_empty() && !waited {
            return Turn::Stay(Phase::Evaluating(self));
        }
        match self.verdict() {
            Ok(()) => Turn::Go(Publishing::start(self.round, self.candidate, effects)),
            Err(detail) => Turn::Close(
                self.round,
                RoundOutcome::Abandoned(AbandonReason::Regression { detail }),
            ),
        }
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

    /// Whether the candidate is good enough; if not, the arithmetic.
    fn verdict(&self) -> Result<(), String> {
        let (reports, needed) = (self.gains.len(), self.round.plan.quorum);
        if reports < needed {
            return Err(format!(
                "{reports} of {} clients evaluated the candidate, {needed} are needed",
                reports + self.waiting.len()
            ));
        }
        let gains = self.gains.values().map(|gain| gain.0).collect();
        let EvaluationRule { min_gain, quantile } = self.rule;
        match quantile_of(gains, quantile) {
            Some(gain) if gain >= min_gain => Ok(()),
            Some(gain) => Err(format!(
                "the {quantile} quantile of {reports} clients' gains is {gain}, at least {min_gain} is needed"
            )),
            None => Err(format!(
                "the {quantile} quantile of {reports} clients' gains is not a number"
            )),
        }
    }
}

/// The smallest gain that at least the share `quantile` of all gains does not exceed; a missing gain is the worst.
fn quantile_of(mut gains: Vec<Option<f64>>, quantile: f64) -> Option<f64> {
    gains.sort_by(|left, right| match (left, right) {
        (Some(left), Some(right)) => left.total_cmp(right),
        (left, right) => left.is_some().cmp(&right.is_some()),
    });
    let count = gains.len() as f64;
    let rank = (1..gains.len()).find(|rank| *rank as f64 >= quantile * count);
    let index = rank.unwrap_or(gains.len()).saturating_sub(1);
    gains.get(index).copied().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quantile_is_the_nearest_rank_from_below_and_a_missing_gain_is_the_worst() {
        let gains = vec![Some(3.0), None, Some(1.0), Some(2.0)];
        for (quantile, expected) in [
            (0.0, None),
            (0.25, None),
            (0.5, Some(1.0)),
            (0.75, Some(2.0)),
            (1.0, Some(3.0)),
        ] {
            assert_eq!(quantile_of(gains.clone(), quantile), expected, "{quantile}");
        }
        assert_eq!(
            quantile_of(vec![Some(1.0), Some(2.0), Some(9.0)], 0.5),
            Some(2.0)
        );
        assert_eq!(quantile_of(Vec::new(), 0.5), None);
    }
}
