//! What to simulate: flags over the plan file over defaults, resolved once.
//!
//! The result is a complete `federation.toml` plus what only a simulation has: how many clients, which of them lie,
//! how the examples are spread. Whether the plan can work is for the server to judge; it reads the file like any other.

use std::path::PathBuf;

use clap::Args;
use fedmerge_client::trainer::builtin::source::DataSource;
use fedmerge_common::failure::{ExitCode, Failure};
use toml::{Table, Value};

use super::attacker::Attack;
use super::partition::Partition;

const DEFAULT_ROUNDS: u64 = 10;
const DEFAULT_CLIENTS: usize = 8;
const DEFAULT_TOLERATE: usize = 2;
const MOST_CLIENTS: usize = 1000;
/// The defaults of ties here: one client one vote, and half of the values, suit updates from few clients.
const TIES_DENSITY: f64 = 0.5;
const TIES_ELECT: &str = "count";

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
    plan: Option<PathBuf>,

    /// Client processes
    #[arg(long, value_name = "N", default_value_t = DEFAULT_CLIENTS)]
    clients: usize,

    /// Rounds [default: 10]
    #[arg(long, value_name = "N")]
    rounds: Option<u64>,

    /// Merge method [default: trimmed-mean]
    #[arg(long, value_name = "NAME", value_parser = ["mean", "median", "trimmed-mean", "task-arithmetic", "ties"])]
    method: Option<String>,

    /// Hostile clients that trimmed-mean withstands [default: 2, fewer with less than 5 clients]
    #[arg(long, value_name = "F")]
    tolerate: Option<usize>,

    /// Before the merge: clip each update to the median norm, or to a number
    #[arg(long, value_name = "clip:median|clip:NORM", value_parser = parse_before)]
    before: Option<ClipNorm>,

    /// Share of the values that ties keeps [default: 0.5]
    #[arg(long, value_name = "SHARE")]
    density: Option<f64>,

    /// How ties elects signs: by the sum of values or one client one vote [default: count]
    #[arg(long, value_name = "HOW", value_parser = ["mass", "count"])]
    elect: Option<String>,

    /// Weight of a client: its number of examples, or the same for all [default: examples]
    #[arg(long, value_name = "HOW", value_parser = ["examples", "uniform"])]
    weight: Option<String>,

    /// What attackers hand in
    #[arg(long, value_enum, value_name = "ATTACK")]
    attack: Option<Attack>,

    /// Clients that lie; the last ones [default with --attack: 2]
    #[arg(long, value_name = "N", requires = "attack")]
    attackers: Option<usize>,

    /// How the training examples are spread: iid, dirichlet:ALPHA or by-label
    #[arg(long, value_name = "HOW", default_value = "dirichlet:0.5")]
    partition: Partition,

    /// Examples: the embedded digits, or a safetensors file with x (n × d) and y (n)
    #[arg(long, value_name = "digits|PATH", default_value = "digits")]
    dataset: DataSource,

    /// Batches a client trains on in a round
    #[arg(long, value_name = "N", default_value_t = 40)]
    local_steps: usize,

    /// Fixes the data of each client, the first base and every batch
    #[arg(long, default_value_t = 7)]
    seed: u64,

    /// Directory for everything the run leaves [default: a new one in the system's temporary directory]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// The norm to which updates are clipped before the merge.
#[derive(Clone, Copy, Debug, PartialEq)]
enum ClipNorm {
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

/// Clients that lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attackers {
    /// What they do.
    pub(super) attack: Attack,
    /// How many: the clients with the highest numbers.
    pub(super) count: usize,
}

/// A simulation, complete.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Number of client processes.
    pub(super) clients: usize,
    /// Rounds of the plan.
    pub(super) rounds: u64,
    /// The lying ones among the clients.
    pub(super) attackers: Option<Attackers>,
    /// How the examples are spread.
    pub(super) partition: Partition,
    /// Where the examples come from.
    pub(super) dataset: DataSource,
    /// Batches of a local training.
    pub(super) local_steps: usize,
    /// Fixes everything random.
    pub(super) seed: u64,
    /// Where the results go; `None` is a fresh temporary directory.
    pub(super) out: Option<PathBuf>,
    /// The merge in words: `trimmed-mean, tolerate 2`.
    pub(super) merge: String,
    /// The federation's plan; `base` is filled in where the files are laid out.
    pub(super) plan: Table,
}

impl Settings {
    /// Lays flags over the plan over the defaults.
    ///
    /// # Errors
    /// When the plan is no TOML or the numbers of clients make no sense.
    pub(super) fn resolve(arguments: SimulateArguments) -> Result<Self, Failure> {
        if !(1..=MOST_CLIENTS).contains(&arguments.clients) {
            let message = format!(
                "--clients {} must be from 1 to {MOST_CLIENTS}",
                arguments.clients
            );
            return Err(Failure::new(ExitCode::Usage, message)
                .with_hint("8 is a good number to begin with"));
        }
        let attackers = attackers(&arguments)?;
        let hostile = attackers.map_or(0, |attackers| attackers.count);
        let mut plan = read_plan(&arguments)?;
        let merge = overlay_merge(&mut plan, &arguments)?;
        let rounds = overlay_round(&mut plan, &arguments, hostile)?;
        plan.entry("name").or_insert_with(|| "simulation".into());
        Ok(Self {
            clients: arguments.clients,
            rounds,
            attackers,
            partition: arguments.partition,
            dataset: arguments.dataset,
            local_steps: arguments.local_steps,
            seed: arguments.seed,
            out: arguments.out,
            merge,
            plan,
        })
    }

    /// What client `number` (from 1) hands in, when it lies.
    pub(super) fn attack_of(&self, number: usize) -> Option<Attack> {
        self.attackers
            .filter(|attackers| number > self.clients - attackers.count)
            .map(|attackers| attackers.attack)
    }
}

fn attackers(arguments: &SimulateArguments) -> Result<Option<Attackers>, Failure> {
    let Some(attack) = arguments.attack else {
        return Ok(None);
    };
    let count = arguments
        .attackers
        .unwrap_or(DEFAULT_TOLERATE.min(arguments.clients));
    if count > arguments.clients {
        let message = format!(
            "--attackers {count} is more than --clients {}",
            arguments.clients
        );
        return Err(Failure::new(ExitCode::Usage, message)
            .with_hint("lower --attackers or raise --clients"));
    }
    Ok(Some(Attackers { attack, count }))
}

fn read_plan(arguments: &SimulateArguments) -> Result<Table, Failure> {
    let Some(path) = &arguments.plan else {
        return Ok(Table::new());
    };
    let bad = |error: &dyn std::error::Error| {
        Failure::new(
            ExitCode::BadConfiguration,
            format!("cannot read the plan {}", path.display()),
        )
        .with_source(error)
        .with_hint("give a federation.toml, or none: simulate has a plan of its own")
    };
    let text = std::fs::read_to_string(path).map_err(|error| bad(&error))?;
    text.parse().map_err(|error: toml::de::Error| bad(&error))
}

/// The named table of the plan, made when it is not there.
fn table<'a>(plan: &'a mut Table, name: &str) -> Result<&'a mut Table, Failure> {
    plan.entry(name)
        .or_insert_with(|| Value::Table(Table::new()))
        .as_table_mut()
        .ok_or_else(|| {
            Failure::new(
                ExitCode::BadConfiguration,
                format!("`{name}` of the plan is no table"),
            )
            .with_hint(format!("write a section [{name}]"))
        })
}

fn count(number: usize) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

/// Fills the plan's `[merge]` and tells it in words.
fn overlay_merge(plan: &mut Table, arguments: &SimulateArguments) -> Result<String, Failure> {
    let merge = table(plan, "merge")?;
    if let Some(method) = &arguments.method {
        if merge
            .get("method")
            .and_then(Value::as_str)
            .is_some_and(|planned| planned != method)
        {
            // Keys of the plan's own method mean nothing to another one.
            for key in ["tolerate", "density", "scope", "elect", "normalize"] {
                merge.remove(key);
            }
        }
        merge.insert("method".into(), method.as_str().into());
    }
    let method = merge
        .entry("method")
        .or_insert_with(|| "trimmed-mean".into());
    let method = method.as_str().unwrap_or_default().to_owned();
    let affordable = DEFAULT_TOLERATE.min((arguments.clients - 1) / 2);
    let default_tolerate = (method == "trimmed-mean").then_some(affordable);
    let is_ties = method == "ties";
    let mut settle = |key: &str, flag: Option<Value>, default: Option<Value>| {
        if let Some(value) = flag.or_else(|| default.filter(|_| !merge.contains_key(key))) {
            merge.insert(key.into(), value);
        }
    };
    settle(
        "tolerate",
        arguments.tolerate.map(count),
        default_tolerate.map(count),
    );
    settle(
        "density",
        arguments.density.map(Value::Float),
        is_ties.then_some(Value::Float(TIES_DENSITY)),
    );
    settle(
        "elect",
        arguments.elect.as_deref().map(Value::from),
        is_ties.then(|| TIES_ELECT.into()),
    );
    settle("weight", arguments.weight.as_deref().map(Value::from), None);
    settle("before", arguments.before.map(clip), None);
    settle(
        "seed",
        None,
        Some(Value::Integer(
            i64::try_from(arguments.seed).unwrap_or(i64::MAX),
        )),
    );
    Ok(in_words(&method, merge))
}

fn clip(norm: ClipNorm) -> Value {
    let norm = match norm {
        ClipNorm::Median => Value::from("median"),
        ClipNorm::Fixed(norm) => Value::Float(norm),
    };
    let stage: Table = [
        ("method".to_owned(), "clip".into()),
        ("norm".to_owned(), norm),
    ]
    .into_iter()
    .collect();
    Value::Array(vec![Value::Table(stage)])
}

fn in_words(method: &str, merge: &Table) -> String {
    let mut words = method.to_owned();
    let stages = merge
        .get("before")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    for stage in stages.filter_map(Value::as_table) {
        let part = |key: &str| {
            stage
                .get(key)
                .map(|value| value.to_string().replace('"', ""))
                .unwrap_or_default()
        };
        words = format!("{}({}), {words}", part("method"), part("norm"));
    }
    for key in ["tolerate", "density", "elect", "lambda"] {
        if let Some(value) = merge.get(key) {
            words += &format!(", {key} {}", value.to_string().replace('"', ""));
        }
    }
    words
}

/// Fills the plan's `[round]`: everyone is invited, and a round needs those who do not lie.
fn overlay_round(
    plan: &mut Table,
    arguments: &SimulateArguments,
    hostile: usize,
) -> Result<u64, Failure> {
    let tolerate = plan
        .get("merge")
        .and_then(|merge| merge.get("tolerate"))
        .and_then(Value::as_integer);
    let tolerate = tolerate
        .and_then(|tolerate| usize::try_from(tolerate).ok())
        .unwrap_or(0);
    let has_plan = arguments.plan.is_some();
    let round = table(plan, "round")?;
    if let Some(rounds) = arguments.rounds {
        round.insert(
            "count".into(),
            Value::Integer(i64::try_from(rounds).unwrap_or(i64::MAX)),
        );
    }
    let planned = round
        .entry("count")
        .or_insert_with(|| Value::Integer(i64::try_from(DEFAULT_ROUNDS).unwrap_or(10)));
    let rounds = planned
        .as_integer()
        .and_then(|rounds| u64::try_from(rounds).ok())
        .unwrap_or(0);
    if rounds == 0 && planned.is_integer() {
        return Err(Failure::new(
            ExitCode::Usage,
            "a simulation must end, and 0 rounds go on until stopped",
        )
        .with_hint("give --rounds 10"));
    }
    // A plan for another number of clients keeps its proportions only if it fits; otherwise everyone is invited.
    let target = round
        .get("cohort")
        .and_then(|cohort| cohort.get("target"))
        .and_then(Value::as_integer);
    let fits = target
        .and_then(|target| usize::try_from(target).ok())
        .is_some_and(|target| target <= arguments.clients);
    if !(has_plan && fits) {
        let cohort: Table = [("target".to_owned(), count(arguments.clients))]
            .into_iter()
            .collect();
        round.insert("cohort".into(), Value::Table(cohort));
        let quorum = (arguments.clients - hostile)
            .max(2 * tolerate + 1)
            .min(arguments.clients)
            .max(1);
        round.insert("quorum".into(), count(quorum));
    }
    round.entry("deadline").or_insert_with(|| "2m".into());
    round.entry("grace").or_insert_with(|| "30s".into());
    Ok(rounds)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: SimulateArguments,
    }

    fn resolve(line: &str) -> Result<Settings, Failure> {
        let words = std::iter::once("simulate").chain(line.split_whitespace());
        Settings::resolve(Line::try_parse_from(words).unwrap().arguments)
    }

    fn plan(line: &str) -> String {
        resolve(line).unwrap().plan.to_string()
    }

    #[test]
    fn without_flags_two_hostile_clients_of_eight_are_withstood() {
        let settings = resolve("").unwrap();
        assert_eq!(settings.merge, "trimmed-mean, tolerate 2");
        assert_eq!((settings.clients, settings.rounds), (8, 10));
        let round = settings.plan["round"].as_table().unwrap();
        assert_eq!(round["cohort"]["target"].as_integer(), Some(8));
        assert_eq!(round["quorum"].as_integer(), Some(8));
    }

    #[test]
    fn few_clients_tolerate_as_many_as_they_can() {
        assert_eq!(
            resolve("--clients 3").unwrap().merge,
            "trimmed-mean, tolerate 1"
        );
        assert_eq!(
            resolve("--clients 2").unwrap().merge,
            "trimmed-mean, tolerate 0"
        );
    }

    #[test]
    fn the_quorum_is_reached_by_honest_clients_alone() {
        assert!(plan("--attack nan --attackers 2 --method mean").contains("quorum = 6"));
        assert!(plan("--attack nan --attackers 5").contains("quorum = 5"));
    }

    #[test]
    fn ties_gets_its_own_defaults_and_no_tolerate() {
        let merge = resolve("--method ties --before clip:median").unwrap().merge;
        assert_eq!(merge, "clip(median), ties, density 0.5, elect count");
        assert_eq!(
            resolve("--method ties --density 0.2 --elect mass")
                .unwrap()
                .merge,
            "ties, density 0.2, elect mass"
        );
    }

    #[test]
    fn the_last_clients_are_the_attackers() {
        let settings = resolve("--attack scale --clients 5 --attackers 2").unwrap();
        let lying: Vec<usize> = (1..=5)
            .filter(|&number| settings.attack_of(number).is_some())
            .collect();
        assert_eq!(lying, [4, 5]);
    }

    #[test]
    fn flags_override_the_plan_and_the_rest_of_it_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("federation.toml");
        let text = "name = \"n\"\n[round]\ncount = 3\ncohort = { target = 4 }\nquorum = 2\n[merge]\nmethod = \"ties\"\n\
                    density = 0.3\nlambda = 0.7\n";
        std::fs::write(&path, text).unwrap();
        let planned = resolve(&path.display().to_string()).unwrap();
        assert_eq!(planned.rounds, 3);
        assert_eq!(planned.plan["round"]["quorum"].as_integer(), Some(2));
        assert_eq!(planned.merge, "ties, density 0.3, elect count, lambda 0.7");
        let flagged = resolve(&format!("{} --rounds 5 --method mean", path.display())).unwrap();
        assert_eq!(
            (flagged.rounds, flagged.merge.as_str()),
            (5, "mean, lambda 0.7")
        );
        assert_eq!(flagged.plan["name"].as_str(), Some("n"));
    }

    #[test]
    fn numbers_that_make_no_sense_are_wrong_usage() {
        for line in [
            "--clients 0",
            "--clients 9999",
            "--rounds 0",
            "--attack nan --attackers 9",
        ] {
            assert_eq!(resolve(line).unwrap_err().exit, ExitCode::Usage, "{line}");
        }
        let words = ["simulate", "--attackers", "2"];
        assert!(Line::try_parse_from(words).is_err());
    }
}
