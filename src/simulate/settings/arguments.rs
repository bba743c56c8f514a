//! The command line of `simulate`: what a user may say, and its help.

use std::path::PathBuf;

use clap::Args;
use fedmerge_client::trainer::builtin::source::DataSource;

use crate::simulate::attacker::Attack;
use crate::simulate::partition::Partition;

const DEFAULT_CLIENTS: usize = 8;

/// Arguments of `fedmerge simulate`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  fedmerge simulate
  fedmerge simulate --attack sign-flip --attackers 2 --method mean
  fedmerge simulate --attack sign-flip --attackers 2 --method ties --before clip:median
  fedmerge simulate federation.toml --clients 20 --rounds 50 --partition by-label --out run-1
  fedmerge simulate --format json | tail -n 1")]
pub(crate) struct SimulateArguments {
    /// A federation.toml whose round and merge tables to use; flags override it
    #[arg(value_name = "PLAN")]
    pub(super) plan: Option<PathBuf>,

    /// Client processes
    #[arg(long, value_name = "N", default_value_t = DEFAULT_CLIENTS)]
    pub(super) clients: usize,

    /// Rounds [default: 10]
    #[arg(long, value_name = "N")]
    pub(super) rounds: Option<u64>,

    /// Merge method [default: trimmed-mean]
    #[arg(long, value_name = "NAME", value_parser = ["mean", "median", "trimmed-mean", "task-arithmetic", "ties"])]
    pub(super) method: Option<String>,

    /// Hostile clients that trimmed-mean withstands [default: 2, fewer with less than 5 clients]
    #[arg(long, value_name = "F")]
    pub(super) tolerate: Option<usize>,

    /// Before the merge: clip each update to the median norm, or to a number
    #[arg(long, value_name = "clip:median|clip:NORM", value_parser = parse_before)]
    pub(super) before: Option<ClipNorm>,

    /// Share of the values that ties keeps [default: 0.5]
    #[arg(long, value_name = "SHARE")]
    pub(super) density: Option<f64>,

    /// How ties elects signs: by the sum of values or one client one vote [default: count]
    #[arg(long, value_name = "HOW", value_parser = ["mass", "count"])]
    pub(super) elect: Option<String>,

    /// Weight of a client: its number of examples, or the same for all [default: examples]
    #[arg(long, value_name = "HOW", value_parser = ["examples", "uniform"])]
    pub(super) weight: Option<String>,

    /// What attackers hand in
    #[arg(long, value_enum, value_name = "ATTACK")]
    pub(super) attack: Option<Attack>,

    /// Clients that lie; the last ones [default with --attack: 2]
    #[arg(long, value_name = "N", requires = "attack")]
    pub(super) attackers: Option<usize>,

    /// How the training examples are spread: iid, dirichlet:ALPHA or by-label
    #[arg(long, value_name = "HOW", default_value = "dirichlet:0.5")]
    pub(super) partition: Partition,

    /// Examples: the embedded digits, or a safetensors file with x (n × d) and y (n)
    #[arg(long, value_name = "digits|PATH", default_value = "digits")]
    pub(super) dataset: DataSource,

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

/// The norm to which updates are clipped before the merge.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ClipNorm {
    Median,
    Fixed(f64),
}

fn parse_before(text: &str) -> Result<ClipNorm, String> {
    match text.split_once(':') {
        Some(("clip", "median")) => Ok(ClipNorm::Median),
        Some(("clip", norm)) => norm
            .parse()
            .ok()
            .filter(|norm: &f64| norm.is_finite() && *norm > 0.0)
            .map(ClipNorm::Fixed)
            .ok_or_else(|| format!("the norm {norm:?} must be `median` or a number above 0")),
        Some(_) | None => Err("write clip:median or clip:NORM".to_owned()),
    }
}
