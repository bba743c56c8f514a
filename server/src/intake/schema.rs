//! Schema: the payload is a task vector against the round's base, in the announced encoding.

use std::path::Path;

use fedmerge_common::checkpoint::{Checkpoint, ReadCheckpointError};
use fedmerge_common::failure::explain;
use fedmerge_common::reason::Rejection;
use fedmerge_common::schema::{DtypeRule, Schema};
use fedmerge_common::task_vector::Encoding;
use fedmerge_common::task_vector::header::{FORMAT, FORMAT_KEY, expected_schema};

use crate::intake::{IntakeError, Stop};

pub(super) fn check(path: &Path, encoding: Encoding, base: &Schema) -> Result<Checkpoint, Stop> {
    let payload = Checkpoint::open(path).map_err(blame)?;
    // Files of other programs lack the mark; one that is marked as something else was sent by mistake.
    if let Some(format) = payload.metadata().get(FORMAT_KEY)
        && format != FORMAT
    {
        return Err(malformed(&format!(
            "the payload is marked as `{format}`, expected `{FORMAT}`"
        )));
    }
    let expected = expected_schema(base, encoding);
    match expected.first_difference(payload.schema(), DtypeRule::Exact) {
        Some(difference) => Err(Rejection::schema_mismatch(&difference).into()),
        None => Ok(payload),
    }
}

fn blame(error: ReadCheckpointError) -> Stop {
    match error.invalid_content() {
        Some(content) => malformed(&explain(content)),
        None => IntakeError::Tensors(error).into(),
    }
}

fn malformed(message: &str) -> Stop {
    Rejection::malformed(message).into()
}
