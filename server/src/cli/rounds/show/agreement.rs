//! A merge's report in lines: how it merged, what came of it, and how the clients agreed.
//!
//! A report may be of an older version, so nothing in it is counted on: what is not there is not told.

use fedmerge_common::ids::ClientId;
use serde::Deserialize;
use serde_json::Value;

use super::labelled;
use crate::cli::list::table;
use crate::privacy::{NoiseBy, PrivacyStory};

/// A client's share of the weight of a merge, 0 to 1.
pub(super) fn weight_share(report: &Value, client: &ClientId) -> Option<f64> {
    let update = entry_of(&report["updates"], client.as_str())?;
    update["weight_share"].as_f64()
}

pub(in crate::cli) fn lines(report: &Value) -> Vec<String> {
    let mut lines = vec![labelled("merge", &recipe(&report["recipe"]))];
    match PrivacyStory::deserialize(&report["privacy"]) {
        Ok(privacy) => lines.push(labelled("privacy", &told_of(&privacy))),
        Err(_) => lines.extend(step(report).map(|step| labelled("step", &step))),
    }
    lines.extend(agreement(report).map(|told| labelled("agreement", &told)));
    lines.push(String::new());
    lines.push(clients(report));
    lines
}

/// `ε 2.130 at δ 1e-5 until now: noise of 1.1 × 1.0 from the server`
fn told_of(privacy: &PrivacyStory) -> String {
    let by = match privacy.by {
        NoiseBy::Server => "the server",
        NoiseBy::Clients => "each client",
    };
    format!(
        "{privacy} until now: noise of {:?} × {:.4} from {by}",
        privacy.noise, privacy.clip
    )
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn entry_of<'a>(entries: &'a Value, client: &str) -> Option<&'a Value> {
    list(entries).iter().find(|entry| entry["client"] == client)
}

/// `trimmed-mean, tolerate 2, after clip and nnm, weight examples`
fn recipe(recipe: &Value) -> String {
    let mut words = vec![recipe["method"].as_str().unwrap_or("unknown").to_owned()];
    if let Some(tolerate) = recipe["tolerate"].as_u64() {
        words.push(format!("tolerate {tolerate}"));
    }
    let stages = list(&recipe["before"]).iter();
    let stages: Vec<&str> = stages
        .filter_map(|stage| stage["method"].as_str())
        .collect();
    if !stages.is_empty() {
        words.push(format!("after {}", stages.join(" and ")));
    }
    for (key, before) in [("sparsify", "sparsified by"), ("optimizer", "step by")] {
        if let Some(method) = recipe[key]["method"].as_str() {
            words.push(format!("{before} {method}"));
        }
    }
    if let Some(weight) = recipe["weight"].as_str() {
        words.push(format!("weight {weight}"));
    }
    words.join(", ")
}

/// `0.42 long, 83 % of the clients' mean length, cosine 0.41 with the step before`
fn step(report: &Value) -> Option<String> {
    let mut told = format!("{} long", digits(report["step_norm"].as_f64()?));
    if let Some(left) = report["diagnostics"]["shrinkage"].as_f64() {
        told += &format!(", {} of the clients' mean length", percent(left));
    }
    if let Some(drift) = report["diagnostics"]["drift"].as_f64() {
        told += &format!(", cosine {} with the step before", digits(drift));
    }
    Some(told)
}

/// `1.9 of 3 clients pull on their own, cosines from 0.12 to 0.93`
fn agreement(report: &Value) -> Option<String> {
    let diagnostics = &report["diagnostics"];
    let effective = diagnostics["effective_clients"].as_f64()?;
    let count = list(&report["updates"]).len();
    let told = format!("{} of {count} clients pull on their own", digits(effective));
    let least = diagnostics["least_cosine"].as_f64();
    let greatest = diagnostics["greatest_cosine"].as_f64();
    Some(match least.zip(greatest) {
        Some((least, greatest)) => {
            let (least, greatest) = (digits(least), digits(greatest));
            format!("{told}, cosines from {least} to {greatest}")
        }
        None => told,
    })
}

/// What say each client got, and how it stands among the others.
fn clients(report: &Value) -> String {
    let told =
        |number: &Value, say: fn(f64) -> String| number.as_f64().map(say).unwrap_or_default();
    let seen = &report["diagnostics"]["clients"];
    let rows = list(&report["updates"]).iter().map(|update| {
        let name = update["client"].as_str().unwrap_or_default();
        let seen = entry_of(seen, name).unwrap_or(&Value::Null);
        [
            name.to_owned(),
            told(&update["weight_share"], percent),
            told(&update["norm"], digits),
            told(&update["clip_factor"], percent),
            told(&seen["distance"], digits),
            told(&seen["sign_disagreement"], percent),
        ]
    });
    let mut rows: Vec<_> = rows.collect();
    rows.sort();
    let heading = ["merged", "weight", "length", "kept", "distance", "conflict"];
    table(heading, rows.into_iter())
}

/// About three digits, however large or small the number is.
fn digits(number: f64) -> String {
    let size = number.abs();
    if size >= 1e5 || size > 0.0 && size < 1e-3 {
        format!("{number:.2e}")
    } else if size >= 100.0 {
        format!("{number:.0}")
    } else if size >= 10.0 {
        format!("{number:.1}")
    } else {
        format!("{number:.2}")
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_short_whatever_their_size() {
        let told = [0.0, -0.5, 12.34, 123.4, 1.0e9, 1.0e-9, 0.012].map(digits);
        let expected = ["0.00", "-0.50", "12.3", "123", "1.00e9", "1.00e-9", "0.01"];
        assert_eq!(told, expected);
    }

    #[test]
    fn what_a_report_does_not_have_is_not_told() {
        let told = lines(&json!({ "recipe": { "method": "mean" } }));
        assert_eq!(told[0], "merge        mean");
        let told = lines(&json!({ "something": ["else"] })).join("\n");
        assert!(told.contains("unknown"), "{told}");
    }

    #[test]
    fn a_recipe_is_one_line() {
        let told = recipe(&json!({
            "method": "ties",
            "before": [{ "method": "clip" }, { "method": "nnm" }],
            "tolerate": 1,
            "optimizer": { "method": "adam" },
            "weight": "uniform",
        }));
        assert_eq!(
            told,
            "ties, tolerate 1, after clip and nnm, step by adam, weight uniform"
        );
    }
}
