//! Why a recipe cannot be used, with the place in its file and what to do.

use std::fmt::Display;
use std::path::PathBuf;

use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_merge::RecipeError;

use crate::plan::{Place, ReadDocumentError, ReadPlanError};

/// Why a recipe cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadRecipeError {
    /// It cannot be read or understood, or its `[merge]` cannot work.
    #[error(transparent)]
    Plan(#[from] ReadPlanError),
    /// It is in the format of another program.
    #[error("{} is YAML, and a recipe is TOML in this version", path.display())]
    Yaml {
        /// The file.
        path: PathBuf,
    },
    /// Something in it cannot be meant so.
    #[error("{place}: {what}")]
    Refused {
        /// Where.
        place: Place,
        /// What, and why not.
        what: String,
        /// What to write instead.
        hint: String,
    },
}

pub(super) fn refused(place: Place, what: impl Display, hint: impl Display) -> ReadRecipeError {
    ReadRecipeError::Refused {
        place,
        what: what.to_string(),
        hint: hint.to_string(),
    }
}

impl From<ReadRecipeError> for Failure {
    fn from(error: ReadRecipeError) -> Self {
        let failure = Self::from_error(ExitCode::BadConfiguration, &error);
        match error {
            ReadRecipeError::Plan(ReadPlanError::Document(ReadDocumentError::Missing {
                ..
            })) => failure.with_hint("`fedmerge merge --help` shows a recipe to begin with"),
            ReadRecipeError::Plan(ReadPlanError::Document(ReadDocumentError::Parse {
                ..
            })) => failure.with_hint(
                "mend that line, then see that all is right: fedmerge merge RECIPE --out PATH --dry-run",
            ),
            ReadRecipeError::Plan(ReadPlanError::Merge {
                source: RecipeError::Tolerate { .. } | RecipeError::TooFew { .. },
                ..
            }) => failure.with_hint("give more models, or lower `tolerate` in [merge]"),
            ReadRecipeError::Plan(error) => error.into(),
            ReadRecipeError::Yaml { .. } => failure.with_hint(
                "mergekit's YAML comes in a later version; `fedmerge merge --help` shows a recipe to write instead",
            ),
            ReadRecipeError::Refused { hint, .. } => failure.with_hint(hint),
        }
    }
}
