//! The gate before publishing: the rule of the plan, what each asked client answered, and the verdict.
//!
//! A gain is positive where the candidate is better, whichever way the metric points. The rules bound a liar: neither the median
//! nor a trimmed mean of the gains leaves the range of the honest ones. A gain that is no number counts as the worst.

use std::fmt;
use std::num::ParseFloatError;

use fedmerge_common::reason::Decline;
use serde::{Deserialize, Serialize};

/// Rounding errors of a difference such as 0.89 − 0.9 must not cost a candidate that lost no more than it may.
const SLACK: f64 = 1e-9;

/// Decimals of a client's gain, for people.
const GAIN_DECIMALS: i32 = 4;
/// Decimals of the gain that was not enough: as many as show by how much.
const VERDICT_DECIMALS: i32 = 9;

/// When a candidate is good enough to be published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluationRule {
    /// The metric, by the name that the clients' evaluators give it.
    pub metric: String,
    /// Which way is better.
    pub goal: Goal,
    /// Least gain that is enough, in the unit of the metric; negative allows a small loss.
    pub min_gain: f64,
    /// How the gains of the clients become the one that must reach it.
    pub summary: GainSummary,
}

/// Which way a metric points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Goal {
    /// More is better, as of an accuracy.
    Max,
    /// Less is better, as of a loss.
    Min,
}

/// One gain out of those of many clients, each counted once.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GainSummary {
    /// The smallest gain that at least this share of all gains, 0 to 1, does not exceed; 0.5 is the (lower) median.
    Quantile(f64),
    /// The mean without the lowest and the highest.
    TrimmedMean {
        /// How many are left out at each end.
        tolerate: usize,
    },
}

impl fmt::Display for GainSummary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quantile(quantile) if (quantile - 0.5).abs() < SLACK => out.write_str("median"),
            Self::Quantile(quantile) => write!(out, "{quantile} quantile"),
            Self::TrimmedMean { tolerate } => {
                write!(
                    out,
                    "mean without the {tolerate} lowest and {tolerate} highest"
                )
            }
        }
    }
}

/// A client's gain; none where it was no number. Stored as text, because JSON's readers round numbers differently.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Gain(pub Option<f64>);

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

/// A metric's value; none where it was no number. Stored as text, like a gain.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Measure(pub Option<f64>);

impl From<Measure> for String {
    fn from(measure: Measure) -> Self {
        Gain(measure.0).into()
    }
}

impl TryFrom<String> for Measure {
    type Error = ParseFloatError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Gain::try_from(text).map(|gain| Self(gain.0))
    }
}

/// How good a model is, as the clients that evaluated it measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The metric.
    pub metric: String,
    /// Which way is better.
    pub goal: Goal,
    /// What the plan's rule makes of the clients' values.
    pub value: Measure,
}

impl fmt::Display for Gain {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(gain) => {
                let sign = if gain < 0.0 { "" } else { "+" };
                write!(out, "{sign}{}", shown(gain, GAIN_DECIMALS))
            }
            None => out.write_str("not a number"),
        }
    }
}

/// What came of asking one client to evaluate a candidate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvaluationOutcome {
    /// It measured the base and the candidate.
    Reported {
        /// By how much the candidate is better.
        gain: Gain,
        /// The metric of the candidate; none in a record that does not have it.
        #[serde(default)]
        after: Measure,
        /// Held-out examples, as the client declared them; 0 where it did not say.
        num_examples: u64,
    },
    /// It gave the request back.
    Declined(Decline),
    /// Nothing came from it while it was waited for.
    Silent,
}

impl EvaluationRule {
    /// By how much a candidate is better than its base, given the metric of both.
    pub(crate) fn gain(&self, before: f64, after: f64) -> Gain {
        let gain = match self.goal {
            Goal::Max => after - before,
            Goal::Min => before - after,
        };
        Gain(gain.is_finite().then_some(gain))
    }

    /// One value out of those that clients measured of one model, by the rule for gains: bounded as they are.
    pub(crate) fn score(&self, values: Vec<Measure>) -> Score {
        let sign = match self.goal {
            Goal::Max => 1.0,
            Goal::Min => -1.0,
        };
        let upwards = values.into_iter().map(|measure| Some(sign * measure.0?));
        let value = self.summarize(upwards.collect()).map(|value| sign * value);
        Score {
            metric: self.metric.clone(),
            goal: self.goal,
            value: Measure(value),
        }
    }

    fn summarize(&self, values: Vec<Option<f64>>) -> Option<f64> {
        match self.summary {
            GainSummary::Quantile(quantile) => quantile_of(values, quantile),
            GainSummary::TrimmedMean { tolerate } => trimmed_mean_of(values, tolerate),
        }
    }

    /// Whether these gains are enough; if not, the arithmetic.
    pub(crate) fn judge(&self, gains: Vec<Gain>) -> Result<(), String> {
        let (summary, min_gain) = (self.summary, self.min_gain);
        let plural = if gains.len() == 1 { "" } else { "s" };
        let subject = format!(
            "the {summary} of the gains in {} of {} client{plural}",
            self.metric,
            gains.len()
        );
        match self.summarize(gains.into_iter().map(|gain| gain.0).collect()) {
            Some(gain) if gain + SLACK >= min_gain => Ok(()),
            Some(gain) => Err(format!(
                "{subject} is {}, at least {} is needed",
                shown(gain, VERDICT_DECIMALS),
                shown(min_gain, VERDICT_DECIMALS)
            )),
            None => Err(format!("{subject} is not a number")),
        }
    }
}

/// A number as a sentence has it; what has more digits than so many is told by its power of ten.
fn shown(number: f64, decimals: i32) -> String {
    let size = number.abs();
    if size > 0.0 && !(10_f64.powi(-decimals)..1e9).contains(&size) {
        return format!("{number:.3e}");
    }
    let decimals = usize::try_from(decimals).unwrap_or_default();
    let digits = format!("{number:.decimals$}");
    let digits = match digits.split_once('.') {
        Some(_) => digits.trim_end_matches('0').trim_end_matches('.'),
        None => &digits,
    };
    digits.to_owned()
}

/// Gains from the worst to the best; one that is missing is the worst.
fn sorted(mut gains: Vec<Option<f64>>) -> Vec<Option<f64>> {
    gains.sort_by(|left, right| match (left, right) {
        (Some(left), Some(right)) => left.total_cmp(right),
        (left, right) => left.is_some().cmp(&right.is_some()),
    });
    gains
}

/// The smallest gain that at least the share `quantile` of all gains does not exceed.
fn quantile_of(gains: Vec<Option<f64>>, quantile: f64) -> Option<f64> {
    let gains = sorted(gains);
    let count = gains.len() as f64;
    let rank = (1..gains.len()).find(|rank| *rank as f64 >= quantile * count);
    let index = rank.unwrap_or(gains.len()).saturating_sub(1);
    gains.get(index).copied().flatten()
}

/// The mean of the gains that are neither among the `tolerate` lowest nor among the `tolerate` highest; none where none is left.
fn trimmed_mean_of(gains: Vec<Option<f64>>, tolerate: usize) -> Option<f64> {
    let gains = sorted(gains);
    let kept = gains.len().checked_sub(tolerate)?;
    let kept = gains.get(tolerate..kept)?;
    // One that is missing among these outnumbers the liars.
    let kept = kept.iter().copied().collect::<Option<Vec<f64>>>()?;
    let mean = kept.iter().sum::<f64>() / kept.len() as f64;
    mean.is_finite().then_some(mean)
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

    #[test]
    fn a_trimmed_mean_leaves_out_as_many_at_each_end_as_it_tolerates() {
        let gains = vec![Some(1.0), Some(-1e300), Some(2.0), Some(1e300), Some(6.0)];
        for (tolerate, expected) in [
            (1, Some(3.0)),
            (2, Some(2.0)),
            (3, None),
            (usize::MAX, None),
        ] {
            assert_eq!(
                trimmed_mean_of(gains.clone(), tolerate),
                expected,
                "{tolerate}"
            );
        }
        let one_missing = vec![Some(1.0), None, Some(2.0), Some(3.0)];
        assert_eq!(trimmed_mean_of(one_missing, 1), Some(1.5));
        let two_missing = vec![None, None, Some(2.0), Some(3.0)];
        assert_eq!(trimmed_mean_of(two_missing, 1), None);
        let beyond_all_numbers = vec![Some(f64::MAX), Some(f64::MAX)];
        assert_eq!(trimmed_mean_of(beyond_all_numbers, 0), None);
        assert_eq!(trimmed_mean_of(Vec::new(), 0), None);
    }

    #[test]
    fn what_a_rounding_error_takes_is_no_regression() {
        let rule = EvaluationRule {
            metric: "m".into(),
            goal: Goal::Max,
            min_gain: -0.01,
            summary: GainSummary::Quantile(0.5),
        };
        let gain = rule.gain(0.9, 0.89);
        assert!(gain.0.is_some_and(|gain| gain < -0.01));
        assert_eq!(rule.judge(vec![gain]), Ok(()));
        assert!(rule.judge(vec![rule.gain(0.9, 0.889_999)]).is_err());
    }

    #[test]
    fn a_gain_is_told_in_few_characters_whatever_was_claimed() {
        for (gain, told) in [
            (Some(0.0), "+0"),
            (Some(0.125), "+0.125"),
            (Some(-1.0 / 3.0), "-0.3333"),
            (Some(-1e300), "-1.000e300"),
            (Some(100.0), "+100"),
            (Some(1.0 / 30_000.0), "+3.333e-5"),
            (None, "not a number"),
        ] {
            assert_eq!(Gain(gain).to_string(), told);
        }
    }

    #[test]
    fn a_gain_is_positive_where_the_candidate_is_better_whichever_way_the_metric_points() {
        let rule = |goal| EvaluationRule {
            metric: "m".into(),
            goal,
            min_gain: 0.0,
            summary: GainSummary::Quantile(0.5),
        };
        assert_eq!(rule(Goal::Max).gain(0.5, 0.75), Gain(Some(0.25)));
        assert_eq!(rule(Goal::Min).gain(0.5, 0.75), Gain(Some(-0.25)));
        let score = |goal, values: &[Option<f64>]| {
            let values = values.iter().copied().map(Measure).collect();
            rule(goal).score(values).value.0
        };
        assert_eq!(score(Goal::Max, &[Some(0.9), None, Some(0.8)]), Some(0.8));
        assert_eq!(score(Goal::Min, &[Some(0.1), None, Some(0.2)]), Some(0.2));
        assert_eq!(score(Goal::Min, &[None, None, Some(0.2)]), None);
        assert_eq!(rule(Goal::Min).gain(f64::NAN, 0.75), Gain(None));
        assert_eq!(rule(Goal::Max).gain(-f64::MAX, f64::MAX), Gain(None));
    }
}
