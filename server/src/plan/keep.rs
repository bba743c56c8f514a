//! `keep`: which models stay on the server's disk.

use super::ReadPlanError;
use super::document::Document;
use super::file::KeepTable;
use crate::keep::Keep;

const DEFAULT_BEST: usize = 1;
/// The base, and the one that it was merged from: the next merge looks back to it.
const LEAST_LAST: usize = 2;

/// What the plan keeps; none keeps everything.
pub(super) fn keep(
    table: Option<&KeepTable>,
    document: &Document,
) -> Result<Option<Keep>, ReadPlanError> {
    let Some(table) = table else {
        return Ok(None);
    };
    let last = match &table.last {
        Some(last) if *last.get_ref() < LEAST_LAST => {
            return Err(ReadPlanError::Value {
                place: document.place(last.span()),
                key: "last",
                fault: "is under 2: the base stays, and the next merge looks back to the model before it",
            });
        }
        Some(last) => *last.get_ref(),
        None => LEAST_LAST,
    };
    Ok(Some(Keep {
        best: table.best.unwrap_or(DEFAULT_BEST),
        last,
        every: table.every.unwrap_or(0),
    }))
}
