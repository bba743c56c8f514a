//! Which bytes of a model a client lacks that has another one: those of the tensors that differ.
//!
//! Digests stand in the models' manifests, so nothing but headers is read. Where there is any doubt, the bytes count as changed:
//! a client checks the digest of the whole anyway.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::Path;

use fedmerge_common::checkpoint::{Checkpoint, ReadCheckpointError};
use fedmerge_common::digest::Digest;
use serde::Deserialize;

use crate::files;
use crate::merging::manifest;

/// What is looked at of a manifest.
#[derive(Deserialize)]
struct Tensors {
    #[serde(default)]
    tensors: BTreeMap<String, Digest>,
}

/// The bytes of the file of `want` that differ from those of `have` at the same place, in order and apart from one another.
///
/// # Errors
/// When a model cannot be read.
pub(super) fn changed(have: &Path, want: &Path) -> io::Result<Vec<Range<u64>>> {
    let (ours, theirs) = (Model::open(want)?, Model::open(have)?);
    let whole = ours.bytes;
    let mut same = ours.same_tensors(&theirs);
    same.sort_by_key(|range| range.start);
    let mut changed = Vec::new();
    let mut done = 0;
    for range in same {
        if done < range.start {
            changed.push(done..range.start);
        }
        done = range.end;
    }
    if done < whole {
        changed.push(done..whole);
    }
    Ok(changed)
}

struct Model {
    checkpoint: Checkpoint,
    tensors: BTreeMap<String, Digest>,
    bytes: u64,
}

impl Model {
    fn open(directory: &Path) -> io::Result<Self> {
        let path = directory.join(files::MODEL);
        let found: Option<Tensors> = manifest::read(directory)?;
        Ok(Self {
            bytes: path.metadata()?.len(),
            checkpoint: Checkpoint::open(&path).map_err(unreadable)?,
            tensors: found.map(|found| found.tensors).unwrap_or_default(),
        })
    }

    /// Where each tensor is, by name, and its content, where that is known.
    fn places(&self) -> BTreeMap<&str, (Range<u64>, &Digest)> {
        let tensors = self.checkpoint.schema().tensors().iter().enumerate();
        let known = tensors.filter_map(|(position, tensor)| {
            let digest = self.tensors.get(tensor.name())?;
            Some((tensor.name(), (self.checkpoint.extent(position), digest)))
        });
        known.collect()
    }

    fn same_tensors(&self, other: &Self) -> Vec<Range<u64>> {
        let others = other.places();
        let same = self.places().into_iter().filter_map(|(name, place)| {
            let is_same = others.get(name) == Some(&place);
            (is_same && !place.0.is_empty()).then_some(place.0)
        });
        same.collect()
    }
}

fn unreadable(error: ReadCheckpointError) -> io::Error {
    io::Error::other(error)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use std::fs;

    use fedmerge_common::dtype::Dtype;

    use super::*;
    use crate::testbed::{Tensor, write};

    const A: Tensor<'_> = ("a", Dtype::F32, &[1.0, 2.0]);
    const B: Tensor<'_> = ("b", Dtype::F32, &[3.0, 4.0]);
    const C: Tensor<'_> = ("c", Dtype::F32, &[5.0, 6.0]);

    /// A model's directory, and the bytes of its file.
    fn model(root: &tempfile::TempDir, name: &str, tensors: &[Tensor<'_>]) -> Vec<u8> {
        let directory = root.path().join(name);
        fs::create_dir(&directory).unwrap();
        let path = directory.join(files::MODEL);
        write(&path, tensors);
        let digests = manifest::tensors(&Checkpoint::open(&path).unwrap()).unwrap();
        let manifest = serde_json::json!({ "tensors": digests });
        fs::write(directory.join(files::MANIFEST), manifest.to_string()).unwrap();
        fs::read(path).unwrap()
    }

    fn compare(root: &tempfile::TempDir) -> Vec<Range<u64>> {
        changed(&root.path().join("have"), &root.path().join("want")).unwrap()
    }

    #[test]
    fn what_is_not_told_to_be_changed_is_the_same() {
        let other = ("b", Dtype::F32, &[9.0, 9.0][..]);
        let last = ("c", Dtype::F32, &[9.0, 9.0][..]);
        for tensors in [[A, B, C], [A, other, C], [A, other, last]] {
            let root = tempfile::tempdir().unwrap();
            let (have, want) = (
                model(&root, "have", &[A, B, C]),
                model(&root, "want", &tensors),
            );
            let mut patched = have;
            let changed = compare(&root);
            for range in &changed {
                let range =
                    usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
                patched[range.clone()].copy_from_slice(&want[range]);
            }
            assert_eq!(patched, want);
            let bytes: u64 = changed.iter().map(|range| range.end - range.start).sum();
            let values = tensors
                .iter()
                .zip([A, B, C])
                .filter(|(one, two)| *one != two);
            assert_eq!(bytes, want.len() as u64 - 24 + 8 * values.count() as u64);
        }
    }

    #[test]
    fn a_model_of_another_layout_or_without_digests_is_changed_as_a_whole() {
        let root = tempfile::tempdir().unwrap();
        let longer = ("a", Dtype::F32, &[1.0, 2.0, 3.0, 4.0][..]);
        model(&root, "have", &[longer, B]);
        let want = model(&root, "want", &[A, B]);
        let whole = std::iter::once(0..want.len() as u64).collect::<Vec<_>>();
        assert_eq!(compare(&root), whole);
        let root = tempfile::tempdir().unwrap();
        model(&root, "have", &[A, B]);
        model(&root, "want", &[A, B]);
        fs::remove_file(root.path().join("want").join(files::MANIFEST)).unwrap();
        assert_eq!(compare(&root), whole);
    }
}
