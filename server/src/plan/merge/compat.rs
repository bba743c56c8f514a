//! `compat`: whose arithmetic is meant, where a rule's references disagree.
//!
//! What the names stand for is in the documentation of the methods; here is only which of them means something to a rule.

use toml::Spanned;

use crate::plan::ReadPlanError;
use crate::plan::choice::Choice;
use crate::plan::document::Document;

/// A reference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Compat {
    /// The rule's own paper, with weights where it has none.
    #[default]
    Paper,
    /// mergekit.
    Mergekit,
    /// Hugging Face PEFT.
    Peft,
    /// `ByzFL`.
    Byzfl,
}

const COMPATS: Choice<Compat> = Choice {
    what: "compat",
    known: &[
        ("paper", Compat::Paper),
        ("mergekit", Compat::Mergekit),
        ("peft", Compat::Peft),
        ("byzfl", Compat::Byzfl),
    ],
    planned: &[],
};

/// The reference that is named, if a rule of the recipe has it.
pub(super) fn of(
    name: Option<&Spanned<String>>,
    references: [&[Compat]; 2],
    document: &Document,
) -> Result<Compat, ReadPlanError> {
    let Some(name) = name else {
        return Ok(Compat::Paper);
    };
    let compat = COMPATS.choose(name, document)?;
    if compat == Compat::Paper || references.iter().any(|known| known.contains(&compat)) {
        return Ok(compat);
    }
    Err(ReadPlanError::Value {
        place: document.place(name.span()),
        key: "compat",
        fault: "would have no effect: that reference has nothing of its own for what is chosen here",
    })
}
