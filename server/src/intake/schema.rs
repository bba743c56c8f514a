//! Schema: the payload is a task vector against the round's base, in the announced encoding and in its only form.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use fedmerge_common::failure::explain;
use fedmerge_common::reason::Rejection;
use fedmerge_common::schema::{DtypeRule, Schema, SchemaDifference, TensorSpec};
use fedmerge_common::task_vector::coded::{InvalidTaskVector, ReadTaskVectorError, TaskVector};
use fedmerge_common::task_vector::header::expected_schema;
use fedmerge_common::task_vector::{Content, Encoding};

use crate::intake::{IntakeError, Stop, Terms, go_on_unless};

pub(super) fn check(
    path: &Path,
    encoding: Encoding,
    base: &Schema,
    terms: &Terms,
    cancelled: &AtomicBool,
) -> Result<TaskVector, Stop> {
    let payload = TaskVector::open_within(path, base, &terms.header).map_err(blame)?;
    // Files of other programs lack the mark; one that is marked as something else was sent by mistake.
    payload.check_encoding(encoding).map_err(refuse)?;
    if let TaskVector::Coded(coded) = &payload {
        coded.check_mask(&terms.sparsity).map_err(refuse)?;
        let go_on = || !cancelled.load(Ordering::Relaxed);
        coded.verify(&go_on).map_err(blame)?;
        go_on_unless(cancelled)?;
    } else if let Content::Floats(dtype) = encoding.content() {
        let expected = present(&expected_schema(base, dtype), payload.schema());
        if let Some(difference) = expected.first_difference(payload.schema(), DtypeRule::Exact) {
            return Err(Rejection::schema_mismatch(&difference).into());
        }
    }
    Ok(payload)
}

/// The tensors that are not left out.
fn present(expected: &Schema, found: &Schema) -> Schema {
    let is_there = |tensor: &&TensorSpec| found.index_of(tensor.name()).is_some();
    let tensors = expected.iter().filter(is_there).cloned();
    Schema::new(tensors.collect()).expect("names and sizes are those of a schema")
}

fn blame(error: ReadTaskVectorError) -> Stop {
    match error {
        ReadTaskVectorError::Invalid(content) => refuse(content).into(),
        ReadTaskVectorError::Checkpoint(error) => match error.invalid_content() {
            Some(content) => Rejection::malformed(explain(content)).into(),
            None => IntakeError::Tensors(error.into()).into(),
        },
    }
}

fn refuse(content: InvalidTaskVector) -> Rejection {
    if let InvalidTaskVector::Unexpected { tensor } = content {
        Rejection::schema_mismatch(&SchemaDifference::Unexpected { tensor })
    } else {
        Rejection::malformed(explain(&content))
    }
}
