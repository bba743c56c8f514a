//! `[evaluate]`: which metric decides whether a merged model is published, and how the gains of the clients are summed up.
//!
//! A metric that is better when it falls must be said to be one: the wrong direction would publish what is worse and nothing else.

use fedmerge_coordinator::{EvaluationRule, GainSummary, Goal};
use fedmerge_proto::convert::transfer::MAX_METRIC_NAME_BYTES;
use toml::Spanned;

use super::ReadPlanError;
use super::choice::{Choice, Keyed};
use super::document::{Document, Place};
use super::file::{AcceptTable, EvaluateTable, MergeTable};

/// The median.
const DEFAULT_QUANTILE: f64 = 0.5;
/// Ends of names of metrics that are better when they fall.
const FALLING: &[&str] = &["loss", "error", "perplexity"];

const GOALS: Choice<Goal> = Choice {
    what: "goal",
    known: &[("max", Goal::Max), ("min", Goal::Min)],
    planned: &[],
};

/// How gains are summed up, before its numbers are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Quantile,
    Median,
    TrimmedMean,
}

impl Keyed for Rule {
    fn has_key(&self, key: &str) -> bool {
        match self {
            Self::Quantile => key == "quantile",
            Self::Median => false,
            Self::TrimmedMean => key == "tolerate",
        }
    }
}

const RULES: Choice<Rule> = Choice {
    what: "rule",
    known: &[
        ("quantile", Rule::Quantile),
        ("median", Rule::Median),
        ("trimmed-mean", Rule::TrimmedMean),
    ],
    planned: &[],
};

/// The gate of the plan, not yet checked against the sizes of its rounds; none publishes every merge.
pub(super) fn rule(
    table: Option<&EvaluateTable>,
    merge: &MergeTable,
    document: &Document,
) -> Result<Option<EvaluationRule>, ReadPlanError> {
    let Some(table) = table else {
        return Ok(None);
    };
    let metric = table
        .metric
        .as_ref()
        .ok_or_else(|| ReadPlanError::MissingKey {
            place: document.whole(),
            key: "metric",
            example: "metric = \"accuracy\"",
        })?;
    let place = || document.place(metric.span());
    check_name(metric.get_ref(), place)?;
    if table.goal.is_none() && falls(metric.get_ref()) {
        return Err(ReadPlanError::UndirectedMetric {
            place: place(),
            metric: metric.get_ref().clone(),
        });
    }
    Ok(Some(EvaluationRule {
        metric: metric.get_ref().clone(),
        goal: GOALS.choose_or(Goal::Max, table.goal.as_ref(), document)?,
        min_gain: table.accept.min_gain.unwrap_or(0.0),
        summary: summary(&table.accept, merge, document)?,
    }))
}

fn check_name(metric: &str, place: impl Fn() -> Place) -> Result<(), ReadPlanError> {
    let fault = if metric.trim().is_empty() {
        "is empty: write the name that the clients' evaluators give their metric"
    } else if metric.len() > MAX_METRIC_NAME_BYTES || metric.chars().any(char::is_control) {
        "is no name of a metric: at most 128 bytes, and no control characters"
    } else {
        return Ok(());
    };
    Err(ReadPlanError::Value {
        place: place(),
        key: "metric",
        fault,
    })
}

/// Whether a metric of this name is most likely better when it falls: `loss`, `val_loss`, `Eval/Perplexity`.
fn falls(metric: &str) -> bool {
    let metric = metric.to_lowercase();
    let last = metric.rsplit(['_', '-', '/', '.', ' ']).next();
    last.is_some_and(|last| FALLING.contains(&last))
}

fn summary(
    table: &AcceptTable,
    merge: &MergeTable,
    document: &Document,
) -> Result<GainSummary, ReadPlanError> {
    let rule = RULES.choose_or(Rule::Quantile, table.rule.as_ref(), document)?;
    let chosen = table
        .rule
        .as_ref()
        .map_or("quantile", |rule| rule.get_ref().as_str());
    let written = [
        ("quantile", table.quantile.as_ref().map(Spanned::span)),
        ("tolerate", table.tolerate.as_ref().map(Spanned::span)),
    ];
    RULES.refuse_foreign_keys(chosen, &written, document)?;
    Ok(match rule {
        Rule::Quantile => GainSummary::Quantile(
            table
                .quantile
                .as_ref()
                .map_or(DEFAULT_QUANTILE, |quantile| *quantile.get_ref()),
        ),
        Rule::Median => GainSummary::Quantile(DEFAULT_QUANTILE),
        Rule::TrimmedMean => GainSummary::TrimmedMean {
            tolerate: table
                .tolerate
                .as_ref()
                .map_or(merge.tolerate.max(1), |tolerate| *tolerate.get_ref()),
        },
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use std::path::Path;

    use fedmerge_common::failure::Failure;

    use super::*;
    use crate::plan::FederationPlan;

    fn read(evaluate: &str) -> Result<Option<EvaluationRule>, ReadPlanError> {
        let text = format!(
            "name = \"digits\"\nbase = \"b\"\nround.quorum = 5\n[merge]\ntolerate = 2\n[evaluate]\n{evaluate}"
        );
        FederationPlan::parse(&text, Path::new("plan.toml")).map(|plan| plan.round.evaluate)
    }

    fn refusal(evaluate: &str) -> String {
        Failure::from(read(evaluate).unwrap_err()).to_string()
    }

    fn rule(metric: &str, goal: Goal, min_gain: f64, summary: GainSummary) -> EvaluationRule {
        EvaluationRule {
            metric: metric.to_owned(),
            goal,
            min_gain,
            summary,
        }
    }

    #[test]
    fn a_gate_is_read_to_the_last_key_and_what_is_left_out_has_its_default() {
        let median = GainSummary::Quantile(0.5);
        for (text, expected) in [
            (
                "metric = \"accuracy\"\naccept = { min_gain = -0.005, quantile = 0.25 }",
                rule("accuracy", Goal::Max, -0.005, GainSummary::Quantile(0.25)),
            ),
            ("metric = \"f1\"", rule("f1", Goal::Max, 0.0, median)),
            (
                "metric = \"loss\"\ngoal = \"min\"\naccept = { rule = \"median\" }",
                rule("loss", Goal::Min, 0.0, median),
            ),
            (
                "metric = \"loss\"\ngoal = \"max\"",
                rule("loss", Goal::Max, 0.0, median),
            ),
            (
                "metric = \"accuracy\"\naccept = { rule = \"trimmed-mean\", tolerate = 1 }",
                rule(
                    "accuracy",
                    Goal::Max,
                    0.0,
                    GainSummary::TrimmedMean { tolerate: 1 },
                ),
            ),
            // Left out, it is what the merge tolerates.
            (
                "metric = \"accuracy\"\naccept = { rule = \"trimmed-mean\" }",
                rule(
                    "accuracy",
                    Goal::Max,
                    0.0,
                    GainSummary::TrimmedMean { tolerate: 2 },
                ),
            ),
        ] {
            assert_eq!(read(text).unwrap(), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_metric_that_falls_as_models_get_better_needs_its_goal() {
        for metric in ["loss", "val_loss", "Eval/Perplexity", "top-1 error"] {
            let refusal = refusal(&format!("metric = \"{metric}\""));
            assert_eq!(
                refusal,
                format!(
                    "error: plan.toml:7: `{metric}` looks like a metric that is better when it falls, and no `goal` says so\n\
                     hint: write goal = \"min\" in [evaluate] if less is better, goal = \"max\" if more is"
                )
            );
        }
        for metric in ["glossary", "lossless", "accuracy"] {
            assert!(read(&format!("metric = \"{metric}\"")).is_ok(), "{metric}");
        }
    }

    #[test]
    fn a_gate_that_makes_no_sense_is_refused_where_it_stands() {
        for (text, expected) in [
            (
                "",
                "error: plan.toml: `metric` is missing\nhint: write metric = \"accuracy\"",
            ),
            (
                "metric = \" \"",
                "error: plan.toml:7: `metric` is empty: write the name that the clients' evaluators give their metric",
            ),
            (
                "metric = \"a\\u0007\"",
                "error: plan.toml:7: `metric` is no name of a metric: at most 128 bytes, and no control characters",
            ),
            (
                "metric = \"f1\"\ngoal = \"mim\"",
                "error: plan.toml:8: unknown goal `mim`\nhint: did you mean `min`?",
            ),
            (
                "metric = \"f1\"\naccept = { rule = \"mean\" }",
                "error: plan.toml:8: unknown rule `mean`\nhint: available: quantile, median, trimmed-mean",
            ),
            (
                "metric = \"f1\"\naccept = { rule = \"median\", quantile = 0.2 }",
                "error: plan.toml:8: `quantile` is a key of quantile, and the rule is median\n\
                 hint: remove `quantile`, or write rule = \"quantile\"",
            ),
            (
                "metric = \"f1\"\naccept = { tolerate = 1 }",
                "error: plan.toml:8: `tolerate` is a key of trimmed-mean, and the rule is quantile\n\
                 hint: remove `tolerate`, or write rule = \"trimmed-mean\"",
            ),
            (
                "metric = \"f1\"\naccept = { rule = \"trimmed-mean\", tolerate = 3 }",
                "error: plan.toml: no round can work like this\ncaused by: `quorum` is 5, but leaving out the 3 lowest \
                 and highest gains needs 2 × 3 + 1 = 7 evaluations\n\
                 hint: raise `quorum` in [round], or lower `tolerate` of `accept` in [evaluate]",
            ),
            (
                "metric = \"f1\"\naccept = { quantile = 1.5 }",
                "error: plan.toml: no round can work like this\ncaused by: `evaluate.accept.quantile` is 1.5, it must be from 0 to 1",
            ),
            (
                "metric = \"f1\"\nmin_gain = 0.1",
                "error: plan.toml:8: unknown key `min_gain` in [evaluate]\nhint: `min_gain` belongs in [evaluate.accept]",
            ),
        ] {
            assert_eq!(refusal(text), expected, "{text}");
        }
    }
}
