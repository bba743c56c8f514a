//! What a merge is going to do, before it does it: models, method, passes, and the memory that it stays within.

use std::path::PathBuf;

use fedmerge_common::dtype::Dtype;
use fedmerge_common::schema::TensorSpec;
use fedmerge_common::units::ByteSize;
use serde::Serialize;
use serde_json::Value;

use super::{PreparedMerge, common_dtype};
use crate::merging;
use crate::plan::recipe::MergeRecipe;

/// What a merge is going to do.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// The base, as the recipe writes it.
    pub base: PathBuf,
    /// The models by name, in the order of the recipe.
    pub models: Vec<String>,
    /// Tensors of the base.
    pub tensors: usize,
    /// Those that are merged; the others are the base's.
    pub merged_tensors: usize,
    /// Values of all tensors.
    pub parameters: u64,
    /// Those that are merged.
    pub merged_parameters: u64,
    /// The merge in the words of a recipe.
    pub merge: Value,
    /// What each pass over the inputs is for, in order.
    pub passes: Vec<&'static str>,
    /// Values that are worked on at a time, by each thread.
    pub block_values: usize,
    /// Threads.
    pub threads: usize,
    /// Most memory that values take at any moment, bytes.
    pub peak_bytes: u64,
    /// Where the output goes.
    pub out: PathBuf,
    /// Size of its tensors, bytes.
    pub out_bytes: u64,
    /// The type of its merged tensors, where it is one.
    pub out_dtype: Option<&'static str>,
}

impl Summary {
    pub(super) fn of(merge: &PreparedMerge) -> Self {
        let base = merge.inputs.base.schema();
        let out = merge.schema();
        let passes = merge.plan.passes();
        Self {
            base: merge.recipe.written_base.clone(),
            models: merge
                .recipe
                .models
                .iter()
                .map(|model| model.name.clone())
                .collect(),
            tensors: base.len(),
            merged_tensors: merge.inputs.merged.len(),
            parameters: base.iter().map(|tensor| tensor.elements() as u64).sum(),
            merged_parameters: merge.inputs.merged_values(),
            merge: recipe_in_words(&merge.recipe),
            passes: passes
                .into_iter()
                .map(fedmerge_merge::Pass::purpose)
                .collect(),
            block_values: merge.plan.block_len(),
            threads: merge.order.threads,
            peak_bytes: merge.peak_bytes(),
            out: merge.target.path.clone(),
            out_bytes: out.iter().map(TensorSpec::byte_len).sum(),
            out_dtype: common_dtype(&out).map(Dtype::name),
        }
    }

    /// The same for people.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let dtype = self.out_dtype.unwrap_or("the base's types");
        let models = &self.models;
        let names = if models.len() > MOST_NAMES {
            format!("{}, …", models[..MOST_NAMES].join(", "))
        } else {
            models.join(", ")
        };
        vec![
            format!(
                "base     {}: {} tensors, {} parameters",
                self.base.display(),
                self.tensors,
                grouped(self.parameters)
            ),
            format!("models   {}: {names}", models.len()),
            format!("merge    {}", in_a_line(&self.merge)),
            format!("merged   {}", self.share()),
            format!("passes   {}: {}", self.passes.len(), self.passes.join("; ")),
            format!(
                "memory   at most {}: blocks of {} values on {} {}",
                ByteSize::new(self.peak_bytes),
                grouped(self.block_values as u64),
                self.threads,
                if self.threads == 1 {
                    "thread"
                } else {
                    "threads"
                },
            ),
            format!(
                "output   {}: {} of {dtype}",
                self.out.display(),
                ByteSize::new(self.out_bytes)
            ),
        ]
    }
}

impl Summary {
    /// How much of the base is merged.
    fn share(&self) -> String {
        if self.merged_tensors == self.tensors {
            return "all tensors".to_owned();
        }
        format!(
            "{} tensors, {} parameters; the others are the base's",
            self.merged_tensors,
            grouped(self.merged_parameters)
        )
    }
}

/// Models that are named in a line.
const MOST_NAMES: usize = 8;

/// A merge in the words of a recipe's `[merge]`.
pub(super) fn recipe_in_words(recipe: &MergeRecipe) -> Value {
    let mut words = merging::recipe_in_words(&recipe.recipe);
    if recipe.freeze.patterns().next().is_some() {
        words["freeze"] = recipe.freeze.patterns().collect();
    }
    if let Some(trusted) = recipe.trusted {
        words["trusted"] = recipe.models[trusted].name.as_str().into();
    }
    words
}

/// The method first, then what else is said of it.
fn in_a_line(words: &Value) -> String {
    let Some(table) = words.as_object() else {
        return words.to_string();
    };
    let method = table.get("method").and_then(Value::as_str);
    let is_said = |value: &Value| value.as_array().is_none_or(|list| !list.is_empty());
    let others = table
        .iter()
        .filter(|(key, value)| *key != "method" && is_said(value))
        .map(|(key, value)| format!("{key} {}", bare(value)));
    let said: Vec<String> = method
        .map(str::to_owned)
        .into_iter()
        .chain(others)
        .collect();
    said.join(", ")
}

/// A value of JSON as people write it.
fn bare(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(bare).collect::<Vec<_>>().join(" + "),
        Value::Object(table) => {
            let pairs = table.iter().map(|(key, value)| {
                if key == "method" {
                    bare(value)
                } else {
                    format!("{key}={}", bare(value))
                }
            });
            pairs.collect::<Vec<_>>().join(" ")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// A number with its thousands set apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_is_told_in_a_line() {
        let words = serde_json::json!({
            "lambda": 1.0,
            "method": "trimmed-mean",
            "before": [{ "method": "clip", "norm": "median" }, { "method": "nnm", "tolerate": 2 }],
            "freeze": [],
            "tolerate": 2,
        });
        assert_eq!(
            in_a_line(&words),
            "trimmed-mean, before clip norm=median + nnm tolerate=2, lambda 1.0, tolerate 2"
        );
    }

    #[test]
    fn thousands_are_set_apart() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }
}
