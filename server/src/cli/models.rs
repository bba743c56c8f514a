//! `fedmerge server models …`: what was published, what is left of it, and the way back to an older one.
//!
//! Lists, stories and exports are read from the directory, whether or not the server runs; a rollback is asked of the running server. The
//! JSON of each command is a contract: fields are added, never renamed.

mod export;
mod roll_back;
mod show;
mod verify;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::ids::ModelVersion;
use fedmerge_common::output::Output;
use fedmerge_common::units::ByteSize;
use fedmerge_coordinator::Goal;
use serde::Serialize;

use super::DirectoryArguments;
use super::list::{ListArguments, table};
use crate::directory::ServerDirectory;
use crate::files;
use crate::keep;
use crate::store::ledger::{Ledger, StoredModel};

/// The deeds with models.
#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// List the models that were published, the best and the last of them marked
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArguments),
    /// Tell how a model came about: its parent, its merge, the updates in it
    #[command(after_help = SHOW_EXAMPLES)]
    Show(ShowArguments),
    /// Copy a model to a directory that any Hugging Face tool opens
    #[command(after_help = EXPORT_EXAMPLES)]
    Export(export::ExportArguments),
    /// See whether a model is what the server signed, and whether its updates make it again
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(verify::VerifyArguments),
    /// Make an older model the base again, under a new version
    #[command(after_help = ROLLBACK_EXAMPLES)]
    Rollback(roll_back::RollbackArguments),
}

const LIST_EXAMPLES: &str = "\
Examples:
  fedmerge server models list --dir hub
  fedmerge server models list --dir hub --all --format json";

const SHOW_EXAMPLES: &str = "\
Example:
  fedmerge server models show 3 --dir hub";

const EXPORT_EXAMPLES: &str = "\
Examples:
  fedmerge server models export ward-model --dir hub
  fedmerge server models export ward-model --model 3 --dir hub";

const VERIFY_EXAMPLES: &str = "\
Examples:
  fedmerge server models verify 3 --dir hub
  fedmerge server models verify 3 --recompute --dir hub

The proof is model.sig beside the model, a bundle of OpenSSF Model Signing 1.0 that other tools
read too. Who has a copy and the authority's certificate checks it with `fedmerge verify`.";

const ROLLBACK_EXAMPLES: &str = "\
Examples:
  fedmerge server models rollback 3 --reason 'round 4 taught it nonsense' --dir hub
  fedmerge server models rollback 3 --above 5 --reason 'restored from a backup' --dir hub

Version numbers only rise: the content of model 3 becomes the next version, signed by the
federation's authority, and the next round starts from it. The round that is open is abandoned.";

/// What `server models show` takes.
#[derive(Debug, Args)]
pub struct ShowArguments {
    /// The version, from 0
    #[arg(value_name = "VERSION")]
    pub model: u64,
    /// Where the server is.
    #[command(flatten)]
    pub directory: DirectoryArguments,
}

pub(super) async fn run(command: &ModelsCommand, output: &Output) -> Result<(), Failure> {
    match command {
        ModelsCommand::List(arguments) => list(arguments, output).await,
        ModelsCommand::Show(arguments) => show::run(arguments, output).await,
        ModelsCommand::Export(arguments) => export::run(arguments, output).await,
        ModelsCommand::Verify(arguments) => verify::run(arguments, output).await,
        ModelsCommand::Rollback(arguments) => roll_back::run(arguments, output).await,
    }
}

/// A published model as the JSON tells it.
#[derive(Debug, Serialize)]
struct Line<'a> {
    model: ModelVersion,
    round: Option<fedmerge_common::ids::RoundNumber>,
    bytes: u64,
    published: String,
    digest: fedmerge_common::digest::Digest,
    parent: Option<fedmerge_common::digest::Digest>,
    rollback_of: Option<ModelVersion>,
    rollback_reason: Option<&'a str>,
    score: Option<ScoreLine<'a>>,
    is_best: bool,
    is_last: bool,
    /// Absent when the files were removed.
    path: Option<PathBuf>,
    removed: Option<String>,
}

/// How good a model is.
#[derive(Debug, Serialize)]
struct ScoreLine<'a> {
    metric: &'a str,
    goal: Goal,
    /// Null where what clients reported was no number.
    value: Option<f64>,
}

/// All models, with what of them is marked.
struct Marked {
    models: Vec<StoredModel>,
    best: Option<ModelVersion>,
    last: Option<ModelVersion>,
}

impl Marked {
    async fn read(ledger: &Ledger) -> Result<Self, Failure> {
        let models = ledger.models().await?;
        Ok(Self {
            best: keep::best(&models, 1).first().copied(),
            last: models.last().map(|stored| stored.model.version),
            models,
        })
    }

    fn line<'a>(&self, stored: &'a StoredModel, directory: &ServerDirectory) -> Line<'a> {
        let version = stored.model.version;
        let is_there = stored.removed.is_none();
        Line {
            model: version,
            round: stored.round,
            bytes: stored.model.size_bytes,
            published: stored.published.to_string(),
            digest: stored.model.digest,
            parent: stored.parent,
            rollback_of: stored.rollback.as_ref().map(|rollback| rollback.of),
            rollback_reason: stored.rollback.as_ref().map(|found| found.reason.as_str()),
            score: stored.score.as_ref().map(|score| ScoreLine {
                metric: &score.metric,
                goal: score.goal,
                value: score.value.0,
            }),
            is_best: self.best == Some(version),
            is_last: self.last == Some(version),
            path: is_there.then(|| directory.model(version).join(files::MODEL)),
            removed: stored.removed.map(|removed| removed.to_string()),
        }
    }

    /// `best`, `last`, or both.
    fn marks(&self, version: ModelVersion) -> String {
        let marks = [(self.best, "best"), (self.last, "last")];
        let marks = marks.iter().filter(|(marked, _)| *marked == Some(version));
        marks.map(|(_, mark)| *mark).collect::<Vec<_>>().join(", ")
    }
}

/// Where a model comes from, in a word or two.
fn origin(stored: &StoredModel) -> String {
    match (&stored.rollback, stored.round) {
        (Some(rollback), _) => format!("model {} again", rollback.of),
        (None, Some(round)) => format!("round {round}"),
        (None, None) => "the first base".to_owned(),
    }
}

fn score(stored: &StoredModel) -> String {
    let score = stored.score.as_ref();
    score.map_or("-".to_owned(), |score| match score.value.0 {
        Some(value) => format!("{value:.4} {}", score.metric),
        None => format!("no number {}", score.metric),
    })
}

async fn list(arguments: &ListArguments, output: &Output) -> Result<(), Failure> {
    let directory = arguments.directory.directory()?;
    let ledger = arguments.directory.ledger().await?;
    let marked = Marked::read(&ledger).await?;
    let count = usize::try_from(arguments.count()).unwrap_or(usize::MAX);
    let earlier = marked.models.len().saturating_sub(count);
    // The best is shown wherever it is: that is what it is looked for.
    let shown =
        marked.models.iter().enumerate().filter(|(index, stored)| {
            *index >= earlier || marked.best == Some(stored.model.version)
        });
    let shown: Vec<&StoredModel> = shown.map(|(_, stored)| stored).collect();
    let rows = shown.iter().map(|stored| {
        let path = match stored.removed {
            None => directory.model(stored.model.version).join(files::MODEL),
            Some(_) => PathBuf::from("removed"),
        };
        [
            stored.model.version.to_string(),
            origin(stored),
            score(stored),
            marked.marks(stored.model.version),
            ByteSize::new(stored.model.size_bytes).to_string(),
            stored.published.to_second(),
            format!("blake3:{}…", stored.model.digest.short()),
            path.display().to_string(),
        ]
    });
    let heading = [
        "model",
        "from",
        "score",
        "",
        "size",
        "published",
        "digest",
        "path",
    ];
    output.line(table(heading, rows));
    for stored in &shown {
        output.json(&marked.line(stored, &directory));
    }
    let hidden = marked.models.len() - shown.len();
    if hidden > 0 {
        output.note(format_args!(
            "{hidden} earlier models are not listed: --all lists them"
        ));
    }
    Ok(())
}

/// The model of a version, where its files are there.
async fn kept(ledger: &Ledger, version: ModelVersion) -> Result<StoredModel, Failure> {
    let stored = find(ledger, version).await?;
    let Some(removed) = stored.removed else {
        return Ok(stored);
    };
    let message = format!(
        "model {version} is not kept any more: its files were removed at {}",
        removed.to_second()
    );
    Err(Failure::new(ExitCode::Unavailable, message).with_hint(
        "`keep` in federation.toml says which models stay; see: fedmerge server models list",
    ))
}

async fn find(ledger: &Ledger, version: ModelVersion) -> Result<StoredModel, Failure> {
    let stored = ledger.model(version).await?;
    stored.ok_or_else(|| {
        let message = format!("there is no model {version}");
        Failure::new(ExitCode::Usage, message)
            .with_hint("see which there are: fedmerge server models list")
    })
}
