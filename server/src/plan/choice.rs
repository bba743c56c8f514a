//! A name out of a closed set: those that this version knows, and those that a later one will.
//!
//! A wrong name is answered with its nearest neighbour, a name of a later version with what there is instead.

use std::ops::Range;

use toml::Spanned;

use super::ReadPlanError;
use super::document::{Document, ReadDocumentError};
use super::nearest::nearest;

/// What a key may say.
#[derive(Debug)]
pub(super) struct Choice<T: 'static> {
    /// What the names are names of, as it stands before a name in a sentence.
    pub(super) what: &'static str,
    /// The names and their meaning.
    pub(super) known: &'static [(&'static str, T)],
    /// Names that a later version will know.
    pub(super) planned: &'static [&'static str],
}

/// A meaning that has keys of its own in the table that names it.
pub(super) trait Keyed {
    /// Whether the key has an effect beside the name.
    fn has_key(&self, key: &str) -> bool;
}

/// A key that only some names have, and where it is written, if it is.
pub(super) type Written = (&'static str, Option<Range<usize>>);

impl<T: Copy + Keyed> Choice<T> {
    /// Refuses the first key of `written` that would have no effect beside the known name `chosen`.
    pub(super) fn refuse_foreign_keys(
        &self,
        chosen: &str,
        written: &[Written],
        document: &Document,
    ) -> Result<(), ReadPlanError> {
        let chosen_has = |key: &str| {
            let mut known = self.known.iter();
            known.any(|(name, meaning)| *name == chosen && meaning.has_key(key))
        };
        for (key, span) in written {
            if let Some(span) = span.clone().filter(|_| !chosen_has(key)) {
                let owners = self.known.iter();
                let owners = owners.filter(|(_, meaning)| meaning.has_key(key));
                return Err(ReadPlanError::ForeignKey {
                    place: document.place(span),
                    key,
                    what: self.what,
                    name: chosen.to_owned(),
                    owners: owners.map(|(name, _)| *name).collect(),
                });
            }
        }
        Ok(())
    }
}

impl<T: Copy> Choice<T> {
    /// The known names.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.known.iter().map(|(name, _)| *name)
    }

    /// The meaning of the name that `document` says, or the refusal.
    pub(super) fn choose(
        &self,
        name: &Spanned<String>,
        document: &Document,
    ) -> Result<T, ReadPlanError> {
        let text = name.get_ref().as_str();
        if let Some((_, meaning)) = self.known.iter().find(|(known, _)| *known == text) {
            return Ok(*meaning);
        }
        let place = document.place(name.span());
        let names = self.names().collect::<Vec<_>>().join(", ");
        if self.planned.contains(&text) {
            return Err(ReadPlanError::Document(ReadDocumentError::NotAvailable {
                place,
                what: format!("the {} `{text}`", self.what),
                hint: format!("available: {names}"),
            }));
        }
        Err(ReadPlanError::UnknownName {
            place,
            what: self.what,
            name: text.to_owned(),
            hint: match nearest(text, self.names().chain(self.planned.iter().copied())) {
                Some(neighbour) => format!("did you mean `{neighbour}`?"),
                None => format!("available: {names}"),
            },
        })
    }

    /// Like [`Self::choose`], for a key that may be absent.
    pub(super) fn choose_or(
        &self,
        default: T,
        name: Option<&Spanned<String>>,
        document: &Document,
    ) -> Result<T, ReadPlanError> {
        name.map_or(Ok(default), |name| self.choose(name, document))
    }
}
