//! A recipe: a TOML file that says which checkpoints on disk to merge, and how. Its `[merge]` is that of a federation's plan.
//!
//! A recipe that exists names its models once each and gives no parameter that would be ignored. The files it names are not
//! looked at here, and their paths are seen from its own directory.

mod error;
mod model;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use fedmerge_common::dtype::Dtype;
use fedmerge_merge::Recipe;
use serde::Deserialize;
use toml::Spanned;

use super::choice::Choice;
use super::document::{Document, KnownTable};
use super::fields::fields_of;
use super::file::{MergeTable, merge_tables};
use super::nearest::nearest;
use super::{Freeze, ReadPlanError, beside, merge};

pub use error::ReadRecipeError;
use error::refused;
use model::ModelTable;
pub use model::{ModelEntry, ModelKind};

/// The types that a merged model may be written in.
const DTYPES: Choice<Dtype> = Choice {
    what: "dtype",
    known: &[
        ("f32", Dtype::F32),
        ("f16", Dtype::F16),
        ("bf16", Dtype::Bf16),
    ],
    planned: &[],
};

/// The whole file.
#[derive(Debug, Deserialize)]
struct RecipeFile {
    base: Option<PathBuf>,
    out_dtype: Option<Spanned<String>>,
    #[serde(default)]
    merge: MergeTable,
    #[serde(default)]
    model: Vec<Spanned<ModelTable>>,
}

/// Which checkpoints to merge, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct MergeRecipe {
    /// The file that says so.
    pub path: PathBuf,
    /// The checkpoint that the models were fine-tuned from: a file or a directory.
    pub base: PathBuf,
    /// The same, as it is written in the recipe.
    pub written_base: PathBuf,
    /// The models, in the order of the file.
    pub models: Vec<ModelEntry>,
    /// The stages of the merge; possible with so many models.
    pub recipe: Recipe,
    /// Tensors that stay as they are in the base.
    pub freeze: Freeze,
    /// Position of the model that the method trusts, where it trusts one.
    pub trusted: Option<usize>,
    /// The type of the merged tensors; none: each as in the base.
    pub out_dtype: Option<Dtype>,
}

impl MergeRecipe {
    /// Reads a recipe's file.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn read(path: &Path) -> Result<Self, ReadRecipeError> {
        refuse_yaml(path)?;
        Self::of(&Document::read(path).map_err(ReadPlanError::from)?)
    }

    /// Reads a recipe from a text that stands, or will stand, in the file at `path`.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ReadRecipeError> {
        refuse_yaml(path)?;
        Self::of(&Document::new(path, text))
    }

    fn of(document: &Document) -> Result<Self, ReadRecipeError> {
        document
            .refuse_unknown_keys(&tables())
            .map_err(ReadPlanError::from)?;
        let file: RecipeFile = document.values().map_err(ReadPlanError::from)?;
        let base = file.base.filter(|base| !base.as_os_str().is_empty());
        let base = base.ok_or_else(|| ReadPlanError::MissingKey {
            place: document.whole(),
            key: "base",
            example: "base = \"base/\", the checkpoint that the models were fine-tuned from",
        })?;
        refuse_what_needs_rounds(&file.merge, document)?;
        let recipe = merge::recipe(&file.merge, document)?;
        if file.model.is_empty() {
            let hint =
                "add [[model]] and under it path = \"…\", once for each fine-tuned checkpoint";
            return Err(refused(
                document.whole(),
                "there is no model to merge",
                hint,
            ));
        }
        recipe
            .check(file.model.len())
            .map_err(|source| ReadPlanError::Merge {
                path: document.path().to_owned(),
                source,
            })?;
        let models = model::entries(&file.model, &recipe, document)?;
        Ok(Self {
            path: document.path().to_owned(),
            base: beside(document.path(), &base),
            written_base: base,
            trusted: trusted(&file.merge, &recipe, &models, document)?,
            freeze: merge::freeze(&file.merge, document)?,
            out_dtype: file
                .out_dtype
                .map(|name| DTYPES.choose(&name, document))
                .transpose()?,
            models,
            recipe,
        })
    }
}

fn tables() -> Vec<KnownTable> {
    let mut tables = vec![
        KnownTable::new("", fields_of::<RecipeFile>()),
        KnownTable::new("model", fields_of::<ModelTable>()),
    ];
    tables.extend(merge_tables());
    tables
}

fn refuse_yaml(path: &Path) -> Result<(), ReadRecipeError> {
    let extension = path.extension().and_then(|extension| extension.to_str());
    if extension.is_some_and(|extension| matches!(extension, "yaml" | "yml")) {
        return Err(ReadRecipeError::Yaml {
            path: path.to_owned(),
        });
    }
    Ok(())
}

/// Refuses the keys of `[merge]` that mean something from round to round alone.
fn refuse_what_needs_rounds(
    table: &MergeTable,
    document: &Document,
) -> Result<(), ReadRecipeError> {
    if let Some(most) = &table.max_weight {
        return Err(refused(
            document.place(most.span()),
            "`max_weight` bounds what clients claim, and checkpoints on disk claim nothing",
            "remove it: the weights under [[model]] are yours",
        ));
    }
    if let Some(weight) = &table.weight {
        return Err(refused(
            document.place(weight.span()),
            "`weight` in [merge] weighs clients by their examples, and checkpoints on disk do not tell theirs",
            "remove it, and write weight = 2.0 or the like under a [[model]] that counts more",
        ));
    }
    let Some(optimizer) = &table.optimizer else {
        return Ok(());
    };
    let method = optimizer.get_ref().method.as_ref();
    if method.is_some_and(|method| method.get_ref() == "none") {
        return Ok(());
    }
    Err(refused(
        document.place(optimizer.span()),
        "an optimizer remembers the rounds before, and a merge of checkpoints on disk has none",
        "remove `optimizer`; lambda = 0.7 or the like scales the step",
    ))
}

fn trusted(
    table: &MergeTable,
    recipe: &Recipe,
    models: &[ModelEntry],
    document: &Document,
) -> Result<Option<usize>, ReadRecipeError> {
    let Some(name) = merge::trusted(table, recipe, document)? else {
        return Ok(None);
    };
    let text = name.get_ref().as_str();
    if let Some(position) = models.iter().position(|model| model.name == text) {
        return Ok(Some(position));
    }
    let names = || models.iter().map(|model| model.name.as_str());
    let hint = match nearest(text, names()) {
        Some(neighbour) => format!("did you mean `{neighbour}`?"),
        None => format!("the models are {}", names().collect::<Vec<_>>().join(", ")),
    };
    let what = format!("`trusted` names `{text}`, and no model has that name");
    Err(refused(document.place(name.span()), what, hint))
}
