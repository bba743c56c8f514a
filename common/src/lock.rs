//! One process per directory: a lock the operating system lets go of when the process ends, however it ends.
//!
//! The file holds the process number for people; only the lock counts.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, test_kill_process};

use crate::failure::{ExitCode, Failure};

/// How long the lock of a process that was killed is waited for, and how often it is asked for.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(5);

/// A directory in use by this process, until dropped.
#[derive(Debug)]
pub struct DirectoryLock {
    file: File,
}

impl Drop for DirectoryLock {
    /// Let go of by itself, the lock would stay for a moment where a child is being started: it holds the file until it is its own program.
    fn drop(&mut self) {
        // Where that fails the lock goes with the last holder of the file.
        let _kept = self.file.unlock();
    }
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockDirectoryError {
    /// Another process uses it.
    #[error("another fedmerge process (pid {process}) uses `{}`", directory.display())]
    InUse {
        /// Its process number, `unknown` when it could not be read.
        process: String,
        /// The directory.
        directory: PathBuf,
    },
    /// The lock file cannot be made.
    #[error("`{}` cannot be locked", path.display())]
    File {
        /// The lock file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl From<LockDirectoryError> for Failure {
    fn from(error: LockDirectoryError) -> Self {
        match &error {
            LockDirectoryError::InUse { .. } => Self::from_error(ExitCode::Temporary, &error)
                .with_hint(
                    "wait for it or stop it; another client or server needs a directory of its own",
                ),
            LockDirectoryError::File { .. } => Self::from_error(ExitCode::Unavailable, &error),
        }
    }
}

impl DirectoryLock {
    /// Takes the lock of `directory`, which is the file `path`, making both where they are missing.
    ///
    /// A process that was killed while it started a child may leave its lock for a moment: the child holds it until it is its own
    /// program. That moment is waited for, a process that lives is not.
    ///
    /// # Errors
    /// When another process holds it, or the file system refuses.
    #[expect(
        clippy::disallowed_methods,
        reason = "nobody tells when another process lets go of a lock"
    )]
    pub fn take(directory: &Path, path: &Path) -> Result<Self, LockDirectoryError> {
        let end = Instant::now() + PATIENCE;
        Self::take_or(directory, path, || {
            thread::sleep(PAUSE);
            Instant::now() < end
        })
    }

    /// Asks `go_on` before each further try for the lock of a process that has ended.
    fn take_or(
        directory: &Path,
        path: &Path,
        mut go_on: impl FnMut() -> bool,
    ) -> Result<Self, LockDirectoryError> {
        let wrong = |source| LockDirectoryError::File {
            path: path.to_owned(),
            source,
        };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(wrong)?;
        }
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(wrong)?;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {
                    let process = holder(&mut file);
                    if has_ended(&process) && go_on() {
                        continue;
                    }
                    return Err(LockDirectoryError::InUse {
                        process,
                        directory: directory.to_owned(),
                    });
                }
                Err(TryLockError::Error(source)) => return Err(wrong(source)),
            }
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(wrong)?;
        Ok(Self { file })
    }

    /// The process that holds the lock, if one does.
    #[must_use]
    pub fn holder_of(path: &Path) -> Option<String> {
        let mut file = File::open(path).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Some(holder(&mut file)),
            Ok(()) | Err(TryLockError::Error(_)) => None,
        }
    }
}

fn has_ended(process: &str) -> bool {
    let number = process.parse().ok().and_then(Pid::from_raw);
    // One that belongs to somebody else, lives.
    number.is_some_and(|number| test_kill_process(number) == Err(rustix::io::Errno::SRCH))
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file
        .rewind()
        .and_then(|()| file.take(20).read_to_string(&mut text));
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(process)) => process.to_string(),
        (Ok(_) | Err(_), _) => "unknown".to_owned(),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_and_told_the_first() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("new").join("lock");
        let lock = DirectoryLock::take(root.path(), &path).unwrap();
        let message = DirectoryLock::take(root.path(), &path)
            .unwrap_err()
            .to_string();
        assert!(
            message.contains(&format!("(pid {})", std::process::id())),
            "{message}"
        );
        assert_eq!(
            DirectoryLock::holder_of(&path),
            Some(std::process::id().to_string())
        );
        drop(lock);
        assert_eq!(DirectoryLock::holder_of(&path), None);
        DirectoryLock::take(root.path(), &path).unwrap();
    }

    #[test]
    fn what_a_killed_process_leaves_locked_for_a_moment_is_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("lock");
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let killed = child.id();
        child.wait().unwrap();
        fs::write(&path, killed.to_string()).unwrap();
        let left = File::open(&path).unwrap();
        left.try_lock().unwrap();
        let message = DirectoryLock::take_or(root.path(), &path, || false)
            .unwrap_err()
            .to_string();
        assert!(message.contains(&format!("(pid {killed})")), "{message}");
        let mut left = Some(left);
        DirectoryLock::take_or(root.path(), &path, || left.take().is_some()).unwrap();
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_an_error_that_names_the_lock() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        let error = DirectoryLock::take(&file, &file.join("lock")).unwrap_err();
        assert!(matches!(error, LockDirectoryError::File { .. }));
    }
}
