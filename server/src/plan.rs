//! The plan of a federation: `federation.toml`, read once into types that cannot be wrong.
//!
//! A plan that exists can work: names are known, numbers are in range, and `tolerate` fits cohort and quorum. What cannot
//! work is refused here with the file, the line and the arithmetic. The model that `base` names is not looked at.

mod by_round;
mod changes;
mod choice;
pub(crate) mod document;
mod error;
mod evaluate;
pub(crate) mod fields;
pub(crate) mod file;
mod keep;
mod labels;
pub(crate) mod merge;
mod nearest;
mod privacy;
pub mod recipe;
#[cfg(test)]
mod refusal_tests;
mod round;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use fedmerge_common::ids::{ClientId, FederationName};
use fedmerge_common::task_vector::Encoding;
use fedmerge_common::task_vector::encoding::Density;
use fedmerge_common::units::ByteSize;
use fedmerge_coordinator::RoundPlan;
use fedmerge_merge::{OptimizerRule, Recipe};
use toml::Spanned;
use wildmatch::WildMatch;

use crate::files;
use crate::keep::Keep;
use crate::privacy::Privacy;

pub use fedmerge_coordinator::plan::LEAST_QUORUM;

pub use self::by_round::ByRound;
pub use self::changes::{Change, changes};
use self::choice::Choice;
use self::document::Document;
pub use self::document::{Place, ReadDocumentError, TomlError};
pub use self::error::ReadPlanError;
use self::file::{MergeTable, PlanFile, UpdateTable};
pub use self::labels::{NotSelected, Selector};

/// The names that `method` of `[merge]` may have.
pub const METHOD_NAMES: &[&str] = Recipe::METHOD_NAMES;
/// The names that `method` of `optimizer` may have, beside `none`.
pub const OPTIMIZER_NAMES: &[&str] = OptimizerRule::NAMES;

const DEFAULT_MAX_UPDATE: ByteSize = ByteSize::from_mebibytes(2048);

const ENCODINGS: Choice<Encoding> = Choice {
    what: "encoding",
    known: &[
        (Encoding::F32.as_str(), Encoding::F32),
        (Encoding::Bf16.as_str(), Encoding::Bf16),
        (Encoding::Int8.as_str(), Encoding::Int8),
        (Encoding::TopK.as_str(), Encoding::TopK),
        (Encoding::Ternary.as_str(), Encoding::Ternary),
        (Encoding::Sign.as_str(), Encoding::Sign),
        (Encoding::SeededMask.as_str(), Encoding::SeededMask),
    ],
    planned: &[],
};

/// How much a client's update counts in methods that weigh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weight {
    /// As many times as the client claims to have examples; the default.
    #[default]
    Examples,
    /// Once.
    Uniform,
}

impl Weight {
    /// Its stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Examples => "examples",
            Self::Uniform => "uniform",
        }
    }

    /// What updates count that claim so many examples: the numbers themselves, but none more than `most` times their median, because a
    /// claim costs nothing; or 1 each.
    #[must_use]
    pub fn of(self, claims: &[u64], most: f64) -> Vec<f64> {
        #[expect(
            clippy::cast_precision_loss,
            reason = "weights are ratios, and intake bounds the claims"
        )]
        let claims: Vec<f64> = claims.iter().map(|&claim| claim as f64).collect();
        match self {
            Self::Uniform => vec![1.0; claims.len()],
            Self::Examples => {
                let mut sorted = claims.clone();
                sorted.sort_by(f64::total_cmp);
                let middle = sorted.get(sorted.len().saturating_sub(1) / 2);
                let limit = middle.map_or(f64::INFINITY, |median| most * median);
                claims.iter().map(|claim| claim.min(limit)).collect()
            }
        }
    }
}

/// The tensors that stay as they are in the base: patterns in which `*` is any text and `?` any one character.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Freeze(Vec<WildMatch>);

impl Freeze {
    /// Whether the tensor of this name is frozen.
    #[must_use]
    pub fn matches(&self, tensor: &str) -> bool {
        self.0.iter().any(|pattern| pattern.matches(tensor))
    }

    /// The patterns, as written.
    pub fn patterns(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(WildMatch::to_string)
    }
}

/// What a federation does, complete and possible.
///
/// Left out, the sizes of a round follow from each other: `cohort.target` is the `quorum`, or else 2, or 2 × `tolerate` + 1 if
/// that is more; `quorum` is more than half of the target, and at least 2 × `tolerate` + 1.
#[derive(Clone, Debug, PartialEq)]
pub struct FederationPlan {
    /// The federation's name.
    pub name: FederationName,
    /// The first base: a file or directory, resolved against the directory of the plan.
    pub base: PathBuf,
    /// Which models stay on disk; none for all.
    pub keep: Option<Keep>,
    /// How rounds are held.
    pub round: RoundPlan,
    /// Which clients rounds are for.
    pub selector: Selector,
    /// How updates are merged; possible with as few as the quorum.
    pub recipe: Recipe,
    /// How clients are weighed.
    pub weight: Weight,
    /// How many times the median of a merge's weights a client may have, 5 by default.
    pub max_weight: f64,
    /// Whom the method trusts; someone exactly where the recipe needs it.
    pub trusted: Option<ClientId>,
    /// What the clients are promised; none: nothing is.
    pub privacy: Option<Privacy>,
    /// What no round changes.
    pub freeze: Freeze,
    /// Encodings that updates may have, the preferred one first; at least one, each once. Exact `f32` alone by default.
    pub encodings: Vec<Encoding>,
    /// Share of the values that sparse encodings keep, 0.05 by default.
    pub density: Density,
    /// Largest encoded update, 2 GiB by default.
    pub max_update: ByteSize,
}

impl FederationPlan {
    /// Reads a plan's file.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn read(path: &Path) -> Result<Self, ReadPlanError> {
        Ok(Self::read_with_text(path)?.0)
    }

    /// Reads a plan's file, and gives its text too.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn read_with_text(path: &Path) -> Result<(Self, String), ReadPlanError> {
        let document = Document::read(path)?;
        let plan = Self::of(&document)?;
        let plan = Self {
            base: files::without_detours(&plan.base),
            ..plan
        };
        Ok((plan, document.into_text()))
    }

    /// Reads a plan from a text that stands, or will stand, in the file at `path`.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ReadPlanError> {
        Self::of(&Document::new(path, text))
    }

    fn of(document: &Document) -> Result<Self, ReadPlanError> {
        document.refuse_unknown_keys(&file::tables())?;
        let mut file: PlanFile = document.values()?;
        let mut round = round::plan(&file.round, &file.merge, document)?;
        file.merge.tolerate = round::tolerate(&mut round, &file.round);
        let missing = |key, example| ReadPlanError::MissingKey {
            place: document.whole(),
            key,
            example,
        };
        let mut recipe = merge::recipe(&file.merge, document)?;
        round.evaluate = evaluate::rule(file.evaluate.as_ref(), &file.merge, document)?;
        let privacy = privacy::privacy(&file, &recipe, document)?;
        if let Some(privacy) = &privacy {
            privacy::bound(&mut recipe, privacy);
            round.private_rounds = Some(privacy.merges_left(0.0));
        }
        let plan = Self {
            name: file
                .name
                .ok_or_else(|| missing("name", "name = \"ward-study\""))?,
            base: file
                .base
                .filter(|base| !base.as_os_str().is_empty())
                .map(|base| beside(document.path(), &base))
                .ok_or_else(|| missing("base", "base = \"base.safetensors\""))?,
            keep: keep::keep(file.keep.as_ref(), document)?,
            round,
            selector: Selector::new(&file.round.cohort.labels),
            weight: merge::weight(&file.merge, document)?,
            max_weight: merge::max_weight(&file.merge, document)?,
            trusted: trusted(&file.merge, &recipe, document)?,
            privacy,
            freeze: merge::freeze(&file.merge, document)?,
            density: density(&file.update, document)?,
            encodings: encodings(&file.update, document)?,
            max_update: max_update(&file.update, document)?,
            recipe,
        };
        plan.round.check().map_err(|source| ReadPlanError::Rounds {
            path: document.path().to_owned(),
            source,
        })?;
        plan.recipe
            .check(plan.round.quorum)
            .map_err(|source| ReadPlanError::Merge {
                path: document.path().to_owned(),
                source,
            })?;
        Ok(plan)
    }
}

/// A path as seen from the directory of `file`.
fn beside(file: &Path, path: &Path) -> PathBuf {
    file.parent()
        .map_or_else(|| path.to_owned(), |directory| directory.join(path))
}

/// Whom the table trusts, as a client.
fn trusted(
    table: &MergeTable,
    recipe: &Recipe,
    document: &Document,
) -> Result<Option<ClientId>, ReadPlanError> {
    let name = merge::trusted(table, recipe, document)?;
    let client = name.map(|name| {
        let client = name.get_ref().parse();
        client.map_err(|_| ReadPlanError::Value {
            place: document.place(name.span()),
            key: "trusted",
            fault: "is not a name that a client can have",
        })
    });
    client.transpose()
}

fn encodings(table: &UpdateTable, document: &Document) -> Result<Vec<Encoding>, ReadPlanError> {
    let Some(names) = &table.encodings else {
        return Ok(vec![Encoding::F32]);
    };
    let mut encodings = Vec::new();
    for name in names {
        let encoding = ENCODINGS.choose(name, document)?;
        if encodings.contains(&encoding) {
            return Err(ReadPlanError::Value {
                place: document.place(Spanned::span(name)),
                key: "encodings",
                fault: "has an encoding twice",
            });
        }
        encodings.push(encoding);
    }
    if encodings.is_empty() {
        return Err(ReadPlanError::Value {
            place: document.whole(),
            key: "encodings",
            fault: "is empty, so no update could be sent",
        });
    }
    Ok(encodings)
}

fn density(table: &UpdateTable, document: &Document) -> Result<Density, ReadPlanError> {
    let Some(share) = &table.density else {
        return Ok(Density::default());
    };
    let refusal = |fault| ReadPlanError::Value {
        place: document.place(share.span()),
        key: "density",
        fault,
    };
    let encodings = encodings(table, document)?;
    if !encodings.iter().any(|encoding| encoding.is_sparse()) {
        return Err(refusal(
            "has no effect: neither `top-k`, `ternary` nor `seeded-mask` is among the encodings",
        ));
    }
    Density::from_share(*share.get_ref())
        .map_err(|_| refusal("must be a share of the values, above 0 and at most 1"))
}

fn max_update(table: &UpdateTable, document: &Document) -> Result<ByteSize, ReadPlanError> {
    let size = table.max_bytes.unwrap_or(DEFAULT_MAX_UPDATE);
    if size.get() == 0 {
        return Err(ReadPlanError::Value {
            place: document.whole(),
            key: "max_bytes",
            fault: "is 0, so no update could be sent",
        });
    }
    Ok(size)
}
