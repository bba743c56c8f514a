//! `[[model]]`: what one model brings into a merge, and which of its parameters the method has a use for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fedmerge_merge::{Recipe, Sparsify, SparsifyRule, WeightUse};
use serde::Deserialize;
use toml::Spanned;

use super::error::{ReadRecipeError, refused};
use crate::plan::beside;
use crate::plan::document::{Document, Place};

/// Weight of a model that gives none.
const DEFAULT_WEIGHT: f64 = 1.0;

/// An element of `[[model]]`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ModelTable {
    path: Option<PathBuf>,
    task_vector: Option<PathBuf>,
    name: Option<Spanned<String>>,
    weight: Option<Spanned<f64>>,
    density: Option<Spanned<f64>>,
    gamma: Option<Spanned<f64>>,
    epsilon: Option<Spanned<f64>>,
}

/// What is on disk of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelKind {
    /// A fine-tuned checkpoint.
    FineTuned,
    /// The difference between a fine-tuned checkpoint and the base.
    TaskVector,
}

/// One model of a merge.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelEntry {
    /// What it is called; no other of the merge is.
    pub name: String,
    /// What is on disk.
    pub kind: ModelKind,
    /// Where: a file or a directory.
    pub path: PathBuf,
    /// The same, as it is written in the recipe.
    pub written_path: PathBuf,
    /// Its weight.
    pub weight: f64,
    /// What is dropped of it, where that is not what is dropped of all.
    pub sparsify: Option<SparsifyRule>,
}

/// The models of a recipe.
pub(super) fn entries(
    tables: &[Spanned<ModelTable>],
    recipe: &Recipe,
    document: &Document,
) -> Result<Vec<ModelEntry>, ReadRecipeError> {
    let mut seen = BTreeMap::new();
    let mut entries = Vec::with_capacity(tables.len());
    for (number, table) in tables.iter().enumerate() {
        let entry = entry(table, recipe, tables.len(), document)?;
        let place = document.place(table.span());
        if let Some(other) = seen.insert(entry.name.clone(), number) {
            let (first, second) = (other + 1, number + 1);
            let what = format!(
                "models {first} and {second} are both called `{}`",
                entry.name
            );
            return Err(refused(place, what, "give one of them a `name` of its own"));
        }
        entries.push(entry);
    }
    let total: f64 = entries.iter().map(|entry| entry.weight).sum();
    if recipe.method.weight_use() == WeightUse::Shares && !total.is_normal() {
        let what = format!("the weights add up to {total}, which cannot be divided by");
        let hint = if total > 1.0 {
            "divide all weights by the same number: they are shares"
        } else {
            "give at least one model a weight above 0"
        };
        return Err(refused(document.whole(), what, hint));
    }
    Ok(entries)
}

fn entry(
    table: &Spanned<ModelTable>,
    recipe: &Recipe,
    models: usize,
    document: &Document,
) -> Result<ModelEntry, ReadRecipeError> {
    let place = document.place(table.span());
    let table = table.get_ref();
    let (kind, path) = match (&table.path, &table.task_vector) {
        (Some(path), None) => (ModelKind::FineTuned, path),
        (None, Some(path)) => (ModelKind::TaskVector, path),
        (Some(_), Some(_)) => {
            let hint = "keep `path` for a fine-tuned checkpoint, `task_vector` for a difference";
            let what = "a model has both `path` and `task_vector`";
            return Err(refused(place, what, hint));
        }
        (None, None) => {
            let hint =
                "write path = \"a/\", a fine-tuned checkpoint, or task_vector = \"a.safetensors\"";
            let what = "a model has neither `path` nor `task_vector`";
            return Err(refused(place, what, hint));
        }
    };
    let name = match &table.name {
        Some(name) => name.get_ref().clone(),
        None => name_of(path),
    };
    if name.is_empty() || name.chars().any(char::is_control) {
        let hint = "write name = \"a\" or the like";
        return Err(refused(place, "a model has no name in plain text", hint));
    }
    let model = Model {
        name: &name,
        table,
        recipe,
        document,
    };
    Ok(ModelEntry {
        kind,
        path: beside(document.path(), path),
        written_path: path.clone(),
        weight: model.weight()?,
        sparsify: model.sparsify(models, &place)?,
        name,
    })
}

/// The last part of a path, without the extension of a file of tensors.
fn name_of(path: &Path) -> String {
    let is_file = path
        .extension()
        .is_some_and(|extension| extension == "safetensors");
    let name = if is_file {
        path.file_stem()
    } else {
        path.file_name()
    };
    let name = name.unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

/// One table beside the method that judges it.
struct Model<'a> {
    name: &'a str,
    table: &'a ModelTable,
    recipe: &'a Recipe,
    document: &'a Document,
}

impl Model<'_> {
    fn weight(&self) -> Result<f64, ReadRecipeError> {
        let Some(weight) = &self.table.weight else {
            return Ok(DEFAULT_WEIGHT);
        };
        let (name, value) = (self.name, *weight.get_ref());
        let refuse =
            |what: String, hint| Err(refused(self.document.place(weight.span()), what, hint));
        let method = self.recipe.method_name();
        match self.recipe.method.weight_use() {
            WeightUse::Ignored => refuse(
                format!("model `{name}` has a weight, and {method} counts every model once"),
                "remove `weight`, or choose a method that weighs: mean, task-arithmetic, ties",
            ),
            WeightUse::Shares | WeightUse::Factors if !value.is_finite() => refuse(
                format!("model `{name}` has the weight {value}, which is no finite number"),
                "give a finite number",
            ),
            WeightUse::Shares if value < 0.0 => refuse(
                format!(
                    "model `{name}` has the weight {value}, and {method} shares: no share is under 0"
                ),
                "give a number that is at least 0; task-arithmetic with normalize = false subtracts",
            ),
            WeightUse::Shares | WeightUse::Factors => Ok(value),
        }
    }

    /// What is dropped of this model by its own parameters.
    fn sparsify(
        &self,
        models: usize,
        place: &Place,
    ) -> Result<Option<SparsifyRule>, ReadRecipeError> {
        let ModelTable {
            density,
            gamma,
            epsilon,
            ..
        } = self.table;
        let written = [("density", density), ("gamma", gamma), ("epsilon", epsilon)];
        let mut written = written
            .into_iter()
            .filter_map(|(key, value)| value.as_ref().map(|value| (key, value)))
            .peekable();
        let Some(&(key, value)) = written.peek() else {
            return Ok(None);
        };
        let (name, method) = (self.name, self.recipe.method_name());
        let Some(sparsify) = self.recipe.sparsify else {
            let place = self.document.place(value.span());
            let what = format!(
                "model `{name}` has `{key}`, and {method} drops nothing of a model by itself"
            );
            let hint = format!(
                "remove `{key}`, or choose a method that drops: ties, dare-ties, della, breadcrumbs"
            );
            return Err(refused(place, what, hint));
        };
        let mut rule = sparsify.rule;
        for (key, value) in written {
            if !set(&mut rule, key, *value.get_ref()) {
                let place = self.document.place(value.span());
                let what = format!(
                    "model `{name}` has `{key}`, and {} has no such parameter",
                    rule.name()
                );
                return Err(refused(place, what, format!("remove `{key}`")));
            }
        }
        let own = Recipe {
            sparsify: Some(Sparsify { rule, ..sparsify }),
            ..self.recipe.clone()
        };
        own.check(models).map_err(|error| {
            let hint = "mend the parameters of this model";
            refused(place.clone(), format!("model `{name}`: {error}"), hint)
        })?;
        Ok(Some(rule))
    }
}

/// Sets a parameter of a rule by its name; answers whether the rule has it.
fn set(rule: &mut SparsifyRule, key: &str, value: f64) -> bool {
    let slot = match (rule, key) {
        (
            SparsifyRule::Trim { density }
            | SparsifyRule::Dare { density }
            | SparsifyRule::Della { density, .. }
            | SparsifyRule::Breadcrumbs { density, .. },
            "density",
        ) => density,
        (SparsifyRule::Della { epsilon, .. }, "epsilon") => epsilon,
        (SparsifyRule::Breadcrumbs { gamma, .. }, "gamma") => gamma,
        (
            SparsifyRule::Trim { .. }
            | SparsifyRule::Dare { .. }
            | SparsifyRule::Della { .. }
            | SparsifyRule::Breadcrumbs { .. },
            _,
        ) => return false,
    };
    *slot = value;
    true
}
