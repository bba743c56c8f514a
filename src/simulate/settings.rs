//! What to simulate: flags over the plan file over defaults, resolved once.
//!
//! The result is a complete `federation.toml` plus what only a simulation has: how many clients, which of them lie,
//! how the examples are spread. Whether the plan can work is for the server to judge; it reads the file like any other.

mod arguments;
mod needs;
mod overlay;
mod stages;

use std::path::PathBuf;

use fedmerge_client::trainer::builtin::source::DataSource;
use fedmerge_common::failure::{ExitCode, Failure};
use toml::Table;

use super::attack::Attack;
use super::link::Link;
use super::partition::Partition;
use overlay::{overlay_merge, overlay_round, overlay_update, read_plan};

pub(crate) use arguments::SimulateArguments;

const DEFAULT_TOLERATE: usize = 2;
const MOST_CLIENTS: usize = 1000;

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
    /// How many clients lie: of a red team, wherever it attacks.
    pub(super) hostile: usize,
    /// The lying ones among the clients, and what they do.
    pub(super) attackers: Option<Attackers>,
    /// How the examples are spread.
    pub(super) partition: Partition,
    /// Where the examples come from.
    pub(super) dataset: DataSource,
    /// Hidden units of the model.
    pub(super) hidden_units: usize,
    /// Batches of a local training.
    pub(super) local_steps: usize,
    /// Fixes everything random.
    pub(super) seed: u64,
    /// Where the results go; `None` is a fresh temporary directory.
    pub(super) out: Option<PathBuf>,
    /// The merge in words: `trimmed-mean, tolerate 2`.
    pub(super) merge: String,
    /// How updates are sent, preferred first.
    pub(super) encodings: Vec<String>,
    /// What is between each client and the server, where that is not only this machine.
    pub(super) link: Option<Link>,
    /// The gate before publishing in words, where the plan has one: `accuracy of each client's held-out fifth`.
    pub(super) gate: Option<String>,
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
        if arguments.hidden_units == 0 {
            let failure = Failure::new(ExitCode::Usage, "--hidden-units 0 is no model");
            return Err(failure.with_hint("64 is a good number to begin with"));
        }
        let attackers = attackers(&arguments)?;
        let hostile = if arguments.red_team {
            count_attackers(&arguments)?
        } else {
            attackers.map_or(0, |attackers| attackers.count)
        };
        let mut plan = read_plan(&arguments)?;
        let merge = overlay_merge(&mut plan, &arguments)?;
        let encodings = overlay_update(&mut plan, &arguments)?;
        let rounds = overlay_round(&mut plan, &arguments, hostile)?;
        plan.entry("name").or_insert_with(|| "simulation".into());
        Ok(Self {
            clients: arguments.clients,
            rounds,
            hostile,
            attackers,
            partition: arguments.partition,
            dataset: arguments.dataset,
            hidden_units: arguments.hidden_units,
            local_steps: arguments.local_steps,
            seed: arguments.seed,
            out: arguments.out,
            merge,
            encodings,
            link: arguments.link,
            gate: gate(&plan),
            plan,
        })
    }

    /// The seed of client `number` (from 1): different clients draw different batches.
    pub(super) fn client_seed(&self, number: usize) -> u64 {
        self.seed.wrapping_mul(1000).wrapping_add(number as u64)
    }

    /// What client `number` (from 1) hands in, when it lies.
    pub(super) fn attack_of(&self, number: usize) -> Option<Attack> {
        self.attackers
            .filter(|attackers| number > self.clients - attackers.count)
            .map(|attackers| attackers.attack)
    }
}

/// A plan's gate in words; what it says exactly is for the server to judge.
fn gate(plan: &Table) -> Option<String> {
    let metric = plan.get("evaluate")?.get("metric");
    let metric = metric.and_then(toml::Value::as_str).unwrap_or_default();
    Some(format!("{metric} of the fifth that each client holds out"))
}

fn attackers(arguments: &SimulateArguments) -> Result<Option<Attackers>, Failure> {
    let Some(attack) = arguments.attack else {
        if arguments.attackers.is_some() && !arguments.red_team {
            let message = "--attackers without --attack: nobody knows what they hand in";
            return Err(Failure::new(ExitCode::Usage, message)
                .with_hint("give --attack sign-flip, or --red-team to try all attacks"));
        }
        return Ok(None);
    };
    let count = count_attackers(arguments)?;
    Ok(Some(Attackers { attack, count }))
}

fn count_attackers(arguments: &SimulateArguments) -> Result<usize, Failure> {
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
    if count == arguments.clients && arguments.red_team {
        let message = format!("--attackers {count} leaves no honest client");
        return Err(Failure::new(ExitCode::Usage, message)
            .with_hint("lower --attackers or raise --clients"));
    }
    Ok(count)
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
    fn stages_are_told_in_their_order_and_reach_the_plan() {
        let settings =
            resolve("--method geometric-median --before clip:1.5 --before nnm --before bucketing:2 --optimizer adam")
                .unwrap();
        assert_eq!(
            settings.merge,
            "clip(1.5), nnm, bucketing(2), geometric-median, tolerate 1, adam"
        );
        let before = settings.plan["merge"]["before"].as_array().unwrap();
        assert_eq!(before.len(), 3);
        assert_eq!(
            settings.plan["merge"]["optimizer"]["method"].as_str(),
            Some("adam")
        );
    }

    #[test]
    fn every_method_has_a_plan_that_the_server_accepts() {
        for clients in [8, 15] {
            for method in fedmerge_server::plan::METHOD_NAMES {
                let line = format!("--method {method} --clients {clients}");
                let mut plan = resolve(&line).unwrap().plan;
                plan.insert("base".into(), "base.safetensors".into());
                let path = std::path::Path::new("federation.toml");
                fedmerge_server::plan::FederationPlan::parse(&plan.to_string(), path)
                    .unwrap_or_else(|error| panic!("{method}: {error}"));
            }
        }
        for (line, merge) in [
            ("--method krum", "krum, tolerate 2"),
            ("--method bulyan", "bulyan, tolerate 1"),
            ("--method fltrust", "fltrust, trusted client-1"),
            (
                "--method moNNA --trusted client-2",
                "moNNA, tolerate 2, trusted client-2",
            ),
            ("--method mean --before nnm", "nnm, mean, tolerate 2"),
            ("--method consensus", "consensus, lambda 0.125"),
            ("--method dare-linear", "dare-linear, normalize true"),
        ] {
            assert_eq!(resolve(line).unwrap().merge, merge);
        }
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
    fn an_encoding_reaches_the_plan_with_its_density() {
        assert_eq!(resolve("").unwrap().encodings, ["f32"]);
        let settings = resolve("--encoding top-k:0.02").unwrap();
        assert_eq!(settings.encodings, ["top-k"]);
        assert_eq!(settings.plan["update"]["density"].as_float(), Some(0.02));
        let update = &resolve("--encoding int8").unwrap().plan["update"];
        assert_eq!(update.to_string(), "{ encodings = [\"int8\"] }");
        for wrong in ["int4", "int8:0.5", "top-k:0", "top-k:1.5", "ternary:x"] {
            let words = ["simulate", "--encoding", wrong];
            assert!(Line::try_parse_from(words).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_gate_of_the_plan_is_told_and_stays_in_it() {
        assert_eq!(resolve("").unwrap().gate, None);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("federation.toml");
        std::fs::write(&path, "[evaluate]\nmetric = \"accuracy\"\n").unwrap();
        let settings = resolve(&path.display().to_string()).unwrap();
        assert_eq!(
            settings.gate.as_deref(),
            Some("accuracy of the fifth that each client holds out")
        );
        assert_eq!(
            settings.plan["evaluate"]["metric"].as_str(),
            Some("accuracy")
        );
    }

    #[test]
    fn numbers_that_make_no_sense_are_wrong_usage() {
        for line in [
            "--clients 0",
            "--clients 9999",
            "--rounds 0",
            "--hidden-units 0",
            "--attack nan --attackers 9",
            "--attackers 2",
            "--red-team --clients 2 --attackers 2",
        ] {
            assert_eq!(resolve(line).unwrap_err().exit, ExitCode::Usage, "{line}");
        }
    }
}
