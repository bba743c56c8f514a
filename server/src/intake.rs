//! Intake: an upload becomes a [`ValidUpdate`] or a rejection with its reason, the fifth step of a task vector's way.
//!
//! It is the only maker of a `ValidUpdate`, and nothing else reaches a merge. In order: what the header claims, the
//! payload's integrity, its schema, its values. Memory is a block, whatever the update's size. What a client sent is the
//! client's fault and a rejection; what our disk does is not, and an error. It runs on the compute pool, never on the
//! async runtime.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use fedmerge_common::checkpoint::{Checkpoint, HeaderLimits, ReadCheckpointError};
use fedmerge_common::digest::Digest;
use fedmerge_common::reason::Rejection;
use fedmerge_common::task_vector::Encoding;
use fedmerge_common::task_vector::coded::ReadTaskVectorError;
use fedmerge_common::task_vector::encoding::Sparsity;
use fedmerge_common::units::ByteSize;
use fedmerge_common::update::UpdateHeader;
use fedmerge_coordinator::UpdateRef;

mod integrity;
mod lineage;
mod schema;
mod screening;

/// What a round takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// Digest of the round's base.
    pub base: Digest,
    /// Encodings that the plan allows.
    pub encodings: Vec<Encoding>,
    /// Which values an update keeps, where chance decides.
    pub sparsity: Sparsity,
    /// Largest payload.
    pub max_update: ByteSize,
    /// What is accepted of the payload's header.
    pub header: HeaderLimits,
    /// Largest number of examples; the least is 1.
    pub max_examples: u64,
    /// Largest magnitude of a value.
    pub max_magnitude: f32,
    /// How long an update may be; none: nobody knows how long they are.
    pub length: Option<LengthLimit>,
    /// Largest share of the base's weights that an update may replace, 0 to 1.
    pub max_replaced: f64,
}

/// How long an update may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LengthLimit {
    /// The median length of the updates in the last merge.
    pub typical: f64,
    /// How many times that.
    pub factor: f64,
}

/// An update that intake found sound.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidUpdate {
    header: UpdateHeader,
    norm: f64,
}

impl ValidUpdate {
    /// What the client announced, of which all is proved but the metrics and the number of examples.
    #[must_use]
    pub fn header(&self) -> &UpdateHeader {
        &self.header
    }

    /// The update as the coordinator knows it.
    #[must_use]
    pub fn update(&self) -> UpdateRef {
        UpdateRef {
            payload: self.header.payload,
            num_examples: self.header.num_examples,
            bytes: self.header.payload_bytes,
        }
    }

    /// The Euclidean norm of the whole task vector.
    #[must_use]
    pub fn norm(&self) -> f64 {
        self.norm
    }
}

/// Why intake came to no verdict.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The upload cannot be read back.
    #[error("the upload {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The upload's tensors cannot be read back.
    #[error("the upload's tensors cannot be read")]
    Tensors(#[source] ReadTaskVectorError),
    /// The base cannot be read.
    #[error("the round's base cannot be read")]
    Base(#[source] ReadCheckpointError),
    /// Nobody waits for the verdict any more.
    #[error("intake was cancelled")]
    Cancelled,
}

/// Judges an update by its header alone, before a byte moves.
///
/// # Errors
/// The first claim that the terms do not allow.
pub fn prejudge(header: &UpdateHeader, terms: &Terms) -> Result<(), Rejection> {
    if !terms.encodings.contains(&header.encoding) {
        return Err(Rejection::encoding_not_allowed(
            header.encoding,
            &terms.encodings,
        ));
    }
    if header.payload_bytes == 0 {
        // Nothing would be sent, so there would be no file to look at.
        return Err(Rejection::malformed("the payload has no bytes"));
    }
    if header.payload_bytes > terms.max_update.get() {
        return Err(Rejection::too_large(
            header.payload_bytes,
            terms.max_update.get(),
        ));
    }
    if header.base != terms.base {
        return Err(Rejection::base_mismatch(&terms.base, &header.base));
    }
    if !(1..=terms.max_examples).contains(&header.num_examples) {
        return Err(Rejection::examples(header.num_examples, terms.max_examples));
    }
    Ok(())
}

/// Judges a whole upload: the file at `path` must be what `header` announced, a task vector against `base`. It is hashed unless its
/// digest is `known`.
///
/// # Errors
/// When our disk fails, or `cancelled` is set; it is looked at in every block.
pub fn validate(
    path: &Path,
    header: &UpdateHeader,
    known: Option<Digest>,
    base: &Checkpoint,
    terms: &Terms,
    cancelled: &AtomicBool,
) -> Result<Result<ValidUpdate, Rejection>, IntakeError> {
    let verdict = judge(path, header, known, base, terms, cancelled);
    match verdict {
        Ok(valid) => Ok(Ok(valid)),
        Err(Stop::Rejected(rejection)) => Ok(Err(rejection)),
        Err(Stop::Failed(error)) => Err(error),
    }
}

fn judge(
    path: &Path,
    header: &UpdateHeader,
    known: Option<Digest>,
    base: &Checkpoint,
    terms: &Terms,
    cancelled: &AtomicBool,
) -> Result<ValidUpdate, Stop> {
    prejudge(header, terms)?;
    integrity::check(path, header, known, cancelled)?;
    let payload = schema::check(path, header.encoding, base.schema(), terms, cancelled)?;
    let norm = screening::check(&payload, base, terms, cancelled)?;
    Ok(ValidUpdate {
        header: header.clone(),
        norm,
    })
}

/// Why judging ended early: the client's fault, or ours.
enum Stop {
    Rejected(Rejection),
    Failed(IntakeError),
}

impl From<Rejection> for Stop {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl From<IntakeError> for Stop {
    fn from(error: IntakeError) -> Self {
        Self::Failed(error)
    }
}

fn go_on_unless(cancelled: &AtomicBool) -> Result<(), IntakeError> {
    if cancelled.load(Ordering::Relaxed) {
        return Err(IntakeError::Cancelled);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
