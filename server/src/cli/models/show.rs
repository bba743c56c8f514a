//! `fedmerge server models show`: how a model came about, from the ledger alone: so also of one whose files are gone.
//!
//! The JSON is that of `models list` with `merge`, which is the story in `fedmerge.json` without its tensors.

use fedmerge_common::failure::Failure;
use fedmerge_common::ids::ModelVersion;
use fedmerge_common::output::Output;
use fedmerge_common::units::ByteSize;
use serde_json::{Value, json};

use super::{Marked, ShowArguments, find, origin, score};
use crate::cli::rounds::show::{agreement, labelled};
use crate::directory::ServerDirectory;
use crate::files;
use crate::store::ledger::{Ledger, StoredModel};

pub(super) async fn run(arguments: &ShowArguments, output: &Output) -> Result<(), Failure> {
    let directory = arguments.directory.directory()?;
    let ledger = arguments.directory.ledger().await?;
    let stored = find(&ledger, ModelVersion::new(arguments.model)).await?;
    let marked = Marked::read(&ledger).await?;
    let merge = merge(&ledger, &marked, &stored).await?;
    for line in lines(&directory, &marked, &stored) {
        output.line(line);
    }
    if let Some(merge) = &merge {
        output.line("");
        for line in agreement::lines(merge) {
            output.line(line);
        }
    }
    let mut told = json!(marked.line(&stored, &directory));
    if let Some(told) = told.as_object_mut() {
        told.insert("merge".to_owned(), merge.unwrap_or(Value::Null));
    }
    output.json(&told);
    Ok(())
}

/// The story of the merge that made the model's content; none for that of the first base.
async fn merge(
    ledger: &Ledger,
    marked: &Marked,
    stored: &StoredModel,
) -> Result<Option<Value>, Failure> {
    let mut content = stored;
    while let Some(rollback) = &content.rollback {
        let mut models = marked.models.iter();
        let Some(older) = models.find(|older| older.model.version == rollback.of) else {
            return Ok(None);
        };
        content = older;
    }
    let Some(round) = content.round else {
        return Ok(None);
    };
    let note = ledger.merge_note(round).await?;
    Ok(note.map(|note| note.report))
}

fn lines(directory: &ServerDirectory, marked: &Marked, stored: &StoredModel) -> Vec<String> {
    let version = stored.model.version;
    let marks = match marked.marks(version) {
        marks if marks.is_empty() => marks,
        marks => format!(" ({marks})"),
    };
    let size = ByteSize::new(stored.model.size_bytes);
    let mut lines = vec![
        labelled(&format!("model {version}"), &format!("{size}{marks}")),
        labelled("digest", &stored.model.digest.to_string()),
        labelled("published", &stored.published.to_string()),
        labelled("from", &origin(stored)),
    ];
    if let Some(rollback) = &stored.rollback {
        lines.push(labelled("because", &rollback.reason));
    }
    let parent = stored.parent.and_then(|parent| {
        // A digest may be that of more than one version: the newest before this one is meant.
        let earlier = marked.models.iter().rev();
        let mut earlier = earlier.skip_while(|model| model.model.version >= version);
        let found = earlier.find(|model| model.model.digest == parent)?;
        Some(found.model.version)
    });
    if let Some(parent) = parent {
        lines.push(labelled("parent", &format!("model {parent}")));
    }
    if stored.score.is_some() {
        lines.push(labelled("score", &score(stored)));
    }
    lines.push(labelled(
        "path",
        &match stored.removed {
            None => directory
                .model(version)
                .join(files::MODEL)
                .display()
                .to_string(),
            Some(removed) => format!("removed at {}", removed.to_second()),
        },
    ));
    lines
}
