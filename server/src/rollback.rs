//! An older model is published again, under the next version, signed as what it is.
//!
//! Its files are links to the older ones, so that it costs no room and outlives them. Invariant: each step may be repeated, so a
//! crash between them is mended by doing it again. It decides nothing: the coordinator said that the older model is to be the base.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use fedmerge_common::ids::ModelVersion;
use fedmerge_common::proof;
use fedmerge_common::units::Timestamp;
use fedmerge_coordinator as coordinator;

use crate::compute;
use crate::directory::ServerDirectory;
use crate::enrolment::authority::{Authority, SignError};
use crate::files;
use crate::merging::manifest::{self, Manifest, RollbackStory};
use crate::publish::prove;
use crate::store::ledger::{Ledger, LedgerError, StoredModel};

/// An older model that could not be published again.
#[derive(Debug, thiserror::Error)]
pub enum RollBackError {
    /// The ledger does not know it, or its files were removed.
    #[error("model {version} is not kept any more")]
    Gone {
        /// The older model.
        version: ModelVersion,
    },
    /// The authority refuses to sign.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The file system refused.
    #[error("`{}` cannot be made", path.display())]
    File {
        /// The new model's directory.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The ledger refused.
    #[error("the rollback cannot be written to the ledger")]
    Ledger(#[source] LedgerError),
}

/// Publishes the older model as the new one, durably; one that is published already stays as it is.
///
/// # Errors
/// When the older model is gone, or the file system or the ledger refuses.
pub async fn roll_back(
    (directory, ledger): (&ServerDirectory, &Ledger),
    authority: &Arc<Authority>,
    order: &coordinator::Rollback,
    now: Timestamp,
) -> Result<(), RollBackError> {
    let coordinator::Rollback { model, of, reason } = order;
    let before = ledger.model(model.version).await;
    if before.map_err(RollBackError::Ledger)?.is_some() {
        return Ok(());
    }
    let older = ledger.model(*of).await.map_err(RollBackError::Ledger)?;
    let older = older.filter(|older| older.removed.is_none());
    let older = older.ok_or(RollBackError::Gone { version: *of })?;
    let signed = authority.sign_rollback(model, *of, reason)?;
    let (from, to) = (directory.model(*of), directory.model(model.version));
    let version = model.version;
    let again_signed = signed.clone();
    let again = move |older: Manifest| Manifest {
        version,
        rollback: Some(RollbackStory {
            origin: older.origin(),
            signed: again_signed,
        }),
        ..older
    };
    let placed = to.clone();
    let (authority, model) = (Arc::clone(authority), *model);
    compute::blocking(move || {
        let manifest = manifest::read(&from)?.map(again);
        let prove = |directory: &Path| prove(&authority, directory, &model);
        put_in_place(&from, &placed, manifest, prove)
    })
    .await
    .map_err(|source| RollBackError::File { path: to, source })?;
    let stored = StoredModel {
        model,
        round: None,
        published: now,
        rollback: Some(signed),
        removed: None,
        ..older
    };
    ledger.publish(&stored).await.map_err(RollBackError::Ledger)
}

fn put_in_place(
    from: &Path,
    to: &Path,
    manifest: Option<Manifest>,
    prove: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let temporary = to.with_added_extension("part");
    files::make_empty_directory(&temporary)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_name() != files::MANIFEST && entry.file_name() != proof::FILE {
            link(&entry.path(), &temporary.join(entry.file_name()))?;
        }
    }
    if let Some(manifest) = manifest {
        files::write_json(&temporary.join(files::MANIFEST), &manifest)?;
    }
    prove(&temporary)?;
    files::sync_directory(&temporary)?;
    // What a crash left there is without its line in the ledger.
    files::remove_directory(to)?;
    files::rename(&temporary, to)
}

/// Another name for a file; a copy where the file system has none.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => Ok(()),
        Err(_) => files::copy(from, to).map(drop),
    }
}
