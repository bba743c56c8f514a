//! Files of a model and of an update: their names, and the few ways in which they are made, copied and put in place.
//!
//! Invariant: what this reports as written is durable, and appears under its name at once or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use fedmerge_common::digest::Digest;
use fedmerge_common::ids::{ClientId, RoundNumber};
use serde::Serialize;

use crate::directory::ServerDirectory;

/// The tensors of a model, in its directory.
pub const MODEL: &str = "model.safetensors";
/// What a model says about itself, in its directory.
pub const MANIFEST: &str = "fedmerge.json";

/// What the server's optimizer remembers after a model, in its directory. It is the server's own: no client gets it.
pub const OPTIMIZER: &str = "optimizer.safetensors";

/// Largest file that is carried from a base to every model that follows, bytes: tokenizers are smaller.
const MAX_COMPANION_BYTES: u64 = 64 * 1024 * 1024;
/// What a base may have beside its tensors: configuration and tokenizer, nothing that is run.
const COMPANIONS: [&str; 5] = ["json", "txt", "model", "jinja", "md"];
/// The index of a sharded checkpoint, which is one file once it is a base.
pub const SHARD_INDEX: &str = "model.safetensors.index.json";

/// Where an update that passed intake is.
#[must_use]
pub fn update(
    directory: &ServerDirectory,
    round: RoundNumber,
    client: &ClientId,
    payload: &Digest,
) -> PathBuf {
    let name = format!("{client}-{}.safetensors", payload.hex());
    directory.round_updates(round).join(name)
}

/// Makes a directory, without what a crash may have left in it.
///
/// # Errors
/// When the file system refuses.
pub fn make_empty_directory(path: &Path) -> io::Result<()> {
    remove_directory(path)?;
    fs::create_dir_all(path)
}

/// Removes a directory and everything in it, if it is there.
///
/// # Errors
/// When the file system refuses.
pub fn remove_directory(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes a small file of JSON.
///
/// # Errors
/// When the file system refuses.
pub fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    write(path, text.as_bytes())
}

/// Writes a small file that replaces what was there.
///
/// # Errors
/// When the file system refuses; then what was there stays.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_added_extension("part");
    let mut file = File::create(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    rename(&temporary, path)
}

/// Gives a file, or a directory of files, another name, durably; also one on another file system.
///
/// # Errors
/// When the file system refuses; then nothing has the new name.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => carry_across(from, to)?,
        result => result?,
    }
    sync_parent(to)
}

/// Copies to the other file system beside the new name, takes it, and removes what was there.
fn carry_across(from: &Path, to: &Path) -> io::Result<()> {
    let temporary = to.with_added_extension("part");
    if !from.is_dir() {
        copy(from, &temporary)?;
        fs::rename(&temporary, to)?;
        return fs::remove_file(from);
    }
    make_empty_directory(&temporary)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &temporary.join(entry.file_name()))?;
    }
    sync_directory(&temporary)?;
    fs::rename(&temporary, to)?;
    fs::remove_dir_all(from)
}

/// Copies a file, durably but for its name.
///
/// # Errors
/// When the file system refuses.
pub fn copy(from: &Path, to: &Path) -> io::Result<u64> {
    let bytes = fs::copy(from, to)?;
    File::open(to)?.sync_all()?;
    Ok(bytes)
}

/// Makes a directory in one that is there, durably; one that is there stays.
///
/// # Errors
/// When the file system refuses.
pub fn make_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path)?;
    sync_parent(path)
}

/// Makes the names in a directory durable.
///
/// # Errors
/// When the file system refuses.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes the name of a file or directory durable.
///
/// # Errors
/// When the file system refuses.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => File::open(".")?.sync_all(),
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// A path without the detours by which it was found, also where nothing is there.
#[must_use]
pub fn without_detours(path: &Path) -> PathBuf {
    let directory = path.parent().and_then(|parent| parent.canonicalize().ok());
    match (directory, path.file_name()) {
        (Some(directory), Some(name)) => directory.join(name),
        (Some(_) | None, _) => path.to_owned(),
    }
}

/// Copies what a model has beside its tensors and its manifest: configuration and tokenizer. Durable once the directory is.
///
/// # Errors
/// When the file system refuses.
pub fn copy_companions(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if is_companion(&entry)? {
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    sync_directory(to)
}

fn is_companion(entry: &fs::DirEntry) -> io::Result<bool> {
    let (name, metadata) = (entry.file_name(), entry.metadata()?);
    let extension = Path::new(&name).extension().and_then(|text| text.to_str());
    let is_ours = [MANIFEST, SHARD_INDEX].iter().any(|ours| name == *ours);
    Ok(metadata.is_file()
        && metadata.len() <= MAX_COMPANION_BYTES
        && extension.is_some_and(|extension| COMPANIONS.contains(&extension))
        && !is_ours)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_told_without_detours() {
        let root = tempfile::tempdir().unwrap();
        let real = root.path().canonicalize().unwrap();
        fs::create_dir(real.join("hub")).unwrap();
        let told = |path: &str| without_detours(&real.join(path));
        assert_eq!(told("hub/../base"), real.join("base"));
        assert_eq!(told("nowhere/../base"), real.join("nowhere/../base"));
        assert_eq!(without_detours(Path::new("base")), Path::new("base"));
    }

    #[test]
    fn configuration_and_tokenizer_are_carried_along_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let (from, to) = (root.path().join("from"), root.path().join("to"));
        for directory in [&from, &to] {
            fs::create_dir(directory).unwrap();
        }
        for name in [
            "config.json",
            "tokenizer.model",
            MODEL,
            MANIFEST,
            SHARD_INDEX,
            "run.py",
            "weights.bin",
        ] {
            fs::write(from.join(name), name).unwrap();
        }
        fs::create_dir(from.join("folder.json")).unwrap();
        copy_companions(&from, &to).unwrap();
        let mut names: Vec<_> = fs::read_dir(&to)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["config.json", "tokenizer.model"]);
    }

    #[test]
    fn what_is_renamed_goes_to_another_file_system_too() {
        let (here, there) = (tempfile::tempdir().unwrap(), other_file_system());
        let file = here.path().join("a");
        fs::write(&file, "bytes").unwrap();
        let directory = here.path().join("d");
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("in"), "it").unwrap();

        rename(&file, &there.path().join("b")).unwrap();
        rename(&directory, &there.path().join("e")).unwrap();

        assert_eq!(fs::read(there.path().join("b")).unwrap(), b"bytes");
        assert_eq!(fs::read(there.path().join("e/in")).unwrap(), b"it");
        assert_eq!(fs::read_dir(here.path()).unwrap().count(), 0);
        assert_eq!(fs::read_dir(there.path()).unwrap().count(), 2);
        let missing = rename(&file, &there.path().join("b")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    /// A directory in memory where the machine has such a place: elsewhere than the usual temporary directory.
    fn other_file_system() -> tempfile::TempDir {
        tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
    }

    #[test]
    fn a_file_is_replaced_at_once() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a.json");
        write_json(&path, &[1]).unwrap();
        write_json(&path, &[2]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "[\n  2\n]\n");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_directory_of_a_bare_name_is_the_one_we_are_in() {
        sync_parent(Path::new("bare")).unwrap();
        sync_parent(Path::new("/")).unwrap();
    }

    #[test]
    fn a_directory_is_made_anew_without_what_was_left_in_it() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        make_empty_directory(&path).unwrap();
        fs::write(path.join("left"), "").unwrap();
        make_empty_directory(&path).unwrap();
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
        remove_directory(&path).unwrap();
        remove_directory(&path).unwrap();
    }
}
