//! How a file is recognised as the one that was opened, and as unchanged since.
//!
//! Nobody holds a lock on a checkpoint: a trainer may write another under the same name while the first is read. That is not
//! prevented here, but it does not go unnoticed.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What changes when a file is written, cut, or replaced by another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified_s: i64,
    modified_ns: i64,
}

impl Stamp {
    /// The stamp of an open file.
    pub(super) fn of_open(file: &File) -> io::Result<Self> {
        Ok(Self::of(&file.metadata()?))
    }

    /// Whether the open file is unchanged, and still what the path leads to.
    pub(super) fn still_fits(self, file: &File, path: &Path) -> bool {
        let is_this = |metadata: io::Result<Metadata>| {
            metadata.is_ok_and(|metadata| Self::of(&metadata) == self)
        };
        is_this(file.metadata()) && is_this(fs::metadata(path))
    }

    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified_s: metadata.mtime(),
            modified_ns: metadata.mtime_nsec(),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_grows_is_replaced_or_goes_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        fs::write(&path, b"abc").unwrap();
        let file = File::open(&path).unwrap();
        let stamp = Stamp::of_open(&file).unwrap();
        assert!(stamp.still_fits(&file, &path));

        let other = directory.path().join("y");
        fs::write(&other, b"abc").unwrap();
        fs::rename(&path, directory.path().join("z")).unwrap();
        assert!(!stamp.still_fits(&file, &path));
        fs::rename(&other, &path).unwrap();
        assert!(!stamp.still_fits(&file, &path));
        fs::rename(directory.path().join("z"), &path).unwrap();
        assert!(stamp.still_fits(&file, &path));

        fs::write(&path, b"abcd").unwrap();
        assert!(!stamp.still_fits(&file, &path));
    }
}
