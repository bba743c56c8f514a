//! Flags over the plan file over a simulation's own defaults: what `federation.toml` says in the end.

use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::task_vector::Encoding;
use fedmerge_server::plan::LEAST_QUORUM;
use toml::{Table, Value};

use super::DEFAULT_TOLERATE;
use super::arguments::{SentAs, SimulateArguments};
use super::needs::Needs;
use super::stages;
use crate::simulate::stage::client_name;

const DEFAULT_ROUNDS: u64 = 10;
/// The defaults of an election here: one client one vote, and half of the values, suit updates from few clients.
const TIES_DENSITY: f64 = 0.5;
const TIES_ELECT: &str = "count";

/// The plan file's table; empty without a file.
pub(super) fn read_plan(arguments: &SimulateArguments) -> Result<Table, Failure> {
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

/// Keys that mean something to some methods alone.
const KEYS_OF_METHODS: &[&str] = &[
    "tolerate",
    "sparsify",
    "density",
    "scope",
    "elect",
    "normalize",
    "rescale",
    "gamma",
    "epsilon",
    "t",
    "nu",
    "iterations",
    "radius",
    "size",
    "compat",
    "trusted",
];

/// Fills the plan's `[merge]` and tells it in words.
pub(super) fn overlay_merge(
    plan: &mut Table,
    arguments: &SimulateArguments,
) -> Result<String, Failure> {
    let merge = table(plan, "merge")?;
    if let Some(method) = &arguments.method {
        if merge
            .get("method")
            .and_then(Value::as_str)
            .is_some_and(|planned| planned != method)
        {
            for key in KEYS_OF_METHODS {
                merge.remove(*key);
            }
        }
        merge.insert("method".into(), method.as_str().into());
    }
    if !arguments.before.is_empty() {
        let stages = arguments.before.iter().map(stages::of).collect();
        merge.insert("before".into(), Value::Array(stages));
    }
    let method = merge
        .entry("method")
        .or_insert_with(|| "trimmed-mean".into());
    let method = method.as_str().unwrap_or_default().to_owned();
    let needs = Needs::of(&method, merge);
    // Who is tried by so many is to withstand so many.
    let wanted = arguments.attackers.filter(|_| arguments.red_team);
    let wanted = wanted.unwrap_or(DEFAULT_TOLERATE);
    let affordable = wanted.min(needs.affordable(arguments.clients));
    let elects = ["ties", "dare-ties", "della", "breadcrumbs-ties"].contains(&method.as_str());
    let trusts = ["fltrust", "moNNA"].contains(&method.as_str());
    let mut settle = |key: &str, flag: Option<Value>, default: Option<Value>| {
        if let Some(value) = flag.or_else(|| default.filter(|_| !merge.contains_key(key))) {
            merge.insert(key.into(), value);
        }
    };
    settle(
        "tolerate",
        arguments.tolerate.map(count),
        needs.tolerates.then(|| count(affordable)),
    );
    settle(
        "density",
        arguments.density.map(Value::Float),
        (method == "ties").then_some(Value::Float(TIES_DENSITY)),
    );
    settle(
        "elect",
        arguments.elect.as_deref().map(Value::from),
        elects.then(|| TIES_ELECT.into()),
    );
    settle(
        "trusted",
        arguments.trusted.as_deref().map(Value::from),
        trusts.then(|| client_name(1).into()),
    );
    // A method that a plan chose has that plan's numbers, also those that it leaves out.
    let is_ours = arguments.method.is_some() || arguments.plan.is_none();
    if let Some((key, value)) = stages::scale(&method, arguments.clients).filter(|_| is_ours) {
        settle(key, None, Some(value));
    }
    settle("weight", arguments.weight.as_deref().map(Value::from), None);
    settle(
        "optimizer",
        arguments.optimizer.as_deref().map(stages::optimizer),
        None,
    );
    settle(
        "seed",
        None,
        Some(Value::Integer(
            i64::try_from(arguments.seed).unwrap_or(i64::MAX),
        )),
    );
    Ok(stages::in_words(&method, merge))
}

/// Fills the plan's `[update]` and tells how updates are sent.
pub(super) fn overlay_update(
    plan: &mut Table,
    arguments: &SimulateArguments,
) -> Result<Vec<String>, Failure> {
    let update = table(plan, "update")?;
    if let Some(SentAs { encoding, density }) = arguments.encoding {
        let encodings = Value::Array(vec![encoding.as_str().into()]);
        update.insert("encodings".into(), encodings);
        if !encoding.is_sparse() {
            update.remove("density");
        }
        if let Some(density) = density {
            update.insert("density".into(), Value::Float(density.share()));
        }
    }
    let encodings = update.get("encodings").and_then(Value::as_array);
    let names = encodings.map(|names| names.iter().filter_map(Value::as_str));
    Ok(names.map_or_else(
        || vec![Encoding::F32.to_string()],
        |names| names.map(str::to_owned).collect(),
    ))
}

/// Fills the plan's `[round]`: everyone is invited, and a round needs those who do not lie.
pub(super) fn overlay_round(
    plan: &mut Table,
    arguments: &SimulateArguments,
    hostile: usize,
) -> Result<u64, Failure> {
    let merge = table(plan, "merge")?;
    let tolerate = merge.get("tolerate").and_then(Value::as_integer);
    let tolerate = tolerate.and_then(|tolerate| usize::try_from(tolerate).ok());
    let method = merge.get("method").and_then(Value::as_str);
    let least = Needs::of(method.unwrap_or_default(), merge).clients(tolerate.unwrap_or(0));
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
            .max(least)
            .min(arguments.clients)
            .max(1);
        round.insert("quorum".into(), count(quorum));
        if quorum < LEAST_QUORUM {
            // All clients are ours, so nobody sees what is not his.
            round.insert("allow_small_quorum".into(), true.into());
        }
    }
    round.entry("deadline").or_insert_with(|| "2m".into());
    round.entry("grace").or_insert_with(|| "30s".into());
    Ok(rounds)
}
