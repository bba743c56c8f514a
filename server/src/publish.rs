//! The straight line, the publication: a candidate becomes the base by a rename and one transaction.
//!
//! Invariants: a version is one digest for ever; each step may be repeated, so a crash between them is mended by doing it
//! again. It decides nothing: the coordinator said that the candidate is to be published.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fedmerge_common::checkpoint::{
    Checkpoint, CheckpointWriter, ReadCheckpointError, WriteCheckpointError,
};
use fedmerge_common::digest::Digest;
use fedmerge_common::failpoint::{self, Point};
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::ids::{ModelVersion, RoundNumber};
use fedmerge_common::proof;
use fedmerge_common::units::Timestamp;
use fedmerge_common::update::ModelRef;
use fedmerge_coordinator::Score;

use crate::compute;
use crate::directory::ServerDirectory;
use crate::enrolment::authority::Authority;
use crate::files;
use crate::merging::manifest::{self, FORMAT, Manifest};
use crate::store::ledger::{Ledger, LedgerError, StoredModel};

/// A model that could not be made the base.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Neither the candidate nor the published model is there.
    #[error("neither `{}` nor `{}` is there", candidate.display(), published.display())]
    Missing {
        /// Where the candidate should be.
        candidate: PathBuf,
        /// Where the published model would be.
        published: PathBuf,
    },
    /// The file system refused.
    #[error("`{}` cannot be put in place", path.display())]
    File {
        /// The model's directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The ledger refused.
    #[error("the publication cannot be written to the ledger")]
    Ledger(#[source] LedgerError),
}

/// What a publication says.
#[derive(Debug, Clone)]
pub struct Publication {
    /// The round.
    pub round: RoundNumber,
    /// The base it started from.
    pub parent: Digest,
    /// The new base.
    pub candidate: ModelRef,
    /// How good it is, where clients measured it.
    pub score: Option<Score>,
    /// When.
    pub now: Timestamp,
}

/// Makes a candidate the base, signed and durably.
///
/// # Errors
/// When the file system or the ledger refuses.
pub async fn publish(
    (directory, ledger): (&ServerDirectory, &Ledger),
    authority: &Arc<Authority>,
    publication: &Publication,
) -> Result<(), PublishError> {
    let candidate = directory.candidate(publication.round);
    let published = directory.model(publication.candidate.version);
    let (authority, model) = (Arc::clone(authority), publication.candidate);
    compute::blocking(move || {
        // Where it is not there any more, it was signed before it was moved.
        if candidate.exists() {
            prove(&authority, &candidate, &model).map_err(|source| PublishError::File {
                path: candidate.clone(),
                source,
            })?;
        }
        put_in_place(&candidate, &published)
    })
    .await?;
    failpoint::pass(Point::ServerModelPlaced);
    let model = StoredModel {
        model: publication.candidate,
        parent: Some(publication.parent),
        round: Some(publication.round),
        published: publication.now,
        rollback: None,
        score: publication.score.clone(),
        removed: None,
    };
    ledger.publish(&model).await.map_err(PublishError::Ledger)?;
    failpoint::pass(Point::ServerModelRecorded);
    Ok(())
}

/// Puts the proof of a model into its directory.
///
/// # Errors
/// When its files cannot be read, or the proof not be made or written.
pub(crate) fn prove(authority: &Authority, directory: &Path, model: &ModelRef) -> io::Result<()> {
    let known = [(files::MODEL, model.digest)];
    let resources = proof::resources(directory, &known)?;
    let signed = authority.sign_model(model.version, &resources);
    let signed = signed.map_err(io::Error::other)?;
    files::write(&directory.join(proof::FILE), &signed)
}

/// Proves every model anew that is still what the server of an earlier authority signed; the versions of those that are not.
///
/// # Errors
/// When the models cannot be listed, or a proof not be made or written.
pub fn prove_again(
    directory: &ServerDirectory,
    before: &[u8],
    authority: &Authority,
) -> io::Result<Vec<ModelVersion>> {
    let mut unproven = Vec::new();
    for entry in std::fs::read_dir(directory.models())? {
        let name = entry?.file_name();
        let Some(version) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let version = ModelVersion::new(version);
        let model = directory.model(version);
        let name = authority.name_of(version);
        // A copy of another version's directory is what was signed, and not as this version.
        let signed = proof::check(&model, before).ok();
        let Some(signed) = signed.filter(|signed| signed.name == name) else {
            unproven.push(version);
            continue;
        };
        let again = authority.sign_model(version, &signed.resources);
        files::write(&model.join(proof::FILE), &again.map_err(io::Error::other)?)?;
    }
    Ok(unproven)
}

/// Moves the candidate's directory, unless that was done before a crash.
fn put_in_place(candidate: &Path, published: &Path) -> Result<(), PublishError> {
    if !candidate.exists() {
        if published.exists() {
            return Ok(());
        }
        return Err(PublishError::Missing {
            candidate: candidate.to_owned(),
            published: published.to_owned(),
        });
    }
    // A version that is there without its transaction is the same model: merges repeat byte for byte.
    files::remove_directory(published)
        .and_then(|()| files::rename(candidate, published))
        .map_err(|source| PublishError::File {
            path: published.to_owned(),
            source,
        })
}

/// A first base that could not be taken in.
#[derive(Debug, thiserror::Error)]
pub enum ImportBaseError {
    /// It cannot be read.
    #[error("the plan's base cannot be used")]
    Read(#[from] ReadCheckpointError),
    /// It has nothing to merge.
    #[error("`{}` has no tensor of F32, F16 or BF16: there is nothing to merge", path.display())]
    NothingToMerge {
        /// The base.
        path: PathBuf,
    },
    /// It cannot be copied.
    #[error("the base cannot be copied to `{}`", path.display())]
    File {
        /// Where to.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its shards cannot be joined.
    #[error("the base's shards cannot be joined")]
    Write(#[from] WriteCheckpointError),
    /// The ledger refused.
    #[error("the base cannot be written to the ledger")]
    Ledger(#[source] LedgerError),
}

impl From<ImportBaseError> for Failure {
    fn from(error: ImportBaseError) -> Self {
        let hint = "set `base` in federation.toml to a .safetensors file, or to a directory that holds model.safetensors";
        match &error {
            ImportBaseError::Read(ReadCheckpointError::NoCheckpoint { .. }) => {
                Self::from_error(ExitCode::BadConfiguration, &error).with_hint(hint)
            }
            ImportBaseError::Read(ReadCheckpointError::Io { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                Self::from_error(ExitCode::BadConfiguration, &error).with_hint(hint)
            }
            ImportBaseError::Read(_) | ImportBaseError::NothingToMerge { .. } => {
                Self::from_error(ExitCode::BadData, &error).with_hint(hint)
            }
            ImportBaseError::File { .. }
            | ImportBaseError::Write(_)
            | ImportBaseError::Ledger(_) => Self::from_error(ExitCode::Unavailable, &error),
        }
    }
}

/// Opens the base that a plan names, and sees that it can be merged into.
///
/// # Errors
/// When it cannot be read, or has nothing to merge.
pub fn open_base(path: &Path) -> Result<Checkpoint, ImportBaseError> {
    let base = Checkpoint::open(path)?;
    if base.schema().iter().any(|tensor| tensor.is_mergeable()) {
        Ok(base)
    } else {
        let path = path.to_owned();
        Err(ImportBaseError::NothingToMerge { path })
    }
}

/// Copies the plan's base to be model 0.
///
/// # Errors
/// When it cannot be read or copied.
pub async fn import_base(
    (directory, ledger): (&ServerDirectory, &Ledger),
    authority: &Arc<Authority>,
    base: &Path,
    now: Timestamp,
) -> Result<ModelRef, ImportBaseError> {
    let first = ModelVersion::new(0);
    let target = directory.model(first);
    let (base, authority) = (base.to_owned(), Arc::clone(authority));
    let model = compute::blocking(move || import_files(&base, &target, &authority)).await?;
    let stored = StoredModel {
        model,
        parent: None,
        round: None,
        published: now,
        rollback: None,
        score: None,
        removed: None,
    };
    ledger
        .publish(&stored)
        .await
        .map_err(ImportBaseError::Ledger)?;
    Ok(model)
}

fn import_files(
    path: &Path,
    target: &Path,
    authority: &Authority,
) -> Result<ModelRef, ImportBaseError> {
    let base = open_base(path)?;
    let failed = |source| ImportBaseError::File {
        path: target.to_owned(),
        source,
    };
    let temporary = target.with_added_extension("part");
    files::make_empty_directory(&temporary).map_err(failed)?;
    let model = temporary.join(files::MODEL);
    let (digest, size_bytes) = copy_checkpoint(&base, &model).map_err(|error| match error {
        CopyBase::File(source) => failed(source),
        CopyBase::Read(error) => error.into(),
        CopyBase::Write(error) => error.into(),
    })?;
    if path.is_dir() {
        files::copy_companions(path, &temporary).map_err(failed)?;
    }
    let tensors = manifest::tensors(&Checkpoint::open(&model)?)?;
    let manifest = Manifest {
        format: FORMAT,
        federation: authority.federation().clone(),
        version: ModelVersion::new(0),
        digest,
        size_bytes,
        tensors,
        rollback: None,
        merge: None,
    };
    files::write_json(&temporary.join(files::MANIFEST), &manifest).map_err(failed)?;
    let model = ModelRef {
        version: manifest.version,
        digest,
        size_bytes,
    };
    prove(authority, &temporary, &model).map_err(failed)?;
    files::remove_directory(target).map_err(failed)?;
    files::rename(&temporary, target).map_err(failed)?;
    Ok(model)
}

enum CopyBase {
    File(io::Error),
    Read(ReadCheckpointError),
    Write(WriteCheckpointError),
}

/// One file is copied as it is, so that its digest stays; shards are joined.
fn copy_checkpoint(base: &Checkpoint, target: &Path) -> Result<(Digest, u64), CopyBase> {
    let mut shards = base.files();
    if let (Some(only), None) = (shards.next(), shards.next()) {
        let bytes = files::copy(only, target).map_err(CopyBase::File)?;
        let digest = Digest::of_file(target).map_err(CopyBase::File)?;
        // What was copied may have changed since it was looked at: only a copy that opens is a base.
        Checkpoint::open(target).map_err(CopyBase::Read)?;
        return Ok((digest, bytes));
    }
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let writer =
        CheckpointWriter::create(target, base.schema(), &metadata).map_err(CopyBase::Write)?;
    for position in 0..base.schema().len() {
        crate::merging::copy_tensor(base, &writer, position).map_err(|error| match error {
            crate::merging::CopyError::Read(error) => CopyBase::Read(error),
            crate::merging::CopyError::Write(error) => CopyBase::Write(error),
        })?;
    }
    let written = writer.finish().map_err(CopyBase::Write)?;
    Ok((written.digest, written.bytes))
}

#[cfg(test)]
mod tests;
