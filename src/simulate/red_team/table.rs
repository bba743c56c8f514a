//! What the red team found, as a table for people and as JSON for programs.

use fedmerge_common::output::Output;
use serde::Serialize;

use super::grid::{Trial, Worst};

/// The merge whose accuracy without an attack all others are held against.
const YARDSTICK: &str = "mean";

/// The setting and the trials.
#[derive(Clone, Debug, Serialize)]
pub(super) struct RedTeam {
    pub(super) clients: usize,
    pub(super) attackers: usize,
    pub(super) partition: String,
    pub(super) rounds: u64,
    pub(super) seeds: Vec<u64>,
    pub(super) rules: Vec<Verdict>,
}

/// A trial with what it comes to.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Verdict {
    #[serde(flatten)]
    trial: Trial,
    /// The lowest accuracy under an untargeted attack.
    worst: Worst,
    /// The largest loss of accuracy against the unattacked mean of the same seed, where that was played.
    behind: Option<f64>,
    /// The most successful backdoor.
    backdoor: Worst,
}

impl RedTeam {
    /// Says what is going to be played.
    pub(super) fn announce(&self, output: &Output) {
        let Self {
            clients,
            attackers,
            partition,
            rounds,
            seeds,
            ..
        } = self;
        let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
        output.line(format_args!(
            "{clients} clients, {attackers} of them hostile where there is an attack; spread {partition}; {rounds} rounds; seeds {}\n",
            seeds.join(", ")
        ));
    }

    /// Shows one line for each rule, the best last.
    pub(super) fn show(mut self, trials: Vec<Trial>, output: &Output) {
        let mean = trials
            .iter()
            .find(|trial| trial.merge == YARDSTICK)
            .map(|trial| trial.runs[0].accuracy.clone());
        self.rules = trials
            .into_iter()
            .map(|trial| Verdict {
                worst: trial.worst(),
                behind: mean.as_ref().map(|mean| trial.behind(mean)),
                backdoor: trial.backdoor(),
                trial,
            })
            .collect();
        let value = |verdict: &Verdict| verdict.worst.value;
        self.rules
            .sort_by(|left, right| value(left).total_cmp(&value(right)));
        let widest = self.rules.iter().map(|verdict| verdict.trial.merge.len());
        let width = widest.max().unwrap_or(0).max("merge".len());
        output.line(format_args!(
            "{:width$}  {:>9}  {:>6}  {:<17}  {:>6}  {:>8}",
            "merge", "no attack", "worst", "by", "behind", "backdoor"
        ));
        for verdict in &self.rules {
            output.line(line(verdict, width));
        }
        output.line(
            "\naccuracies are means over the last five rounds\nworst     lowest accuracy under any untargeted attack, any seed\n\
             behind    most accuracy lost against the plain mean without an attack, seed by seed\n\
             backdoor  largest share of triggered examples that the model takes for the attacker's class",
        );
        output.json(&self);
    }
}

fn line(verdict: &Verdict, width: usize) -> String {
    let behind = verdict.behind.map(|behind| format!("{behind:.3}"));
    format!(
        "{:width$}  {:>9.3}  {:>6.3}  {:<17}  {:>6}  {:>8.3}",
        verdict.trial.merge,
        verdict.trial.unattacked(),
        verdict.worst.value,
        verdict.worst.attack.unwrap_or("no attack"),
        behind.unwrap_or_default(),
        verdict.backdoor.value,
    )
}
