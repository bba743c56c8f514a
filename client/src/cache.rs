//! Bases that were downloaded, by digest: a file is under its name only when its bytes are those of the digest.
//!
//! Files are read-only, because trainers get their paths. Two are kept, the newest and the last one that was asked for: a base
//! outlives the candidates that do not become the next.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use fedmerge_common::digest::Digest;
use fedmerge_common::update::ModelRef;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, utimensat};

/// Bases that are kept.
const KEPT_BASES: usize = 2;

/// A directory of verified bases.
#[derive(Clone, Debug)]
pub struct Cache {
    directory: PathBuf,
}

/// Why a finished download did not become a base.
#[derive(Debug, thiserror::Error)]
pub enum StoreBaseError {
    /// The bytes are others than those asked for.
    #[error("the downloaded file has {found}, expected {expected}")]
    Digest {
        /// What was asked for.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// The disk.
    #[error("{} cannot be stored", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Cache {
    /// The cache in `directory`, made where it is missing.
    ///
    /// # Errors
    /// The file system's.
    pub fn open(directory: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        Ok(Self { directory })
    }

    /// Where a base is, once it is stored.
    #[must_use]
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.directory.join(format!("{}.safetensors", digest.hex()))
    }

    /// Where a download of a base grows; what an earlier process left there is a valid beginning or is thrown away
    /// by [`Self::store`].
    #[must_use]
    pub fn part(&self, digest: &Digest) -> PathBuf {
        self.directory.join(format!("{}.part", digest.hex()))
    }

    /// The base, if it is here whole; a file whose bytes have changed is removed.
    ///
    /// # Errors
    /// The file system's.
    pub fn find(&self, model: &ModelRef) -> io::Result<Option<PathBuf>> {
        let path = self.path(&model.digest);
        match path.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
            Ok(found)
                if found.len() == model.size_bytes && Digest::of_file(&path)? == model.digest =>
            {
                mark_as_used(&path);
                return Ok(Some(path));
            }
            Ok(_) => {}
        }
        tracing::warn!(path = %path.display(), "cached base was changed, downloading it again");
        fs::remove_file(&path)?;
        Ok(None)
    }

    /// The bases other than `digest`, the one that was used last first: what a new one may have much in common with.
    #[must_use]
    pub fn others(&self, digest: &Digest) -> Vec<(Digest, PathBuf)> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten();
        let bases = entries.filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_name()?.to_str()?.strip_suffix(".safetensors")?;
            let found: Digest = format!("blake3:{name}").parse().ok()?;
            let used = path.metadata().ok()?.modified().ok()?;
            (found != *digest).then_some((used, found, path))
        });
        let mut bases: Vec<_> = bases.collect();
        bases.sort();
        let newest_first = bases.into_iter().rev();
        newest_first.map(|(_, found, path)| (found, path)).collect()
    }

    /// Makes the finished download of `digest`, whose bytes were `found` to have one, a base, and forgets the oldest ones.
    ///
    /// # Errors
    /// When the bytes are others (the download is then removed), or the disk refuses.
    pub fn store(&self, digest: &Digest, found: Digest) -> Result<PathBuf, StoreBaseError> {
        let part = self.part(digest);
        let wrong = |source| StoreBaseError::Io {
            path: part.clone(),
            source,
        };
        if found != *digest {
            fs::remove_file(&part).map_err(wrong)?;
            return Err(StoreBaseError::Digest {
                expected: *digest,
                found,
            });
        }
        let path = self.path(digest);
        let publish = || {
            fs::set_permissions(&part, fs::Permissions::from_mode(0o444))?;
            File::open(&part)?.sync_all()?;
            fs::rename(&part, &path)?;
            self.forget_all_but(&path)
        };
        publish().map_err(wrong)?;
        Ok(path)
    }

    fn forget_all_but(&self, newest: &Path) -> io::Result<()> {
        let mut others = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path != newest {
                others.push((path.metadata()?.modified()?, path));
            }
        }
        others.sort();
        others.reverse();
        let is_base = |path: &Path| {
            path.extension()
                .is_some_and(|extension| extension == "safetensors")
        };
        let kept = others
            .iter()
            .filter(|(_, path)| is_base(path))
            .take(KEPT_BASES - 1);
        let kept: Vec<&PathBuf> = kept.map(|(_, path)| path).collect();
        for (_, path) in others.iter().filter(|(_, path)| !kept.contains(&path)) {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

/// Makes a base the last to be forgotten. One that cannot be marked is only forgotten earlier, and downloaded again.
fn mark_as_used(path: &Path) {
    let unchanged = Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_OMIT,
    };
    let now = Timespec {
        tv_nsec: UTIME_NOW,
        ..unchanged
    };
    let times = Timestamps {
        last_access: unchanged,
        last_modification: now,
    };
    if let Err(error) = utimensat(CWD, path, &times, AtFlags::empty()) {
        tracing::warn!(path = %path.display(), %error, "cached base not marked as used");
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use fedmerge_common::ids::ModelVersion;

    use super::*;

    fn model(content: &[u8]) -> ModelRef {
        ModelRef {
            version: ModelVersion::new(1),
            digest: Digest::of(content),
            size_bytes: content.len() as u64,
        }
    }

    fn store(cache: &Cache, content: &[u8]) -> PathBuf {
        let digest = Digest::of(content);
        fs::write(cache.part(&digest), content).unwrap();
        cache.store(&digest, digest).unwrap()
    }

    fn cache() -> (tempfile::TempDir, Cache) {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::open(root.path().join("cache")).unwrap();
        (root, cache)
    }

    #[test]
    fn a_stored_base_is_found_and_cannot_be_written() {
        let (_root, cache) = cache();
        let path = store(&cache, b"one");
        assert_eq!(cache.find(&model(b"one")).unwrap(), Some(path.clone()));
        assert!(path.metadata().unwrap().permissions().readonly());
        assert_eq!(cache.find(&model(b"two")).unwrap(), None);
    }

    #[test]
    fn other_bytes_than_asked_for_are_refused_and_removed() {
        let (_root, cache) = cache();
        let digest = Digest::of(b"one");
        fs::write(cache.part(&digest), b"other").unwrap();
        assert!(matches!(
            cache.store(&digest, Digest::of(b"other")),
            Err(StoreBaseError::Digest { .. })
        ));
        assert!(!cache.part(&digest).exists() && !cache.path(&digest).exists());
    }

    #[test]
    fn the_other_bases_are_told_the_last_used_first() {
        let (_root, cache) = cache();
        for content in [b"one", b"two"] {
            store(&cache, content);
        }
        fs::write(cache.part(&Digest::of(b"three")), "half").unwrap();
        cache.find(&model(b"one")).unwrap();
        let one = (Digest::of(b"one"), cache.path(&Digest::of(b"one")));
        let two = (Digest::of(b"two"), cache.path(&Digest::of(b"two")));
        assert_eq!(cache.others(&Digest::of(b"three")), [one, two.clone()]);
        assert_eq!(cache.others(&Digest::of(b"one")), [two]);
    }

    #[test]
    fn a_base_that_was_changed_on_disk_is_not_found() {
        let (_root, cache) = cache();
        let path = store(&cache, b"one");
        fs::remove_file(&path).unwrap();
        fs::write(&path, b"eno").unwrap();
        assert_eq!(cache.find(&model(b"one")).unwrap(), None);
        assert!(!path.exists());
    }

    #[test]
    fn the_last_two_bases_are_kept_and_abandoned_downloads_are_not() {
        let (_root, cache) = cache();
        let abandoned = cache.part(&Digest::of(b"abandoned"));
        fs::write(&abandoned, b"aban").unwrap();
        let paths: Vec<PathBuf> = [b"one", b"two", b"six"]
            .iter()
            .map(|content| store(&cache, *content))
            .collect();
        assert!(paths[2].exists());
        assert_eq!(
            paths.iter().filter(|path| path.exists()).count(),
            KEPT_BASES
        );
        assert!(!abandoned.exists());
    }

    #[test]
    fn a_base_that_is_used_outlives_candidates_that_came_to_nothing() {
        let (_root, cache) = cache();
        let base = store(&cache, b"base");
        for candidate in [b"one", b"two", b"six"] {
            let path = store(&cache, candidate);
            assert!(path.exists());
            assert_eq!(cache.find(&model(b"base")).unwrap(), Some(base.clone()));
        }
    }
}
