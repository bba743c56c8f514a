//! The command line of `simulate`: what a user may say, and its help.

use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValuesParser;
use fedmerge_client::trainer::builtin::mlp::HIDDEN_UNITS;
use fedmerge_client::trainer::builtin::source::DataSource;
use fedmerge_common::task_vector::encoding::Density;
use fedmerge_common::task_vector::{Encoding, UnknownEncoding};
use fedmerge_server::plan::{METHOD_NAMES, OPTIMIZER_NAMES};

use crate::simulate::attack::Attack;
use crate::simulate::link::Link;
use crate::simulate::partition::Partition;

const DEFAULT_CLIENTS: usize = 8;

/// Arguments of `fedmerge simulate`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  fedmerge simulate
  fedmerge simulate --attack sign-flip --attackers 2 --method mean
  fedmerge simulate --attack sign-flip --attackers 2 --method ties --before clip:median
  fedmerge simulate --attack sign-flip --attackers 2 --method geometric-median --before arc --before nnm
  fedmerge simulate --encoding top-k:0.05 --link 20mbit,80ms,1%
  fedmerge simulate --red-team --clients 10 --attackers 2
  fedmerge simulate federation.toml --clients 20 --rounds 50 --partition by-label --out run-1
  fedmerge simulate --format json | tail -n 1")]
pub(crate) struct SimulateArguments {
    /// A federation.toml whose round, merge and evaluate tables to use; flags override it
    #[arg(value_name = "PLAN")]
    pub(super) plan: Option<PathBuf>,

    /// Client processes
    #[arg(long, value_name = "N", default_value_t = DEFAULT_CLIENTS)]
    pub(in crate::simulate) clients: usize,

    /// Rounds [default: 10]
    #[arg(long, value_name = "N")]
    pub(super) rounds: Option<u64>,

    /// Merge method [default: trimmed-mean]
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(METHOD_NAMES))]
    pub(super) method: Option<String>,

    /// Hostile clients that the merge withstands [default: 2, fewer where 2 are too many]
    #[arg(long, value_name = "F")]
    pub(super) tolerate: Option<usize>,

    /// Before the method, in order: clip:median|adaptive|NORM, arc, nnm, bucketing:SIZE
    #[arg(long, value_name = "STAGE", value_parser = parse_before)]
    pub(super) before: Vec<Before>,

    /// Share of the values that a sparsifying method keeps [default: its own; 0.5 for ties]
    #[arg(long, value_name = "SHARE")]
    pub(super) density: Option<f64>,

    /// How ties and its like elect signs: by the sum or one client one vote [default: count]
    #[arg(long, value_name = "HOW", value_parser = ["mass", "count"])]
    pub(super) elect: Option<String>,

    /// The client that fltrust and moNNA trust [default: the first]
    #[arg(long, value_name = "CLIENT")]
    pub(super) trusted: Option<String>,

    /// How updates are sent: f32, bf16, int8, sign, top-k, ternary or seeded-mask; top-k:0.05 sends a twentieth [default: f32]
    #[arg(long, value_name = "NAME", value_parser = parse_encoding)]
    pub(super) encoding: Option<SentAs>,

    /// A slow link for each client: RATE,DELAY,LOSS, as in 20mbit,80ms,1% [default: none]
    #[arg(long, value_name = "LINK")]
    pub(super) link: Option<Link>,

    /// What makes a step of the merged updates [default: none]
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(OPTIMIZER_NAMES))]
    pub(super) optimizer: Option<String>,

    /// Weight of a client: its number of examples, or the same for all [default: examples]
    #[arg(long, value_name = "HOW", value_parser = ["examples", "uniform"])]
    pub(super) weight: Option<String>,

    /// What attackers hand in; μ and σ are mean and standard deviation of what the honest clients hand in
    #[arg(long, value_enum, value_name = "ATTACK")]
    pub(in crate::simulate) attack: Option<Attack>,

    /// Clients that lie; the last ones [default with --attack or --red-team: 2]
    #[arg(long, value_name = "N")]
    pub(in crate::simulate) attackers: Option<usize>,

    /// Try every merge against every attack, in memory instead of in processes, and show the worst that befalls each; with
    /// --method, --before or a PLAN that merge alone, with --attack that attack alone
    #[arg(long, conflicts_with_all = ["encoding", "link", "out"])]
    pub(in crate::simulate) red_team: bool,

    /// How many seeds the red team plays, from --seed on
    #[arg(long, value_name = "N", default_value_t = 3, requires = "red_team", value_parser = clap::value_parser!(u64).range(1..=100))]
    pub(in crate::simulate) seeds: u64,

    /// How the training examples are spread: iid, dirichlet:ALPHA or by-label
    #[arg(long, value_name = "HOW", default_value = "dirichlet:0.5")]
    pub(super) partition: Partition,

    /// Examples: the embedded digits, or a safetensors file with x (n × d) and y (n)
    #[arg(long, value_name = "digits|PATH", default_value = "digits")]
    pub(super) dataset: DataSource,

    /// Hidden units of the model: 75 parameters each on digits
    #[arg(long, value_name = "N", default_value_t = HIDDEN_UNITS)]
    pub(super) hidden_units: usize,

    /// Batches a client trains on in a round
    #[arg(long, value_name = "N", default_value_t = 40)]
    pub(super) local_steps: usize,

    /// Fixes the data of each client, the first base and every batch
    #[arg(long, default_value_t = 7)]
    pub(super) seed: u64,

    /// Directory for everything the run leaves [default: a new one in the system's temporary directory]
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
}

impl SimulateArguments {
    /// Whether it says how to merge.
    pub(in crate::simulate) fn names_a_merge(&self) -> bool {
        self.plan.is_some() || self.method.is_some() || !self.before.is_empty()
    }

    /// The same with another merge; the stages are written as on the command line.
    ///
    /// # Panics
    /// When a stage is written wrongly.
    pub(in crate::simulate) fn with_merge(&self, method: &str, before: &[&str]) -> Self {
        let stages = before.iter().map(|stage| parse_before(stage));
        Self {
            method: Some(method.to_owned()),
            before: stages.collect::<Result<_, _>>().expect("stages of our own"),
            ..self.clone()
        }
    }
}

/// An encoding, and the share of the values that it keeps, where that was said.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SentAs {
    pub(super) encoding: Encoding,
    pub(super) density: Option<Density>,
}

fn parse_encoding(text: &str) -> Result<SentAs, String> {
    let (name, share) = match text.split_once(':') {
        Some((name, share)) => (name, Some(share)),
        None => (text, None),
    };
    let encoding: Encoding = name
        .parse()
        .map_err(|error: UnknownEncoding| error.to_string())?;
    let Some(share) = share else {
        return Ok(SentAs {
            encoding,
            density: None,
        });
    };
    if !encoding.is_sparse() {
        return Err(format!("{encoding} keeps all values and has no density"));
    }
    let density = share
        .parse()
        .ok()
        .and_then(|share| Density::from_share(share).ok());
    let density =
        density.ok_or_else(|| format!("the density {share:?} must be above 0 and at most 1"))?;
    Ok(SentAs {
        encoding,
        density: Some(density),
    })
}

/// A stage before the method.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Before {
    ClipToMedian,
    ClipAdaptively,
    Clip(f64),
    Arc,
    Nnm,
    Bucketing(usize),
}

fn parse_before(text: &str) -> Result<Before, String> {
    match text.split_once(':').unwrap_or((text, "")) {
        ("clip", "median") => Ok(Before::ClipToMedian),
        ("clip", "adaptive") => Ok(Before::ClipAdaptively),
        ("clip", norm) => norm
            .parse()
            .ok()
            .filter(|norm: &f64| norm.is_finite() && *norm > 0.0)
            .map(Before::Clip)
            .ok_or_else(|| {
                format!("the norm {norm:?} must be `median`, `adaptive` or a number above 0")
            }),
        ("arc", "") => Ok(Before::Arc),
        ("nnm", "") => Ok(Before::Nnm),
        ("bucketing", size) => size
            .parse()
            .ok()
            .filter(|size| *size > 0)
            .map(Before::Bucketing)
            .ok_or_else(|| format!("the size {size:?} must be a number above 0")),
        _ => Err(
            "write clip:median, clip:adaptive, clip:NORM, arc, nnm or bucketing:SIZE".to_owned(),
        ),
    }
}
