//! `fedmerge simulate --red-team`: every rule against every attack, and the worst that befalls each.
//!
//! Hundreds of federations, so none of them has processes: see `arena.rs` for what is the same as in a simulation that has.
//! `grid.rs` plays them and sums up, `table.rs` shows it.

mod arena;
mod grid;
mod table;

use std::io::IsTerminal;
use std::path::Path;

use clap::ValueEnum;
use fedmerge_client::trainer::builtin::mlp::{Parameters, Sizes};
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::output::Output;
use fedmerge_server::plan::FederationPlan;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::attack::Attack;
use super::settings::{Settings, SimulateArguments};
use super::stage;
use arena::{Field, PlayError};
use grid::Rule;
use table::RedTeam;

/// The rules that are tried where no one was named: method, and the stages before it.
const RULES: &[(&str, &[&str])] = &[
    ("mean", &[]),
    ("mean", &["clip:median"]),
    ("ties", &["clip:median"]),
    ("median", &[]),
    ("trimmed-mean", &[]),
    ("geometric-median", &[]),
    ("centered-clipping", &[]),
    ("multi-krum", &[]),
    ("dnc", &[]),
    ("flame", &[]),
    ("median", &["nnm"]),
    ("geometric-median", &["nnm"]),
    ("trimmed-mean", &["nnm"]),
];

/// Plays the grid and shows it.
///
/// # Errors
/// When the settings make no sense, or a federation cannot be played.
pub(super) fn run(arguments: SimulateArguments, output: &Output) -> Result<(), Failure> {
    let settings = Settings::resolve(arguments.clone())?;
    let rules = rules(&arguments)?;
    let attacks = match arguments.attack {
        Some(attack) => vec![attack],
        None => Attack::value_variants().to_vec(),
    };
    let hostile = settings.hostile;
    let seeds: Vec<u64> = (0..arguments.seeds)
        .map(|number| settings.seed.wrapping_add(number))
        .collect();
    let fields = seeds
        .iter()
        .map(|&seed| field(&settings, hostile, seed))
        .collect::<Result<Vec<_>, _>>()?;
    let setting = RedTeam {
        clients: settings.clients,
        attackers: hostile,
        partition: settings.partition.to_string(),
        rounds: settings.rounds,
        seeds,
        rules: Vec::new(),
    };
    setting.announce(output);
    let progress = progress(output);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let trials = grid::play(&rules, &attacks, &fields, threads, &|done, of| {
        progress.set_length(of as u64);
        progress.set_position(done as u64);
    });
    progress.finish_and_clear();
    let trials = trials.map_err(|error| unplayable(&error))?;
    setting.show(trials, output);
    Ok(())
}

fn unplayable(error: &PlayError) -> Failure {
    let exit = match error {
        PlayError::Train(_) => ExitCode::BadData,
        PlayError::Plan(_) => ExitCode::BadConfiguration,
        PlayError::Merge(_) => ExitCode::Bug,
    };
    Failure::new(exit, "a federation cannot be played to its end").with_source(error)
}

/// The merge that the command line names, or all that work with so many clients.
fn rules(arguments: &SimulateArguments) -> Result<Vec<Rule>, Failure> {
    if arguments.names_a_merge() {
        return Ok(vec![rule(arguments.clone())?]);
    }
    let named = RULES
        .iter()
        .map(|(method, before)| arguments.with_merge(method, before));
    let (rules, refused): (Vec<_>, Vec<_>) = named.map(rule).partition(Result::is_ok);
    // Some merges need more clients than there are. Where none is left, what is said of the last holds for all.
    match refused.into_iter().next_back() {
        Some(failure) if rules.is_empty() => failure.map(|rule| vec![rule]),
        Some(_) | None => rules.into_iter().collect(),
    }
}

fn rule(arguments: SimulateArguments) -> Result<Rule, Failure> {
    let settings = Settings::resolve(arguments)?;
    let mut plan = settings.plan;
    plan.insert("base".into(), "base.safetensors".into());
    let plan = FederationPlan::parse(&plan.to_string(), Path::new("federation.toml"));
    let plan = plan.map_err(|error| {
        Failure::new(ExitCode::BadConfiguration, "the merge cannot be done").with_source(&error)
    })?;
    Ok(Rule {
        words: settings.merge,
        plan,
    })
}

fn field(settings: &Settings, attackers: usize, seed: u64) -> Result<Field, Failure> {
    let settings = Settings {
        seed,
        ..settings.clone()
    };
    let (training, test) = stage::examples(&settings.dataset)?;
    let parts = stage::parts(&settings, &training)?;
    let sizes = Sizes {
        inputs: training.inputs(),
        hidden: settings.hidden_units,
        classes: training.classes().max(test.classes()),
    };
    Ok(Field {
        parts,
        base: Parameters::fresh(sizes, seed),
        test,
        attackers,
        rounds: settings.rounds,
        local_steps: settings.local_steps,
        first_seed: settings.client_seed(1),
    })
}

fn progress(output: &Output) -> ProgressBar {
    if output.quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    }
    let bar = ProgressBar::new(1);
    let style = "{bar:40} {pos} of {len} federations, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar
}
