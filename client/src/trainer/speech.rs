//! What a trainer may say on stdout: JSON lines of progress, example counts and metrics; anything else is noise.
//!
//! Never fails on noise. A line that is meant for us but cannot be true (`"num_examples": -3`) is a
//! [`SpeechProblem`], because going on would give the update a weight that nobody meant.

use std::collections::BTreeMap;

use fedmerge_proto::convert::transfer::{MAX_METRIC_NAME_BYTES, MAX_METRICS};
use serde_json::{Map, Value};

use super::Progress;

/// So much of what a trainer printed is repeated in a problem.
const MAX_QUOTED_CHARACTERS: usize = 80;

/// A claim of a trainer or an evaluator that cannot be true, to be read after its name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpeechProblem {
    /// Not a whole number of at least 1.
    #[error("printed num_examples = {found}, which is not a whole number of at least 1")]
    Examples {
        /// What it printed.
        found: String,
    },
    /// A metric that is no finite number.
    #[error("printed the metric {name} = {found}, which is not a finite number")]
    Metric {
        /// The metric.
        name: String,
        /// What it printed.
        found: String,
    },
    /// Too many metrics.
    #[error("printed more than {MAX_METRICS} metrics")]
    TooManyMetrics,
    /// A count or metrics in a line that cannot be read.
    #[error(
        "printed {found}, which is no JSON: names need double quotes, and there is no NaN or Infinity"
    )]
    Unreadable {
        /// Its beginning.
        found: String,
    },
}

/// What a trainer has said so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Speech {
    /// Training examples used.
    pub num_examples: Option<u64>,
    /// Metrics by name.
    pub metrics: BTreeMap<String, f64>,
    /// The last sign of life.
    pub progress: Progress,
    /// The first claim that cannot be true.
    pub problem: Option<SpeechProblem>,
}

/// What a line was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// A sign of life.
    Progress,
    /// A count or metrics.
    Result,
    /// Not for us.
    Noise,
}

impl Speech {
    /// Listens to one line of stdout.
    pub fn hear(&mut self, line: &str) -> Line {
        let line = line.trim();
        let said = match serde_json::from_str(line) {
            Ok(Value::Object(said)) => said,
            Ok(_) => return Line::Noise,
            Err(_) if is_meant_for_us(line) => {
                let found = line.chars().take(MAX_QUOTED_CHARACTERS).collect();
                self.object(SpeechProblem::Unreadable { found });
                return Line::Result;
            }
            Err(_) => return Line::Noise,
        };
        let mut heard = Line::Noise;
        if let Some(loss) = said.get("loss").and_then(Value::as_f64) {
            self.progress.loss = Some(loss);
            heard = Line::Progress;
        }
        if let Some(done) = said.get("progress").and_then(Value::as_f64) {
            self.progress.done = done.clamp(0.0, 1.0);
            heard = Line::Progress;
        }
        if let Some(found) = said.get("num_examples") {
            self.hear_examples(found);
            heard = Line::Result;
        }
        if let Some(Value::Object(metrics)) = said.get("metrics") {
            self.hear_metrics(metrics);
            heard = Line::Result;
        }
        heard
    }

    /// The metrics, with the last loss among them.
    #[must_use]
    pub fn into_metrics(self) -> BTreeMap<String, f64> {
        let mut metrics = self.metrics;
        if let Some(loss) = self.progress.loss {
            metrics.entry("loss".to_owned()).or_insert(loss);
        }
        metrics
    }

    fn hear_examples(&mut self, found: &Value) {
        match found.as_u64() {
            Some(count) if count > 0 => self.num_examples = Some(count),
            Some(_) | None => self.object(SpeechProblem::Examples {
                found: short(found),
            }),
        }
    }

    fn hear_metrics(&mut self, metrics: &Map<String, Value>) {
        for (name, found) in metrics {
            match found.as_f64() {
                _ if name.len() > MAX_METRIC_NAME_BYTES => {}
                Some(_)
                    if self.metrics.len() >= MAX_METRICS && !self.metrics.contains_key(name) =>
                {
                    self.object(SpeechProblem::TooManyMetrics);
                    return;
                }
                Some(value) if value.is_finite() => {
                    self.metrics.insert(name.clone(), value);
                }
                Some(_) | None => self.object(SpeechProblem::Metric {
                    name: name.clone(),
                    found: short(found),
                }),
            }
        }
    }

    fn object(&mut self, problem: SpeechProblem) {
        self.problem.get_or_insert(problem);
    }
}

/// Whether a line that is no JSON was to be a result: ignoring it would change the weight of the update.
fn is_meant_for_us(line: &str) -> bool {
    const KEYS: [&str; 4] = [
        "\"num_examples\"",
        "'num_examples'",
        "\"metrics\"",
        "'metrics'",
    ];
    line.starts_with('{') && KEYS.iter().any(|key| line.contains(key))
}

fn short(value: &Value) -> String {
    value
        .to_string()
        .chars()
        .take(MAX_QUOTED_CHARACTERS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(lines: &[&str]) -> Speech {
        let mut speech = Speech::default();
        for line in lines {
            speech.hear(line);
        }
        speech
    }

    #[test]
    fn the_lines_of_the_contract_are_heard() {
        let speech = after(&[
            r#"{"progress":0.4,"loss":0.31}"#,
            r#"{"num_examples":1280,"metrics":{"accuracy":0.9}}"#,
        ]);
        assert_eq!(speech.num_examples, Some(1280));
        assert_eq!(
            speech.progress,
            Progress {
                done: 0.4,
                loss: Some(0.31)
            }
        );
        assert_eq!(speech.problem, None);
        let metrics = speech.into_metrics();
        assert_eq!(metrics.get("accuracy"), Some(&0.9));
        assert_eq!(metrics.get("loss"), Some(&0.31));
    }

    #[test]
    fn a_loss_among_the_metrics_wins_over_the_last_loss_line() {
        let speech = after(&[r#"{"loss":0.9}"#, r#"{"metrics":{"loss":0.2}}"#]);
        assert_eq!(speech.into_metrics().get("loss"), Some(&0.2));
    }

    #[test]
    fn noise_changes_nothing() {
        let mut speech = Speech::default();
        for line in [
            "",
            "epoch 3",
            "{",
            "[1,2]",
            "null",
            "{}",
            r#"{"progress":"half"}"#,
            "{\"a\":1}",
            "\u{0}\u{1}",
        ] {
            assert_eq!(speech.hear(line), Line::Noise, "{line}");
        }
        assert_eq!(speech, Speech::default());
    }

    #[test]
    fn an_impossible_example_count_is_a_problem_that_names_it() {
        for (line, found) in [
            (r#"{"num_examples":0}"#, "0"),
            (r#"{"num_examples":-3}"#, "-3"),
            (r#"{"num_examples":2.5}"#, "2.5"),
            (r#"{"num_examples":"many"}"#, "\"many\""),
        ] {
            let problem = after(&[line]).problem;
            assert_eq!(
                problem,
                Some(SpeechProblem::Examples {
                    found: found.to_owned()
                }),
                "{line}"
            );
        }
    }

    #[test]
    fn a_result_that_is_no_json_is_a_problem_that_quotes_it() {
        for line in [
            r#"{"num_examples": 1280, "metrics": {"loss": NaN}}"#,
            r#"{"metrics": {"loss": -Infinity}}"#,
            r#"{"num_examples": 1280"#,
            "{'num_examples': 1280}",
        ] {
            let problem = after(&[line, r#"{"num_examples":5}"#]).problem;
            let found = line.to_owned();
            assert_eq!(problem, Some(SpeechProblem::Unreadable { found }));
        }
        let mut speech = Speech::default();
        assert_eq!(
            speech.hear(r#"{"progress": 0.5, "loss": NaN}"#),
            Line::Noise
        );
        assert_eq!(speech, Speech::default());
    }

    #[test]
    fn metrics_are_bounded_in_number_and_must_be_numbers() {
        let many: Vec<String> = (0..100)
            .map(|n| format!("{{\"metrics\":{{\"m{n}\":1}}}}"))
            .collect();
        let speech = after(&many.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(speech.metrics.len(), MAX_METRICS);
        assert_eq!(speech.problem, Some(SpeechProblem::TooManyMetrics));
        assert!(matches!(
            after(&[r#"{"metrics":{"loss":null}}"#]).problem,
            Some(SpeechProblem::Metric { .. })
        ));
    }

    #[test]
    fn progress_stays_between_nothing_and_all() {
        let done = |line| after(&[line]).progress.done;
        assert!((done(r#"{"progress":7}"#) - 1.0).abs() < f64::EPSILON);
        assert!(done(r#"{"progress":-7}"#).abs() < f64::EPSILON);
    }
}
