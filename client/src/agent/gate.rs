//! The gate before publishing, seen from a client: which model to measure next, and what to answer.
//!
//! Pure like the agent. Invariant: no model is measured twice: what is known of the last base and candidate is remembered by
//! digest, so that a candidate that became the base is known already.

use std::collections::BTreeMap;

use fedmerge_common::digest::Digest;
use fedmerge_common::ids::RoundNumber;
use fedmerge_common::reason::{Decline, DeclineKind};
use fedmerge_common::update::ModelRef;
use fedmerge_proto::convert::evaluation::{Comparison, EvaluationReport, EvaluationRequest};

use super::phase::Phase;
use super::{Agent, Effect, Told};
use crate::milestone::Milestone;
use crate::trainer::Measurement;

/// Whether the site has a command that measures models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evaluator {
    /// It has.
    Present,
    /// It has not: every request is declined.
    Absent,
}

/// What a request leads to.
#[derive(Debug, PartialEq)]
enum Next {
    /// A model that is not known yet is to be measured.
    Measure(ModelRef),
    /// All is known that the answer needs.
    Answer(Result<Comparison, Decline>),
}

/// What a client knows of models.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    evaluator: Evaluator,
    known: BTreeMap<Digest, Measurement>,
    /// The last round whose candidate was answered for: a request of it is an echo.
    answered: Option<RoundNumber>,
    /// Whether the user heard that there is no evaluator.
    told_absent: Told,
}

impl Gate {
    pub(super) fn new(evaluator: Evaluator) -> Self {
        Self {
            evaluator,
            known: BTreeMap::new(),
            answered: None,
            told_absent: Told::No,
        }
    }

    pub(super) fn has_answered(&self, request: &EvaluationRequest) -> bool {
        self.answered == Some(request.round)
    }

    /// Remembers a model of the request; models of other requests are forgotten.
    fn remember(&mut self, request: &EvaluationRequest, digest: Digest, measurement: Measurement) {
        self.known.insert(digest, measurement);
        let models = [request.base.digest, request.candidate.digest];
        self.known.retain(|digest, _| models.contains(digest));
    }

    /// The next step towards the answer to a request.
    fn next(&self, request: &EvaluationRequest) -> Next {
        if self.evaluator == Evaluator::Absent {
            let words = "this client evaluates no models: it was started without --evaluate";
            return Next::Answer(Err(Decline::new(DeclineKind::NoEvaluator, words)));
        }
        let (mut values, mut examples) = ([0.0; 2], None);
        for (model, value) in [request.base, request.candidate].iter().zip(&mut values) {
            let Some(measurement) = self.known.get(&model.digest) else {
                return Next::Measure(*model);
            };
            let Some(found) = measurement.metrics.get(&request.metric) else {
                return Next::Answer(Err(lacks(&request.metric, measurement)));
            };
            *value = *found;
            examples = measurement.num_examples;
        }
        let [before, after] = values;
        Next::Answer(Ok(Comparison {
            before,
            after,
            num_examples: examples.unwrap_or(0),
        }))
    }
}

impl Agent {
    /// Goes on with an evaluation: the next model, or the answer.
    pub(super) fn evaluate(&mut self, request: EvaluationRequest, effects: &mut Vec<Effect>) {
        match self.gate.next(&request) {
            Next::Measure(model) => {
                effects.push(Effect::Measure(request.clone(), model));
                self.phase = Phase::Evaluating(request);
            }
            Next::Answer(outcome) => {
                if let Ok(comparison) = &outcome {
                    let told = told_comparison(&request, comparison);
                    effects.push(Effect::Tell(told));
                }
                self.answer(request.round, outcome, effects);
            }
        }
    }

    pub(super) fn measured(
        &mut self,
        round: RoundNumber,
        digest: Digest,
        measurement: Measurement,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(request) = self.phase.evaluation(round).cloned() {
            self.gate.remember(&request, digest, measurement);
            self.evaluate(request, effects);
        }
    }

    pub(super) fn evaluation_failed(
        &mut self,
        round: RoundNumber,
        decline: Decline,
        effects: &mut Vec<Effect>,
    ) {
        if self.phase.evaluation(round).is_some() {
            self.answer(round, Err(decline), effects);
        }
    }

    /// Ends the evaluation in hand.
    pub(super) fn answer(
        &mut self,
        round: RoundNumber,
        outcome: Result<Comparison, Decline>,
        effects: &mut Vec<Effect>,
    ) {
        if let Err(decline) = &outcome {
            self.tell_evaluation_declined(round, decline, effects);
        }
        effects.push(Effect::Report(EvaluationReport { round, outcome }));
        self.gate.answered = Some(round);
        self.phase = Phase::Idle;
    }

    /// That a site evaluates nothing is no news in each round.
    fn tell_evaluation_declined(
        &mut self,
        round: RoundNumber,
        decline: &Decline,
        effects: &mut Vec<Effect>,
    ) {
        if decline.kind == DeclineKind::NoEvaluator {
            if self.gate.told_absent == Told::Yes {
                return;
            }
            self.gate.told_absent = Told::Yes;
        }
        effects.push(Effect::Tell(Milestone::EvaluationDeclined {
            round,
            decline: decline.clone(),
        }));
    }
}

fn told_comparison(request: &EvaluationRequest, comparison: &Comparison) -> Milestone {
    Milestone::Evaluated {
        round: request.round,
        candidate: request.candidate.version,
        metric: request.metric.clone(),
        before: comparison.before,
        after: comparison.after,
        num_examples: comparison.num_examples,
    }
}

fn lacks(metric: &str, measurement: &Measurement) -> Decline {
    let known: Vec<&str> = measurement.metrics.keys().map(String::as_str).collect();
    let instead = if known.is_empty() {
        "no metric at all: it prints {\"metrics\": {…}} on stdout".to_owned()
    } else {
        format!("only {}", known.join(", "))
    };
    let words = format!("the evaluator reported no `{metric}`, {instead}");
    Decline::new(DeclineKind::EvaluatorFailed, words)
}
