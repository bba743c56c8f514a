//! The evaluations of `round.proto`: what a client is asked to compare, and what it answers.
//!
//! A metric that is no number is a valid answer: what it counts for is decided by the round protocol.

use fedmerge_common::ids::RoundNumber;
use fedmerge_common::reason::Decline;
use fedmerge_common::units::Timestamp;
use fedmerge_common::update::ModelRef;

use crate::convert::round::{decline, round_number};
use crate::convert::transfer::MAX_METRIC_NAME_BYTES;
use crate::convert::{InvalidMessage, nested, required};
use crate::v1;
use crate::v1::report_evaluation_request::Outcome;

/// A candidate to be compared with its base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvaluationRequest {
    /// The round that produced the candidate.
    pub round: RoundNumber,
    /// The present base.
    pub base: ModelRef,
    /// The model that may become the next base.
    pub candidate: ModelRef,
    /// The metric to measure; 1 to [`MAX_METRIC_NAME_BYTES`] bytes.
    pub metric: String,
    /// When reports are no longer waited for, on the server's clock.
    pub deadline: Timestamp,
}

impl TryFrom<v1::Evaluation> for EvaluationRequest {
    type Error = InvalidMessage;

    fn try_from(message: v1::Evaluation) -> Result<Self, Self::Error> {
        let length = message.metric.len();
        if !(1..=MAX_METRIC_NAME_BYTES).contains(&length) {
            let problem = format!("has {length} bytes, expected 1 to {MAX_METRIC_NAME_BYTES}");
            return Err(InvalidMessage::new("metric", problem));
        }
        Ok(Self {
            round: round_number("round", message.round)?,
            base: nested("base", message.base)?,
            candidate: nested("candidate", message.candidate)?,
            metric: message.metric,
            deadline: Timestamp::new(message.deadline_ms),
        })
    }
}

impl From<EvaluationRequest> for v1::Evaluation {
    fn from(request: EvaluationRequest) -> Self {
        Self {
            round: request.round.get(),
            base: Some(request.base.into()),
            candidate: Some(request.candidate.into()),
            metric: request.metric,
            deadline_ms: request.deadline.get(),
        }
    }
}

/// A metric of a base and its candidate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// The metric of the base.
    pub before: f64,
    /// The metric of the candidate.
    pub after: f64,
    /// Examples it was measured on; 0 when the evaluator did not say.
    pub num_examples: u64,
}

/// What came of evaluating a candidate.
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluationReport {
    /// The round that produced the candidate.
    pub round: RoundNumber,
    /// The comparison, or why there is none.
    pub outcome: Result<Comparison, Decline>,
}

impl TryFrom<v1::ReportEvaluationRequest> for EvaluationReport {
    type Error = InvalidMessage;

    fn try_from(message: v1::ReportEvaluationRequest) -> Result<Self, Self::Error> {
        let outcome = match required("outcome", message.outcome)? {
            Outcome::Comparison(comparison) => Ok(Comparison {
                before: comparison.before,
                after: comparison.after,
                num_examples: comparison.num_examples,
            }),
            Outcome::Declined(declined) => {
                let decline = decline(declined.kind, &declined.detail);
                Err(decline.map_err(|invalid| invalid.within("declined"))?)
            }
        };
        Ok(Self {
            round: round_number("round", message.round)?,
            outcome,
        })
    }
}

impl From<EvaluationReport> for v1::ReportEvaluationRequest {
    fn from(report: EvaluationReport) -> Self {
        let outcome = match report.outcome {
            Ok(comparison) => Outcome::Comparison(v1::Comparison {
                before: comparison.before,
                after: comparison.after,
                num_examples: comparison.num_examples,
            }),
            Err(decline) => Outcome::Declined(v1::EvaluationDeclined {
                kind: v1::DeclineKind::from(decline.kind).into(),
                detail: decline.detail,
            }),
        };
        Self {
            round: report.round.get(),
            outcome: Some(outcome),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use fedmerge_common::digest::Digest;
    use fedmerge_common::ids::ModelVersion;
    use fedmerge_common::reason::DeclineKind;

    use super::*;
    use crate::convert::Spoiler;

    fn model(version: u64) -> ModelRef {
        ModelRef {
            version: ModelVersion::new(version),
            digest: Digest::of(&version.to_le_bytes()),
            size_bytes: 9,
        }
    }

    fn request() -> EvaluationRequest {
        EvaluationRequest {
            round: RoundNumber::new(2),
            base: model(1),
            candidate: model(2),
            metric: "accuracy".to_owned(),
            deadline: Timestamp::new(77),
        }
    }

    fn comparison() -> EvaluationReport {
        EvaluationReport {
            round: RoundNumber::new(2),
            outcome: Ok(Comparison {
                before: 0.5,
                after: 0.75,
                num_examples: 36,
            }),
        }
    }

    #[test]
    fn a_request_to_evaluate_round_trips() {
        let message = v1::Evaluation::from(request());
        assert_eq!(EvaluationRequest::try_from(message).unwrap(), request());
    }

    #[test]
    fn every_wrong_field_of_a_request_is_named() {
        let cases: [Spoiler<v1::Evaluation>; 5] = [
            ("round", |message| message.round = 0),
            ("base", |message| message.base = None),
            ("candidate.digest", |message| {
                message.candidate.as_mut().unwrap().digest = None;
            }),
            ("metric", |message| message.metric.clear()),
            ("metric", |message| {
                message.metric = "x".repeat(MAX_METRIC_NAME_BYTES + 1);
            }),
        ];
        for (field, spoil) in cases {
            let mut message = v1::Evaluation::from(request());
            spoil(&mut message);
            assert_eq!(
                EvaluationRequest::try_from(message).unwrap_err().field,
                field
            );
        }
    }

    #[test]
    fn a_comparison_and_a_decline_round_trip() {
        let decline = Decline::new(DeclineKind::EvaluatorFailed, "because");
        let declined = EvaluationReport {
            outcome: Err(decline),
            ..comparison()
        };
        for report in [comparison(), declined] {
            let message = v1::ReportEvaluationRequest::from(report.clone());
            assert_eq!(EvaluationReport::try_from(message).unwrap(), report);
        }
    }

    #[test]
    fn a_metric_that_is_no_number_arrives_as_such() {
        let mut message = v1::ReportEvaluationRequest::from(comparison());
        if let Some(Outcome::Comparison(comparison)) = &mut message.outcome {
            comparison.after = f64::NAN;
        }
        let report = EvaluationReport::try_from(message).unwrap();
        assert!(report.outcome.is_ok_and(|found| found.after.is_nan()));
    }

    #[test]
    fn every_wrong_field_of_a_report_is_named() {
        let declined = |kind| {
            let detail = String::new();
            Some(Outcome::Declined(v1::EvaluationDeclined { kind, detail }))
        };
        for (round, outcome, field) in [
            (2, None, "outcome"),
            (2, declined(0), "declined.kind"),
            (2, declined(99), "declined.kind"),
            (0, declined(7), "round"),
        ] {
            let message = v1::ReportEvaluationRequest { round, outcome };
            assert_eq!(
                EvaluationReport::try_from(message).unwrap_err().field,
                field
            );
        }
    }
}
