//! Where the merged model goes: checked before anything is read, filled beside its place, and put there by one rename.
//!
//! Invariant: until the rename what was there stays as it is, and after a failure nothing of ours is left but, when the process
//! was killed, a name that begins with a dot and ends in `.tmp`. No input and no file of somebody else is ever replaced.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fedmerge_common::checkpoint::Checkpoint;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::manifest;
use crate::files;

/// Whether an earlier output may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// What is there stays, and the merge is refused.
    Keep,
    /// An earlier output is replaced in the end.
    Replace,
}

/// Why a merge may not write where it was told to.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The directory that should hold it is not there.
    #[error("`{}` is not a directory", path.display())]
    NoParent {
        /// The directory.
        path: PathBuf,
    },
    /// The name cannot be that of a file.
    #[error("`{}` is no name for an output", path.display())]
    NoName {
        /// What was given.
        path: PathBuf,
    },
    /// Output and input overlap.
    #[error("the output `{}` {relation} `{}`, which the merge reads", path.display(), input.display())]
    OverInput {
        /// The output.
        path: PathBuf,
        /// How it lies to the input.
        relation: &'static str,
        /// The input.
        input: PathBuf,
    },
    /// Something is there already.
    #[error("`{}` is there already", path.display())]
    Exists {
        /// The output.
        path: PathBuf,
    },
    /// What is there is not an earlier output.
    #[error("`{}` is not the output of an earlier merge: {why}", path.display())]
    Foreign {
        /// The output.
        path: PathBuf,
        /// What it is.
        why: String,
    },
    /// The file system refuses.
    #[error("`{}` cannot be looked at", path.display())]
    Io {
        /// The output.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What the header of a merged file says, so that it is known again.
pub(super) const MERGED_BY: (&str, &str) = ("merged_by", "fedmerge");

/// Form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// One `.safetensors` file.
    File,
    /// A directory as Hugging Face tools have it.
    Directory,
}

/// A place for the merged model that was found to be right.
#[derive(Debug)]
pub(super) struct Target {
    /// Where, without detours.
    pub(super) path: PathBuf,
    pub(super) form: Form,
    existing: Existing,
}

impl Target {
    /// Checks that a model may be written at `path` by a merge that reads `inputs`.
    ///
    /// # Errors
    /// When it may not.
    pub(super) fn check(
        path: &Path,
        inputs: &[PathBuf],
        existing: Existing,
    ) -> Result<Self, TargetError> {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let Some(name) = absolute.file_name() else {
            return Err(TargetError::NoName {
                path: path.to_owned(),
            });
        };
        let parent = absolute.parent().unwrap_or(Path::new("/"));
        let canonical = parent.canonicalize().ok().filter(|parent| parent.is_dir());
        let Some(parent) = canonical else {
            return Err(TargetError::NoParent {
                path: parent.to_owned(),
            });
        };
        let target = Self {
            path: parent.join(name),
            form: if path
                .extension()
                .is_some_and(|extension| extension == "safetensors")
            {
                Form::File
            } else {
                Form::Directory
            },
            existing,
        };
        target.refuse_inputs(inputs)?;
        target.refuse_what_is_there()?;
        Ok(target)
    }

    fn refuse_inputs(&self, inputs: &[PathBuf]) -> Result<(), TargetError> {
        // What is there may be a link into an input.
        let real = self.path.canonicalize().ok();
        for input in inputs {
            let Ok(input) = input.canonicalize() else {
                continue;
            };
            for path in real.iter().chain([&self.path]) {
                let relation = if *path == input {
                    "is"
                } else if path.starts_with(&input) {
                    "is inside"
                } else if input.starts_with(path) {
                    "contains"
                } else {
                    continue;
                };
                return Err(TargetError::OverInput {
                    path: self.path.clone(),
                    relation,
                    input,
                });
            }
        }
        Ok(())
    }

    fn refuse_what_is_there(&self) -> Result<(), TargetError> {
        let metadata = match fs::symlink_metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => {
                return Err(TargetError::Io {
                    path: self.path.clone(),
                    source,
                });
            }
        };
        let foreign = |why: String| {
            Err(TargetError::Foreign {
                path: self.path.clone(),
                why,
            })
        };
        if self.form == Form::Directory && metadata.is_dir() && self.is_empty() {
            return Ok(());
        }
        if self.existing == Existing::Keep {
            return Err(TargetError::Exists {
                path: self.path.clone(),
            });
        }
        match self.form {
            Form::File if metadata.is_file() => match stranger_at(&self.path) {
                Some(why) => foreign(why.to_owned()),
                None => Ok(()),
            },
            Form::File => foreign("it is no regular file".to_owned()),
            Form::Directory if metadata.is_dir() => match manifest::stranger_in(&self.path) {
                Some(why) => foreign(why),
                None => Ok(()),
            },
            Form::Directory => foreign("it is no directory".to_owned()),
        }
    }

    fn is_empty(&self) -> bool {
        fs::read_dir(&self.path).is_ok_and(|mut entries| entries.next().is_none())
    }

    /// Makes the directory in which the output is filled.
    ///
    /// # Errors
    /// When the file system refuses.
    pub(super) fn stage(&self) -> io::Result<Stage> {
        let directory = self.beside("tmp");
        files::make_empty_directory(&directory)?;
        Ok(Stage { directory })
    }

    /// Puts a filled directory in the output's place.
    ///
    /// # Errors
    /// When the file system refuses; then what was there stays, and the new is gone.
    pub(super) fn publish(&self, stage: Stage) -> io::Result<()> {
        fs::File::open(&stage.directory)?.sync_all()?;
        let (new, old) = (&stage.directory, &self.path);
        if !old.exists() || self.is_empty() {
            return files::rename(new, old);
        }
        // After the exchange, the stage holds what was there, and removes it when it is dropped.
        match renameat_with(CWD, new, CWD, old, RenameFlags::EXCHANGE) {
            Ok(()) => {}
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                let aside = Stage {
                    directory: self.beside("old.tmp"),
                };
                fs::rename(old, &aside.directory)?;
                if let Err(error) = fs::rename(new, old) {
                    fs::rename(&aside.directory, old)?;
                    return Err(error);
                }
            }
            Err(error) => return Err(error.into()),
        }
        files::sync_parent(old)
    }

    /// A name beside the output's that nobody else uses.
    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = OsString::from(".");
        name.push(self.path.file_name().unwrap_or_default());
        name.push(format!(".{}.{ending}", std::process::id()));
        self.path.with_file_name(name)
    }
}

/// A directory beside the output, removed when dropped.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) directory: PathBuf,
}

impl Drop for Stage {
    fn drop(&mut self) {
        // After a rename nothing is there; what cannot be removed now keeps a name that says what it is.
        let _left_behind = files::remove_directory(&self.directory);
    }
}

/// Why a file is not the output of a merge.
fn stranger_at(path: &Path) -> Option<&'static str> {
    let (key, value) = MERGED_BY;
    match Checkpoint::open(path) {
        Ok(file) if file.metadata().get(key).is_some_and(|by| by == value) => None,
        Ok(_) => Some("its header does not say that it was merged"),
        Err(_) => Some("it cannot be read as safetensors"),
    }
}
