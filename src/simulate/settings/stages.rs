//! Stages of a merge between flags, a plan's tables and words.

use toml::{Table, Value};

use super::arguments::Before;

/// A stage as an element of `before`.
pub(super) fn of(stage: &Before) -> Value {
    let integer = |number: usize| Value::Integer(i64::try_from(number).unwrap_or(i64::MAX));
    let (method, number) = match *stage {
        Before::ClipToMedian => ("clip", Some(("norm", "median".into()))),
        Before::ClipAdaptively => ("clip", Some(("norm", "adaptive".into()))),
        Before::Clip(norm) => ("clip", Some(("norm", Value::Float(norm)))),
        Before::Arc => ("arc", None),
        Before::Nnm => ("nnm", None),
        Before::Bucketing(size) => ("bucketing", Some(("size", integer(size)))),
    };
    let mut table = named(method);
    if let Some((key, value)) = number {
        table.insert(key.to_owned(), value);
    }
    Value::Table(table)
}

/// An optimizer with its own defaults.
pub(super) fn optimizer(name: &str) -> Value {
    Value::Table(named(name))
}

fn named(method: &str) -> Table {
    [("method".to_owned(), method.into())].into_iter().collect()
}

/// Numbers with which a method takes steps of the size of one client's, where nobody said otherwise: sums grow with the number of
/// clients, signs are all of length 1, and the updates of the built-in trainer are about 4 long.
pub(super) fn scale(method: &str, clients: usize) -> Option<(&'static str, Value)> {
    match method {
        "task-arithmetic" | "dare-linear" | "della-linear" | "breadcrumbs" => {
            Some(("normalize", Value::Boolean(true)))
        }
        "consensus" => {
            let clients = u32::try_from(clients).unwrap_or(u32::MAX);
            Some(("lambda", Value::Float(1.0 / f64::from(clients))))
        }
        "sign-majority" => Some(("lambda", Value::Float(0.01))),
        "centered-clipping" => Some(("radius", Value::Float(1.0))),
        _ => None,
    }
}

/// The stages of a plan's `before`.
pub(super) fn before(merge: &Table) -> impl Iterator<Item = &Table> {
    let stages = merge.get("before").and_then(Value::as_array);
    stages.into_iter().flatten().filter_map(Value::as_table)
}

/// A merge as one line: `clip(median), nnm, krum, tolerate 2`.
pub(super) fn in_words(method: &str, merge: &Table) -> String {
    let bare = |value: &Value| value.to_string().replace('"', "");
    let mut words = String::new();
    for stage in before(merge) {
        let name = stage.get("method").map(bare).unwrap_or_default();
        let number = stage.get("norm").or_else(|| stage.get("size"));
        let number = number.map(|number| format!("({})", bare(number)));
        words += &format!("{name}{}, ", number.unwrap_or_default());
    }
    words += method;
    for key in [
        "tolerate",
        "density",
        "elect",
        "normalize",
        "radius",
        "trusted",
        "lambda",
    ] {
        if let Some(value) = merge.get(key) {
            words += &format!(", {key} {}", bare(value));
        }
    }
    let optimizer = merge.get("optimizer").and_then(|table| table.get("method"));
    if let Some(name) = optimizer.map(bare).filter(|name| name != "none") {
        words += &format!(", {name}");
    }
    words
}
