//! The straight line, second step: checkpoint − base, encoded, with its digest.
//!
//! The checkpoint is whatever a user's program wrote, so everything about it is checked here, where the person who can
//! mend it reads the message: it names the first tensor that differs. Values are not judged; the server does that.

use std::path::Path;

use fedmerge_common::checkpoint::{Checkpoint, ReadCheckpointError};
use fedmerge_common::digest::Digest;
use fedmerge_common::failure::explain;
use fedmerge_common::reason::{Decline, DeclineKind};
use fedmerge_common::schema::DtypeRule;
use fedmerge_common::task_vector::delta::{WriteTaskVectorError, write_task_vector};
use fedmerge_common::task_vector::encode::Difference;
use fedmerge_common::task_vector::encoding::Density;
use fedmerge_common::task_vector::{Content, Encoding};
use fedmerge_common::update::UpdateHeader;

use crate::task::Task;
use crate::trainer::Trained;
use crate::trainer::workplace::Workplace;

/// Writes the update of a finished training to `place.update` and describes it.
///
/// # Errors
/// The decline for a checkpoint that is missing, unreadable or of another shape, a plan whose encodings this client
/// cannot write, or a full disk.
pub fn prepare(place: &Workplace, task: &Task, trained: &Trained) -> Result<UpdateHeader, Decline> {
    let encoding = choose(&task.encodings)?;
    let base = Checkpoint::open(&place.base).map_err(|error| {
        Decline::new(
            DeclineKind::Storage,
            with_sources("the base cannot be read", &error),
        )
    })?;
    let tuned = open_tuned(&place.out)?;
    check_untouched(&place.base, task)?;
    if let Some(difference) = base
        .schema()
        .first_difference(tuned.schema(), DtypeRule::AnyFloat)
    {
        return Err(bad(format!(
            "the trainer's checkpoint does not fit the base: {difference}"
        )));
    }
    place.clear_update().map_err(|error| {
        Decline::new(
            DeclineKind::Storage,
            with_sources("the update cannot be written", &error),
        )
    })?;
    let written = match encoding.content() {
        Content::Floats(dtype) => write_task_vector(&base, &tuned, dtype, &place.update),
        Content::Coded(codec) => Difference::new(&base, &tuned)
            .and_then(|difference| difference.write(codec, Density::default(), &place.update)),
    };
    let written = written.map_err(blame)?;
    Ok(UpdateHeader {
        round: task.round,
        base: task.base.digest,
        encoding,
        payload: written.digest,
        payload_bytes: written.bytes,
        num_examples: trained.num_examples.unwrap_or(1),
        metrics: trained.metrics.clone(),
    })
}

/// Whose fault it is: what the trainer wrote, or our disk.
fn blame(error: WriteTaskVectorError) -> Decline {
    let words = with_sources("the task vector cannot be made", &error);
    match error {
        WriteTaskVectorError::SchemaMismatch(_)
        | WriteTaskVectorError::FineTuned(_)
        | WriteTaskVectorError::NonFinite { .. } => bad(words),
        WriteTaskVectorError::Base(_)
        | WriteTaskVectorError::Residual(_)
        | WriteTaskVectorError::Write(_)
        | WriteTaskVectorError::ReadBack(_) => Decline::new(DeclineKind::Storage, words),
    }
}

fn choose(allowed: &[Encoding]) -> Result<Encoding, Decline> {
    allowed.first().copied().ok_or_else(|| {
        let detail = "the plan allows no encoding that this client can write; a newer fedmerge may";
        Decline::new(DeclineKind::Policy, detail)
    })
}

/// A trainer that writes to its base, as root can, would send a difference to something that nobody else has.
fn check_untouched(base: &Path, task: &Task) -> Result<(), Decline> {
    let found = Digest::of_file(base).map_err(|error| {
        Decline::new(
            DeclineKind::Storage,
            with_sources("the base cannot be read", &error),
        )
    })?;
    if found == task.base.digest {
        return Ok(());
    }
    Err(bad(
        "the trainer changed the file FEDMERGE_BASE, which it may only read".to_owned(),
    ))
}

fn open_tuned(out: &Path) -> Result<Checkpoint, Decline> {
    if !out.exists() {
        return Err(bad(
            "the trainer ended well but wrote no checkpoint to FEDMERGE_OUT".to_owned(),
        ));
    }
    Checkpoint::open(out).map_err(|error: ReadCheckpointError| {
        let what = "the trainer's checkpoint cannot be read";
        // What is wrong with its content is told without the path: where a site keeps its files is the site's business.
        bad(match error.invalid_content() {
            Some(content) => with_sources(what, content),
            None => with_sources(what, &error),
        })
    })
}

fn bad(detail: String) -> Decline {
    Decline::new(DeclineKind::BadCheckpoint, detail)
}

/// One line of an error and everything behind it.
pub(crate) fn with_sources(what: &str, error: &dyn std::error::Error) -> String {
    format!("{what}: {}", explain(error))
}

#[cfg(test)]
mod tests;
