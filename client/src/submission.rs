//! The straight line, second step: checkpoint − base, encoded, with its digest.
//!
//! The checkpoint is whatever a user's program wrote, so everything about it is checked here, where the person who can
//! mend it reads the message: it names the first tensor that differs. Values are not judged; the server does that. An encoding
//! that loses something is given what those of earlier rounds lost, and what it loses itself is written beside the update.

use std::collections::BTreeMap;
use std::path::Path;

use fedmerge_common::checkpoint::{Checkpoint, ReadCheckpointError, WrittenCheckpoint};
use fedmerge_common::digest::Digest;
use fedmerge_common::dtype::Dtype;
use fedmerge_common::failure::explain;
use fedmerge_common::reason::{Decline, DeclineKind};
use fedmerge_common::schema::{DtypeRule, Schema};
use fedmerge_common::task_vector::coded::{CodedTaskVector, ReadTaskVectorError};
use fedmerge_common::task_vector::delta::{WriteTaskVectorError, write_task_vector};
use fedmerge_common::task_vector::encode::Difference;
use fedmerge_common::task_vector::private::{LocalNoise, write_private_task_vector};
use fedmerge_common::task_vector::{Content, Encoding};
use fedmerge_common::update::UpdateHeader;
use rand::RngExt;

use crate::policy::Policy;
use crate::residual::{Recalled, Residual};
use crate::task::Task;
use crate::trainer::Trained;
use crate::trainer::workplace::Workplace;

/// An update that is ready to leave.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    /// Its description.
    pub header: UpdateHeader,
    /// Why what earlier encodings lost was not added to it, where there was something.
    pub residual_dropped: Option<&'static str>,
}

/// Writes the update of a finished training to `place.update` and describes it. An encoding that loses something starts from
/// `residual`, and leaves in `place.residual` what it lost. Tensors that the policy withholds are not in it.
///
/// # Errors
/// The decline for a checkpoint that is missing, unreadable or of another shape, a plan whose encodings this client
/// cannot write, or a full disk.
pub fn prepare(
    place: &Workplace,
    task: &Task,
    trained: &Trained,
    residual: &Residual,
    policy: &Policy,
) -> Result<Prepared, Decline> {
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
    let header = |written: WrittenCheckpoint| UpdateHeader {
        round: task.round,
        base: task.base.digest,
        encoding,
        payload: written.digest,
        payload_bytes: written.bytes,
        num_examples: trained.num_examples.unwrap_or(1),
        metrics: trained.metrics.clone(),
    };
    policy.check_noise(task.noise.as_ref())?;
    let is_withheld = |tensor: &str| policy.withholds(tensor);
    let codec = match encoding.content() {
        Content::Floats(dtype) => {
            let pair = (&base, &tuned);
            let written = write_floats(pair, dtype, task.noise.as_ref(), &is_withheld, place)?;
            return Ok(Prepared {
                header: header(written),
                residual_dropped: None,
            });
        }
        Content::Coded(_) if task.noise.is_some() => return Err(not_exact(encoding)),
        Content::Coded(codec) => codec,
    };
    let recalled = if encoding.has_feedback() {
        residual.recall(task.round, base.schema())
    } else {
        Recalled::Nothing
    };
    let difference = Difference::new(&base, &tuned).map_err(blame)?;
    let difference = difference.without(&is_withheld);
    let (difference, residual_dropped) = match &recalled {
        Recalled::Nothing => (difference, None),
        Recalled::Kept(lost) => (difference.with_residual(lost), None),
        Recalled::Dropped(reason) => (difference, Some(*reason)),
    };
    let sparsity = task.sparsity(residual.client());
    let written = difference.write(codec, &sparsity, &place.update);
    let header = header(written.map_err(blame)?);
    if encoding.has_feedback() {
        let metadata = residual.metadata(&header);
        keep_lost(place, &difference, base.schema(), metadata).map_err(blame)?;
    }
    Ok(Prepared {
        header,
        residual_dropped,
    })
}

/// Writes a task vector of floats, hidden by noise where the plan wants that.
fn write_floats(
    (base, tuned): (&Checkpoint, &Checkpoint),
    dtype: Dtype,
    noise: Option<&LocalNoise>,
    is_withheld: &dyn Fn(&str) -> bool,
    place: &Workplace,
) -> Result<WrittenCheckpoint, Decline> {
    let out = &place.update;
    let written = match noise {
        None => write_task_vector(base, tuned, dtype, is_withheld, out),
        Some(_) if dtype != Dtype::F32 => return Err(not_exact(dtype.name())),
        Some(noise) => {
            let mut normals = normals();
            write_private_task_vector((base, tuned), noise, &mut normals, is_withheld, out)
        }
    };
    written.map_err(blame)
}

/// Noise that an encoding changes is not the noise that was promised.
fn not_exact(encoding: impl std::fmt::Display) -> Decline {
    let words = format!("noise of this client's own must be sent as f32, not as {encoding}");
    Decline::new(DeclineKind::Policy, words)
}

/// Standard normal numbers from the system's randomness, by Box and Muller: who could foretell them could take them off again.
fn normals() -> impl FnMut() -> f64 {
    let mut random = rand::rng();
    let mut second = None;
    move || {
        if let Some(second) = second.take() {
            return second;
        }
        // In (0, 1]: a logarithm of 0 would be infinite.
        let radius = (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt();
        let (sine, cosine) = (std::f64::consts::TAU * random.random::<f64>()).sin_cos();
        second = Some(radius * sine);
        radius * cosine
    }
}

/// Writes what the update that was just written does not say.
fn keep_lost(
    place: &Workplace,
    difference: &Difference<'_>,
    base: &Schema,
    metadata: BTreeMap<String, String>,
) -> Result<(), WriteTaskVectorError> {
    let update = Checkpoint::open(&place.update).map_err(ReadTaskVectorError::from);
    let coded = update.and_then(|update| CodedTaskVector::of(update, base));
    let coded = coded.map_err(WriteTaskVectorError::ReadBack)?;
    difference.write_residual(&coded, &metadata, &place.residual)?;
    Ok(())
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
