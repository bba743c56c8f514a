//! A model's directory against its proof: every file is listed and is what the list says, and nothing else is there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{BESIDE, FILE, Resource, SignedModel, VerifyProofError, verify};
use crate::digest::Digest;

/// Largest proof that is read, bytes: a list of thousands of files.
const LARGEST_PROOF: u64 = 4 << 20;

/// Why a directory is not the model that was signed.
#[derive(Debug, thiserror::Error)]
pub enum CheckModelError {
    /// Something cannot be read.
    #[error("`{}` cannot be read", path.display())]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no proof.
    #[error("`{}` is not there: nobody signed this model", path.display())]
    Unsigned {
        /// Where it should be.
        path: PathBuf,
    },
    /// The proof proves nothing.
    #[error("`{}` proves nothing", path.display())]
    Proof {
        /// The proof.
        path: PathBuf,
        /// Why.
        #[source]
        source: VerifyProofError,
    },
    /// A signed file is not there.
    #[error("`{name}` was signed and is missing")]
    Missing {
        /// Its name.
        name: String,
    },
    /// A file is there that nobody signed.
    #[error("`{name}` is there and was not signed")]
    Extra {
        /// Its name.
        name: String,
    },
    /// A file is not what was signed.
    #[error("`{name}` has the digest {found}, signed was {signed}")]
    Changed {
        /// Its name.
        name: String,
        /// What it is.
        found: Digest,
        /// What it was.
        signed: Digest,
    },
}

/// The files of a model's directory with their digests, by name; but for the proof and the optimizer's memory. `known` spares the reading of files whose digests
/// are known. Directories and what is no plain file have no place in a model.
///
/// # Errors
/// When the directory or a file cannot be read, or is no plain file.
pub fn resources(model: &Path, known: &[(&str, Digest)]) -> io::Result<Vec<Resource>> {
    let mut resources = Vec::new();
    for entry in fs::read_dir(model)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name
            .to_str()
            .ok_or_else(|| io::Error::other("a file's name is not UTF-8"))?;
        if BESIDE.contains(&name) {
            continue;
        }
        if !entry.file_type()?.is_file() {
            return Err(io::Error::other(format!("`{name}` is no plain file")));
        }
        let known = known.iter().find(|(of, _)| *of == name);
        let digest = match known {
            Some((_, digest)) => *digest,
            None => Digest::of_file(&entry.path())?,
        };
        resources.push(Resource {
            name: name.to_owned(),
            digest,
        });
    }
    resources.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(resources)
}

/// Whether a directory is the model that the server of a federation signed, whose authority's certificate is given, DER.
///
/// # Errors
/// The first way in which it is not.
pub fn check(model: &Path, authority: &[u8]) -> Result<SignedModel, CheckModelError> {
    let path = model.join(FILE);
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        |source| CheckModelError::Read { path, source }
    };
    let bundle = match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(CheckModelError::Unsigned { path });
        }
        Ok(found) if found.len() > LARGEST_PROOF => Err(io::Error::other("it is too large")),
        Ok(_) => fs::read(&path),
        Err(error) => Err(error),
    };
    let bundle = bundle.map_err(unreadable(&path))?;
    let signed = verify(&bundle, authority).map_err(|source| CheckModelError::Proof {
        path: path.clone(),
        source,
    })?;
    let found = resources(model, &[]).map_err(unreadable(model))?;
    for resource in &signed.resources {
        let name = || resource.name.clone();
        let there = found.iter().find(|found| found.name == resource.name);
        let Some(there) = there else {
            return Err(CheckModelError::Missing { name: name() });
        };
        if there.digest != resource.digest {
            return Err(CheckModelError::Changed {
                name: name(),
                found: there.digest,
                signed: resource.digest,
            });
        }
    }
    let is_signed = |file: &&Resource| signed.resources.iter().any(|of| of.name == file.name);
    match found.iter().find(|file| !is_signed(file)) {
        Some(extra) => Err(CheckModelError::Extra {
            name: extra.name.clone(),
        }),
        None => Ok(signed),
    }
}
