//! The repository's files as the rules see them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A file of the repository, its path relative to the root.
pub(super) struct Source {
    pub(super) path: String,
    pub(super) text: String,
}

/// Every text file of the repository, apart from what is built or ignored.
pub(super) fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ignored = fs::read_to_string(root.join(".gitignore")).unwrap_or_default();
    let mut skipped: BTreeSet<&str> = ignored.lines().map(|line| line.trim_matches('/')).collect();
    skipped.extend([".git", "target", "__pycache__", ".venv"]);
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if skipped.contains(entry.file_name().to_string_lossy().as_ref()) {
                continue;
            }
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file()
                && let Ok(text) = fs::read_to_string(&path)
            {
                let path = path
                    .strip_prefix(root)
                    .unwrap()
                    .to_string_lossy()
                    .into_owned();
                found.push(Source { path, text });
            }
        }
    }
    found.sort_by(|left, right| left.path.cmp(&right.path));
    assert!(found.len() > 20, "the repository was not found");
    found
}

pub(super) fn rust_sources() -> Vec<Source> {
    sources()
        .into_iter()
        .filter(|source| source.path.ends_with(".rs"))
        .collect()
}

pub(super) fn read(path: &str) -> Option<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).ok()
}

#[track_caller]
pub(super) fn expect_none(offenders: impl IntoIterator<Item = String>) {
    let offenders: Vec<String> = offenders.into_iter().collect();
    assert!(offenders.is_empty(), "\n{}\n", offenders.join("\n"));
}

pub(super) fn sample(path: &str, text: &str) -> Source {
    Source {
        path: path.to_owned(),
        text: text.to_owned(),
    }
}
