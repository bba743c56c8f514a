//! `fedmerge.json` of a merged directory: which models it was made of, how, and which files are its own.
//!
//! The JSON is a contract: fields are added, never renamed. It holds nothing that differs when the merge is repeated: no times, and
//! paths as the recipe writes them. By it an output is told from somebody else's directory.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fedmerge_common::digest::Digest;
use serde::{Deserialize, Serialize};

use super::FinishedMerge;
use super::summary::recipe_in_words;
use crate::files;
use crate::plan::recipe::MergeRecipe;

/// The version of this form.
const FORMAT: u32 = 1;
/// What tells this form from that of a federation's model.
const KIND: &str = "merge";

/// What a merged directory says about itself.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    format: u32,
    kind: String,
    digest: Digest,
    base: PathBuf,
    merge: serde_json::Value,
    models: Vec<MergedModel>,
    files: Vec<MergedFile>,
    /// What was copied from the base.
    companions: Vec<String>,
}

/// A model that was merged.
#[derive(Debug, Serialize, Deserialize)]
struct MergedModel {
    name: String,
    path: PathBuf,
    /// As the recipe gives it.
    weight: f64,
    /// Its share of what the method made of the weights, 0 to 1.
    weight_share: f64,
}

/// A file of tensors.
#[derive(Debug, Serialize, Deserialize)]
struct MergedFile {
    name: String,
    bytes: u64,
    digest: Digest,
}

impl Manifest {
    /// The manifest of a merge whose output is in `directory`, complete but for the manifest.
    pub(super) fn of(
        recipe: &MergeRecipe,
        finished: &FinishedMerge,
        directory: &Path,
    ) -> io::Result<Self> {
        let files = finished.files.iter().map(|file| MergedFile {
            name: file.name.clone(),
            bytes: file.written.bytes,
            digest: file.written.digest,
        });
        let pairs = recipe.models.iter().zip(&finished.report.clients);
        let models = pairs.map(|(model, seen)| MergedModel {
            name: model.name.clone(),
            path: model.written_path.clone(),
            weight: model.weight,
            weight_share: seen.weight_share,
        });
        let mut manifest = Self {
            format: FORMAT,
            kind: KIND.to_owned(),
            digest: finished.digest(),
            base: recipe.written_base.clone(),
            merge: recipe_in_words(recipe),
            models: models.collect(),
            files: files.collect(),
            companions: Vec::new(),
        };
        let known = manifest.known();
        let mut companions = names_in(directory)?;
        companions.retain(|name| !known.contains(name));
        manifest.companions = companions;
        Ok(manifest)
    }

    /// The names of all files that belong to the output.
    fn known(&self) -> BTreeSet<String> {
        let own = [files::MANIFEST, files::SHARD_INDEX];
        let tensors = self.files.iter().map(|file| file.name.clone());
        own.map(str::to_owned)
            .into_iter()
            .chain(tensors)
            .chain(self.companions.iter().cloned())
            .collect()
    }
}

/// Why a directory is not what an earlier merge left, and nothing but that; none when it is.
pub(super) fn stranger_in(directory: &Path) -> Option<String> {
    let path = directory.join(files::MANIFEST);
    let manifest = fs::read(&path)
        .ok()
        .and_then(|text| serde_json::from_slice::<Manifest>(&text).ok())
        .filter(|manifest| manifest.kind == KIND);
    let Some(manifest) = manifest else {
        return Some(format!("it has no {} of a merge", files::MANIFEST));
    };
    let known = manifest.known();
    match names_in(directory) {
        Ok(names) => names
            .into_iter()
            .find(|name| !known.contains(name))
            .map(|name| format!("it holds `{name}`, which no merge has put there")),
        Err(error) => Some(format!("it cannot be listed: {error}")),
    }
}

/// The names of what is in a directory, in order.
fn names_in(directory: &Path) -> io::Result<Vec<String>> {
    let names = fs::read_dir(directory)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<BTreeSet<_>>>()?;
    Ok(names.into_iter().collect())
}
