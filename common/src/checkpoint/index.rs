//! Which files make up a checkpoint: a file by itself, a directory with one, or a directory with shards
//! and the index that says which tensor is where.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::checkpoint::header::{InvalidCheckpoint, MAX_HEADER_BYTES};
use crate::checkpoint::json::UniqueMap;
use crate::checkpoint::open::open_file;
use crate::checkpoint::read::ReadCheckpointError;

pub(super) const SINGLE: &str = "model.safetensors";
pub(super) const INDEX: &str = "model.safetensors.index.json";
/// Most shards of one checkpoint: each is an open file.
pub(super) const MAX_SHARDS: usize = 1000;

/// The files of a checkpoint.
pub(super) struct Files {
    /// In the order of their names.
    pub(super) paths: Vec<PathBuf>,
    /// Which file each tensor must be in, where there is an index.
    pub(super) index: Option<Index>,
}

/// Which shard each tensor is in.
pub(super) struct Index {
    pub(super) path: PathBuf,
    /// Position in [`Files::paths`] by tensor.
    pub(super) shard_of: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
struct RawIndex {
    weight_map: UniqueMap<String>,
}

/// Finds the files of the checkpoint at `path`.
pub(super) fn find(path: &Path) -> Result<Files, ReadCheckpointError> {
    if !path.is_dir() {
        return Ok(Files {
            paths: vec![path.to_owned()],
            index: None,
        });
    }
    let single = path.join(SINGLE);
    if single.exists() {
        return Ok(Files {
            paths: vec![single],
            index: None,
        });
    }
    let index = path.join(INDEX);
    if index.exists() {
        return read_index(path, index);
    }
    Err(ReadCheckpointError::NoCheckpoint {
        path: path.to_owned(),
    })
}

fn read_index(directory: &Path, path: PathBuf) -> Result<Files, ReadCheckpointError> {
    let invalid = |source| ReadCheckpointError::Invalid {
        path: path.clone(),
        source,
    };
    let (file, bytes) = open_file(&path)?;
    if bytes > MAX_HEADER_BYTES {
        return Err(invalid(InvalidCheckpoint::HeaderTooLarge {
            bytes,
            limit: MAX_HEADER_BYTES,
        }));
    }
    let mut json = Vec::new();
    file.take(MAX_HEADER_BYTES)
        .read_to_end(&mut json)
        .map_err(|source| ReadCheckpointError::Io {
            path: path.clone(),
            source,
        })?;
    let raw: RawIndex =
        serde_json::from_slice(&json).map_err(|error| invalid(InvalidCheckpoint::Header(error)))?;
    let weight_map = raw.weight_map.0;
    let names = shard_names(&weight_map)
        .map_err(|problem| invalid(InvalidCheckpoint::Index { problem }))?;
    let shard_of = weight_map
        .iter()
        .map(|(tensor, shard)| (tensor.clone(), names[shard.as_str()]))
        .collect();
    // A map by name hands out its entries in the order of the numbers it was given.
    let paths = names.keys().map(|name| directory.join(name)).collect();
    Ok(Files {
        paths,
        index: Some(Index { path, shard_of }),
    })
}

/// The name of a shard, as Hugging Face tools write it; `number` counts from 0.
pub(super) fn shard_name(number: usize, shards: usize) -> String {
    if shards == 1 {
        return SINGLE.to_owned();
    }
    format!("model-{:05}-of-{shards:05}.safetensors", number + 1)
}

/// Writes the index of a sharded checkpoint, durably but for its name.
pub(super) fn write_index(
    directory: &Path,
    shard_of: &BTreeMap<&str, &str>,
    total_bytes: u64,
) -> io::Result<()> {
    let index = serde_json::json!({
        "metadata": { "total_size": total_bytes },
        "weight_map": shard_of,
    });
    let mut json = serde_json::to_vec_pretty(&index)?;
    json.push(b'\n');
    let mut file = File::create(directory.join(INDEX))?;
    file.write_all(&json)?;
    file.sync_all()
}

/// The shards' names, numbered in their order. A name must not leave the directory.
fn shard_names(weight_map: &BTreeMap<String, String>) -> Result<BTreeMap<&str, usize>, String> {
    let mut names: BTreeMap<&str, usize> =
        weight_map.values().map(|name| (name.as_str(), 0)).collect();
    if names.is_empty() {
        return Err("names no shard".to_owned());
    }
    if names.len() > MAX_SHARDS {
        return Err(format!(
            "names {} shards, the limit is {MAX_SHARDS}",
            names.len()
        ));
    }
    let is_plain = |name: &str| {
        !name.starts_with('.')
            && !name
                .chars()
                .any(|c| c == '/' || c == '\\' || c.is_control())
    };
    if let Some(name) = names
        .keys()
        .find(|name| name.is_empty() || name.len() > 255 || !is_plain(name))
    {
        return Err(format!(
            "names the shard `{}`, which is not a plain file name",
            name.escape_debug()
        ));
    }
    for (number, (_, slot)) in names.iter_mut().enumerate() {
        *slot = number;
    }
    Ok(names)
}
