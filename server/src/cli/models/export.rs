//! `fedmerge server models export`: a copy of a model, as any Hugging Face tool opens it.
//!
//! What is copied is what a client may see: not the memory of the server's optimizer. The digest of the copy is checked.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use fedmerge_common::digest::Digest;
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::ids::ModelVersion;
use fedmerge_common::output::Output;
use fedmerge_common::proof;
use fedmerge_common::units::ByteSize;

use super::{find, kept};
use crate::cli::DirectoryArguments;
use crate::files;

/// What `server models export` takes.
#[derive(Debug, Args)]
pub struct ExportArguments {
    /// Directory to make; nothing may be there
    #[arg(value_name = "OUT")]
    pub out: PathBuf,
    /// The version; the newest without it
    #[arg(long, value_name = "VERSION")]
    pub model: Option<u64>,
    /// Where the server is.
    #[command(flatten)]
    pub directory: DirectoryArguments,
}

pub(super) async fn run(arguments: &ExportArguments, output: &Output) -> Result<(), Failure> {
    let directory = arguments.directory.directory()?;
    let ledger = arguments.directory.ledger().await?;
    let version = match arguments.model {
        Some(version) => ModelVersion::new(version),
        None => match ledger.newest_model().await? {
            Some(newest) => newest.model.version,
            // Whoever asks for the newest of none is told so.
            None => find(&ledger, ModelVersion::new(0)).await?.model.version,
        },
    };
    let stored = kept(&ledger, version).await?;
    ledger.close().await;
    let out = std::path::absolute(&arguments.out).unwrap_or_else(|_| arguments.out.clone());
    if out.symlink_metadata().is_ok() {
        let message = format!("`{}` is there already", out.display());
        return Err(
            Failure::new(ExitCode::Usage, message).with_hint("name a directory that is not there")
        );
    }
    let from = directory.model(version);
    let digest = copy(&from, &out).map_err(|error| unwritten(&out, &error))?;
    if digest != stored.model.digest {
        let message = format!(
            "{} has {digest}, and the ledger says {}",
            from.join(files::MODEL).display(),
            stored.model.digest
        );
        // What is not the model must not look like it.
        let _left = fs::remove_dir_all(&out);
        return Err(Failure::new(ExitCode::BadData, message)
            .with_hint("restore the model's directory from a backup"));
    }
    output.line(format_args!(
        "{} holds model {version}, {} (blake3:{}…)",
        out.display(),
        ByteSize::new(stored.model.size_bytes),
        digest.short()
    ));
    output.json(&serde_json::json!({
        "event": "exported",
        "model": version,
        "digest": digest,
        "path": out,
    }));
    Ok(())
}

/// Copies the tensors, what a model says about itself, and what lies beside; the digest of the copied tensors.
fn copy(from: &Path, out: &Path) -> io::Result<Digest> {
    let temporary = out.with_added_extension("part");
    files::make_empty_directory(&temporary)?;
    for name in [files::MODEL, files::MANIFEST] {
        files::copy(&from.join(name), &temporary.join(name))?;
    }
    // Models of before there were proofs have none.
    if from.join(proof::FILE).exists() {
        files::copy(&from.join(proof::FILE), &temporary.join(proof::FILE))?;
    }
    files::copy_companions(from, &temporary)?;
    let digest = Digest::of_file(&temporary.join(files::MODEL))?;
    files::rename(&temporary, out)?;
    Ok(digest)
}

fn unwritten(out: &Path, error: &io::Error) -> Failure {
    let message = format!("`{}` cannot be made", out.display());
    Failure::new(ExitCode::Unavailable, message).with_source(error)
}
