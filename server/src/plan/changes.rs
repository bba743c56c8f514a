//! What differs between two plans, key by key, as `federation.toml` spells them.
//!
//! Plans are compared by what they mean: a default that is spelt out, a comment, another order of keys are no change.

use std::collections::BTreeMap;
use std::fmt;

use fedmerge_coordinator::{EvaluationRule, GainSummary};
use serde_json::{Value, json};

use super::{FederationPlan, Weight};
use crate::merging::recipe_in_words;
use crate::privacy::{Clip, Privacy};

/// A key that two plans set differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key from the top, such as `round.quorum`.
    pub key: String,
    /// What the earlier plan says, as JSON; `unset` where it has no such key.
    pub before: String,
    /// What the later plan says, likewise.
    pub after: String,
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, before, after } = self;
        write!(formatter, "{key} {before} -> {after}")
    }
}

/// What `after` says otherwise than `before`, in the order of keys.
#[must_use]
pub fn changes(before: &FederationPlan, after: &FederationPlan) -> Vec<Change> {
    let (before, after) = (values(before), values(after));
    let mut keys: Vec<&String> = before.keys().chain(after.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let said = |values: &BTreeMap<String, Value>, key: &String| {
        values.get(key).map_or("unset".to_owned(), Value::to_string)
    };
    let changes = keys.into_iter().map(|key| Change {
        key: key.clone(),
        before: said(&before, key),
        after: said(&after, key),
    });
    changes
        .filter(|change| change.before != change.after)
        .collect()
}

/// Every key of a plan and its value, defaults spelt out.
fn values(plan: &FederationPlan) -> BTreeMap<String, Value> {
    let mut values = BTreeMap::new();
    flatten(String::new(), in_words(plan), &mut values);
    values
}

fn in_words(plan: &FederationPlan) -> Value {
    let mut round = json!(plan.round);
    let mut merge = recipe_in_words(&plan.recipe);
    // The coordinator has words of its own for what a plan says elsewhere.
    if let Some(round) = round.as_object_mut() {
        let count = round.remove("rounds");
        round.insert("count".to_owned(), json!(count));
        for key in ["tolerate", "seed"] {
            merge[key] = json!(round.remove(key));
        }
        round.remove("evaluate");
        round.remove("private_rounds");
        let labels: BTreeMap<_, _> = plan.selector.patterns().collect();
        round["cohort"]["labels"] = json!(labels);
    }
    merge["weight"] = json!(plan.weight.as_str());
    if plan.weight == Weight::Examples {
        merge["max_weight"] = json!(plan.max_weight);
    }
    merge["freeze"] = plan.freeze.patterns().collect();
    merge["trusted"] = json!(plan.trusted);
    let encodings = plan.encodings.iter().map(|encoding| encoding.as_str());
    json!({
        "name": plan.name,
        "base": plan.base,
        "round": round,
        "merge": merge,
        "evaluate": plan.round.evaluate.as_ref().map(gate_in_words),
        "privacy": plan.privacy.as_ref().map(privacy_in_words),
        "update": {
            "encodings": encodings.collect::<Vec<_>>(),
            "density": plan.density.share(),
            "max_bytes": plan.max_update,
        },
    })
}

fn gate_in_words(rule: &EvaluationRule) -> Value {
    let EvaluationRule {
        metric,
        goal,
        min_gain,
        summary,
    } = rule;
    let mut accept = match summary {
        GainSummary::Quantile(quantile) => json!({ "rule": "quantile", "quantile": quantile }),
        GainSummary::TrimmedMean { tolerate } => {
            json!({ "rule": "trimmed-mean", "tolerate": tolerate })
        }
    };
    accept["min_gain"] = json!(min_gain);
    json!({ "metric": metric, "goal": goal, "accept": accept })
}

fn privacy_in_words(privacy: &Privacy) -> Value {
    let mut words = match privacy.clip {
        Clip::Fixed(length) => json!({ "clip": length }),
        Clip::Adaptive { start } => json!({ "clip": "adaptive", "start": start }),
    };
    words["noise"] = json!(privacy.noise);
    words["by"] = json!(privacy.by);
    words["epsilon"] = json!(privacy.epsilon);
    words["delta"] = json!(privacy.delta);
    words
}

fn flatten(key: String, value: Value, values: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(table) => {
            for (name, value) in table {
                let separator = if key.is_empty() { "" } else { "." };
                flatten(format!("{key}{separator}{name}"), value, values);
            }
        }
        Value::Null => {}
        value @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
            values.insert(key, value);
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use std::path::Path;

    use super::*;

    const TOP: &str = "name = \"digits\"\nbase = \"base.safetensors\"\n";

    fn plan(text: &str) -> FederationPlan {
        FederationPlan::parse(&format!("{TOP}{text}"), Path::new("federation.toml")).unwrap()
    }

    fn told(before: &str, after: &str) -> Vec<String> {
        let changes = changes(&plan(before), &plan(after));
        changes.iter().map(Change::to_string).collect()
    }

    #[test]
    fn each_key_that_changed_is_told_with_both_values() {
        let cases = [
            ("", "[round]\ncount = 20", "round.count 10 -> 20"),
            (
                "",
                "[round]\ngrace = \"1m\"",
                "round.grace \"30s\" -> \"1m\"",
            ),
            (
                "",
                "[merge]\nmethod = \"median\"",
                "merge.method \"trimmed-mean\" -> \"median\"",
            ),
            (
                "[round]\nlate = \"carry\"",
                "[round]\nlate = \"carry\"\nmax_staleness = 3",
                "round.max_staleness 10 -> 3",
            ),
            (
                "[round]\nquorum = 3",
                "[round]\nquorum = 3\nallow_small_quorum = true",
                "round.allow_small_quorum false -> true",
            ),
            ("", "[merge]\nseed = 7", "merge.seed 0 -> 7"),
            ("", "[merge]\nlambda = 0.5", "merge.lambda 1.0 -> 0.5"),
            (
                "",
                "[merge]\nweight = \"uniform\"",
                "merge.weight \"examples\" -> \"uniform\"",
            ),
            ("", "[merge]\nmax_weight = 2", "merge.max_weight 5.0 -> 2.0"),
            (
                "",
                "[merge]\nfreeze = [\"head.*\"]",
                "merge.freeze [] -> [\"head.*\"]",
            ),
            (
                "",
                "[merge]\noptimizer = { method = \"momentum\", beta = 0.9 }",
                "merge.optimizer.beta unset -> 0.9",
            ),
            (
                "",
                "[update]\nencodings = [\"bf16\", \"f32\"]",
                "update.encodings [\"f32\"] -> [\"bf16\",\"f32\"]",
            ),
            (
                "",
                "[update]\nencodings = [\"top-k\"]\ndensity = 0.01",
                "update.density 0.05 -> 0.01",
            ),
            (
                "",
                "[update]\nmax_bytes = \"1GiB\"",
                "update.max_bytes \"2GiB\" -> \"1GiB\"",
            ),
        ];
        for (before, after, expected) in cases {
            let told = told(before, after);
            assert!(told.contains(&expected.to_owned()), "{after}: {told:?}");
        }
    }

    #[test]
    fn what_follows_from_a_change_is_told_too() {
        assert_eq!(
            told("", "[round]\ncohort = { target = 8 }"),
            ["round.cohort.target 3 -> 8", "round.quorum 3 -> 5"]
        );
        assert_eq!(
            told("", "[round]\nlate = \"carry\""),
            [
                "round.late \"reject\" -> \"carry\"",
                "round.max_staleness 0 -> 10"
            ]
        );
        assert_eq!(
            told("", "[round]\nmode = \"buffered\""),
            [
                "round.cohort.over_select 1.0 -> 10.0",
                "round.max_staleness 0 -> 10",
                "round.mode \"synchronous\" -> \"buffered\""
            ]
        );
        assert_eq!(
            told("", "[round]\npopulation = { clients = 9 }"),
            [
                "round.population.clients unset -> 9",
                "round.population.hostile unset -> 0",
                "round.population.risk unset -> 0.01"
            ]
        );
    }

    #[test]
    fn a_gate_is_told_key_by_key() {
        let gate = "[evaluate]\nmetric = \"accuracy\"";
        assert_eq!(
            told("", gate),
            [
                "evaluate.accept.min_gain unset -> 0.0",
                "evaluate.accept.quantile unset -> 0.5",
                "evaluate.accept.rule unset -> \"quantile\"",
                "evaluate.goal unset -> \"max\"",
                "evaluate.metric unset -> \"accuracy\"",
            ]
        );
        let trimmed = "accept = { rule = \"trimmed-mean\", tolerate = 1 }";
        assert_eq!(
            told(gate, &format!("{gate}\n{trimmed}")),
            [
                "evaluate.accept.quantile 0.5 -> unset",
                "evaluate.accept.rule \"quantile\" -> \"trimmed-mean\"",
                "evaluate.accept.tolerate unset -> 1",
            ]
        );
    }

    #[test]
    fn what_means_the_same_is_no_change() {
        let spelt_out = "# A comment.\n[merge]\nlambda = 1\n[round]\nquorum = 3\ncount = 10";
        assert!(told("", spelt_out).is_empty());
    }
}
