//! A TOML file that a person wrote: where it is, what it says, and which of its keys nobody knows.
//!
//! Unknown keys are looked for before values are read, so that a misspelt key is reported as such and not as the missing or
//! misplaced value that it causes. Every complaint carries the file, and the line where there is one.

use std::fmt;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use fedmerge_common::failure::{ExitCode, Failure};
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::nearest::nearest;

/// A place in a file that a person wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// The line, counted from 1, where the fault is on one.
    pub line: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.path.display())?;
        self.line
            .map_or(Ok(()), |line| write!(formatter, ":{line}"))
    }
}

/// What the TOML reader says, with the line shown.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.to_string().trim_end())]
pub struct TomlError(Box<toml::de::Error>);

/// Why a file cannot be used, whatever it is meant to say.
#[derive(Debug, thiserror::Error)]
pub enum ReadDocumentError {
    /// There is no such file.
    #[error("{} does not exist", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is no TOML, or a value is of the wrong type.
    #[error("{} cannot be understood", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: TomlError,
    },
    /// A key is not known where it stands.
    #[error("{place}: unknown key `{key}` {table}")]
    UnknownKey {
        /// Where.
        place: Place,
        /// The key.
        key: String,
        /// The table it stands in, with its preposition.
        table: String,
        /// What was probably meant.
        hint: String,
    },
    /// Something is known, but not implemented yet.
    #[error("{place}: {what} is not available in this version")]
    NotAvailable {
        /// Where.
        place: Place,
        /// What was asked for.
        what: String,
        /// What to do without it.
        hint: String,
    },
}

impl From<ReadDocumentError> for Failure {
    fn from(error: ReadDocumentError) -> Self {
        let failure = Self::from_error(ExitCode::BadConfiguration, &error);
        match error {
            ReadDocumentError::Missing { .. } => failure.with_hint(
                "give the directory that `fedmerge server init DIR` made, or make one with it",
            ),
            ReadDocumentError::UnknownKey { hint, .. }
            | ReadDocumentError::NotAvailable { hint, .. } => failure.with_hint(hint),
            ReadDocumentError::Parse { .. } => failure.with_hint(
                "mend that line, then see that all is right: fedmerge server check-config",
            ),
            ReadDocumentError::Read { .. } => failure,
        }
    }
}

/// The keys of one table of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KnownTable {
    /// Its name from the top, such as `round.cohort`; empty for the top itself.
    pub(crate) name: &'static str,
    /// Keys that have a meaning.
    pub(crate) keys: &'static [&'static str],
    /// Values of `method` that a later version will know: their tables are not looked into.
    pub(crate) planned_methods: &'static [&'static str],
}

impl KnownTable {
    /// A table all of whose keys are implemented.
    pub(crate) const fn new(name: &'static str, keys: &'static [&'static str]) -> Self {
        Self {
            name,
            keys,
            planned_methods: &[],
        }
    }

    fn is_for_later(&self, table: &DeTable<'_>) -> bool {
        let method = table
            .get("method")
            .and_then(|value| value.as_ref().as_str());
        method.is_some_and(|method| self.planned_methods.contains(&method))
    }
}

fn heading(table: &str) -> String {
    if table.is_empty() {
        "at the top".to_owned()
    } else {
        format!("in [{table}]")
    }
}

/// A key that has no meaning where it stands.
struct Stray<'a> {
    span: Range<usize>,
    key: String,
    table: &'a KnownTable,
}

/// A file and its text.
#[derive(Debug)]
pub(crate) struct Document {
    path: PathBuf,
    text: String,
}

impl Document {
    /// A text that stands in the file at `path`.
    pub(crate) fn new(path: &Path, text: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            text: text.into(),
        }
    }

    /// Reads a file, without understanding it.
    pub(crate) fn read(path: &Path) -> Result<Self, ReadDocumentError> {
        let text = fs::read_to_string(path).map_err(|source| {
            let path = path.to_owned();
            if source.kind() == io::ErrorKind::NotFound {
                ReadDocumentError::Missing { path }
            } else {
                ReadDocumentError::Read { path, source }
            }
        })?;
        Ok(Self::new(path, text))
    }

    /// The whole text.
    pub(crate) fn into_text(self) -> String {
        self.text
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file as a whole, for faults that are on no line.
    pub(crate) fn whole(&self) -> Place {
        Place {
            path: self.path.clone(),
            line: None,
        }
    }

    /// The place of a span of bytes of the text.
    pub(crate) fn place(&self, span: Range<usize>) -> Place {
        let before = self.text.as_bytes().iter().take(span.start);
        Place {
            path: self.path.clone(),
            line: Some(1 + before.filter(|byte| **byte == b'\n').count()),
        }
    }

    /// The values of the file.
    pub(crate) fn values<T: DeserializeOwned>(&self) -> Result<T, ReadDocumentError> {
        toml::from_str(&self.text).map_err(|error| self.parse_error(error))
    }

    fn parse_error(&self, error: toml::de::Error) -> ReadDocumentError {
        ReadDocumentError::Parse {
            path: self.path.clone(),
            source: TomlError(Box::new(error)),
        }
    }

    /// Refuses the first key that no table knows.
    pub(crate) fn refuse_unknown_keys(
        &self,
        tables: &[KnownTable],
    ) -> Result<(), ReadDocumentError> {
        let top = DeTable::parse(&self.text).map_err(|error| self.parse_error(error))?;
        let mut strays = Vec::new();
        collect_strays("", top.get_ref(), tables, &mut strays);
        let Some(stray) = strays.into_iter().min_by_key(|stray| stray.span.start) else {
            return Ok(());
        };
        Err(ReadDocumentError::UnknownKey {
            place: self.place(stray.span),
            hint: hint(&stray.key, stray.table, tables),
            key: stray.key,
            table: heading(stray.table.name),
        })
    }
}

fn collect_strays<'a>(
    name: &str,
    table: &DeTable<'_>,
    tables: &'a [KnownTable],
    strays: &mut Vec<Stray<'a>>,
) {
    let Some(known) = tables.iter().find(|known| known.name == name) else {
        return;
    };
    let is_for_later = known.is_for_later(table);
    for (key, value) in table {
        let text = key.get_ref().as_ref();
        if known.keys.contains(&text) {
            let inner = if name.is_empty() {
                text.to_owned()
            } else {
                format!("{name}.{text}")
            };
            for table in tables_in(value) {
                collect_strays(&inner, table, tables, strays);
            }
        } else if !is_for_later {
            strays.push(Stray {
                span: key.span(),
                key: text.to_owned(),
                table: known,
            });
        }
    }
}

/// The value when it is a table, or those of its elements that are.
fn tables_in<'a, 'i>(value: &'a Spanned<DeValue<'i>>) -> impl Iterator<Item = &'a DeTable<'i>> {
    let value = value.get_ref();
    let elements = value.as_array().into_iter().flat_map(|array| array.iter());
    value
        .as_table()
        .into_iter()
        .chain(elements.filter_map(|element| element.get_ref().as_table()))
}

/// A key that stands in the wrong table is told its own; a misspelt one its neighbour; any other what there is.
fn hint(key: &str, table: &KnownTable, tables: &[KnownTable]) -> String {
    if let Some(home) = tables.iter().find(|table| table.keys.contains(&key)) {
        return match home.name {
            "" => format!("`{key}` belongs at the top, before the first [table]"),
            name => format!("`{key}` belongs in [{name}]"),
        };
    }
    match nearest(key, table.keys.iter().copied()) {
        Some(neighbour) => format!("did you mean `{neighbour}`?"),
        None => format!(
            "the keys {} are {}",
            heading(table.name),
            table.keys.join(", ")
        ),
    }
}
