//! What the user sees: the setting, a row for each round as it ends, a curve, and where the results are.
//!
//! Rows go to standard output; on a terminal a spinner below them, on standard error, says what is under way. With
//! `--format json` standard output carries the summary alone, as its last line.

mod words;

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::builder::styling::{AnsiColor, Style};
use fedmerge_client::trainer::builtin::train::Evaluation;
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::output::Output;
use fedmerge_common::units::Millis;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::attack::poison::TARGET;
use super::chart::accuracy_curve;
use super::server_event::{PublishedModel, RoundClosed};
use super::settings::Settings;
use super::stage::Stage;
use super::summary::{Final, Judgement, Refused, Round, Summary};
use words::{blocks, grouped, loss, travelled};

const TICK: Duration = Duration::from_millis(120);
/// Columns when nobody says how many there are.
const DEFAULT_COLUMNS: u16 = 80;
/// Characters of the bar that shows the accuracy.
const BAR_COLUMNS: usize = 20;
/// Width of the table without the bar.
const TABLE_COLUMNS: usize = 66;

/// Shows the rounds and remembers them for the end.
pub(super) struct Scoreboard<'a> {
    output: &'a Output,
    spinner: ProgressBar,
    styles: Styles,
    columns: u16,
    started: Instant,
    rounds_planned: u64,
    base: Option<Evaluation>,
    published: usize,
    notable: Vec<Refused>,
    summary: Summary,
}

struct Styles {
    heading: Style,
    faint: Style,
    good: Style,
    warning: Style,
}

impl Styles {
    fn new(colourful: bool) -> Self {
        let or_plain = |style: Style| if colourful { style } else { Style::new() };
        Self {
            heading: or_plain(Style::new().bold()),
            faint: or_plain(Style::new().dimmed()),
            good: or_plain(AnsiColor::Green.on_default()),
            warning: or_plain(AnsiColor::Yellow.on_default()),
        }
    }
}

fn paint(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

impl<'a> Scoreboard<'a> {
    /// Says what is going to be simulated.
    pub(super) fn new(output: &'a Output, settings: &Settings, stage: &Stage) -> Self {
        let terminal = output.is_text() && std::io::stdout().is_terminal();
        let colourful =
            terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let board = Self {
            output,
            spinner: spinner(output),
            styles: Styles::new(colourful),
            columns: comfy_table::Table::new()
                .width()
                .filter(|_| terminal)
                .unwrap_or(DEFAULT_COLUMNS),
            started: Instant::now(),
            rounds_planned: settings.rounds,
            base: None,
            published: 0,
            notable: Vec::new(),
            summary: Summary {
                seed: settings.seed,
                clients: settings.clients,
                attackers: settings.attackers.map_or(0, |attackers| attackers.count),
                attack: settings.attackers.map(|attackers| attackers.attack.name()),
                partition: settings.partition.to_string(),
                merge: settings.merge.clone(),
                encodings: settings.encodings.clone(),
                link: settings.link.map(|link| link.to_string()),
                gate: settings.gate.clone(),
                out: stage.dir.clone(),
                elapsed_ms: 0,
                server_peak_bytes: None,
                rounds: Vec::new(),
                last: Final {
                    accuracy: 0.0,
                    loss: 0.0,
                    backdoor: None,
                    model: None,
                    path: stage.base(),
                },
            },
        };
        board.announce(stage);
        board
    }

    fn announce(&self, stage: &Stage) {
        let Summary {
            clients,
            attackers,
            attack,
            partition,
            merge,
            seed,
            ..
        } = &self.summary;
        let hostile = attack
            .map(|attack| format!(", {attackers} of them hostile ({attack})"))
            .unwrap_or_default();
        let heading = self.styles.heading;
        self.print(format_args!(
            "{} {clients} processes{hostile}",
            paint(heading, "clients")
        ));
        self.print(format_args!(
            "{}    spread {partition}, seed {seed}; {} examples that nobody trains on are the test",
            paint(heading, "data"),
            stage.test.len()
        ));
        self.print(format_args!(
            "{}   {merge}; {} rounds",
            paint(heading, "merge"),
            self.rounds_planned
        ));
        if let Some(link) = &self.summary.link {
            self.print(format_args!("{}    {link}", paint(heading, "link")));
        }
        if let Some(gate) = &self.summary.gate {
            self.print(format_args!("{}    {gate}", paint(heading, "gate")));
        }
        self.print(format_args!(
            "{} {}",
            paint(heading, "results"),
            stage.dir.display()
        ));
        self.print("");
    }

    /// Says what is under way.
    pub(super) fn status(&self, text: impl Into<String>) {
        self.spinner.set_message(text.into());
    }

    /// Shows how good the first base is.
    pub(super) fn base(&mut self, evaluation: Evaluation) {
        self.base = Some(evaluation);
        self.summary.last.accuracy = evaluation.accuracy;
        self.summary.last.loss = evaluation.loss;
        let header = format!(
            "{:>5}  {:>8}  {:>8}  {:>8}  {:>8}  {:>8}  {:>8}",
            "round", "accepted", "rejected", "accuracy", "loss", "merge", "wall"
        );
        self.print(paint(self.styles.heading, header));
        let row = format!(
            "{:>5}  {:>8}  {:>8}  {:>8.3}  {:>8.3}  {:>8}  {:>8}",
            "base", "", "", evaluation.accuracy, evaluation.loss, "", ""
        );
        self.print(format_args!(
            "{}{}",
            paint(self.styles.faint, row),
            self.bar(evaluation.accuracy)
        ));
    }

    /// Shows a round that is over, with how good its new base is.
    pub(super) fn round(
        &mut self,
        closed: &RoundClosed,
        published: Option<(&PublishedModel, Judgement)>,
    ) {
        let last = &mut self.summary.last;
        if let Some((model, judgement)) = published {
            self.published += 1;
            last.accuracy = judgement.evaluation.accuracy;
            last.loss = judgement.evaluation.loss;
            last.backdoor = judgement.backdoor;
            last.model = Some(model.digest);
            last.path = model.path.clone();
        }
        let current = Judgement {
            evaluation: Evaluation {
                accuracy: last.accuracy,
                loss: last.loss,
            },
            backdoor: last.backdoor,
        };
        let round = Round::new(closed, current);
        self.print(self.row(&round, closed.clients.len()));
        if round.outcome != "published" {
            self.print(paint(
                self.styles.warning,
                format_args!("       {}: {}", round.outcome, round.reason),
            ));
        }
        // The same clients with the same reasons as in the round before are no news.
        if round.refused != self.notable {
            for line in grouped(&round.refused) {
                self.print(paint(self.styles.warning, format_args!("       {line}")));
            }
            self.notable.clone_from(&round.refused);
        }
        self.summary.rounds.push(round);
    }

    /// Remembers the server's peak memory.
    pub(super) fn server_memory(&mut self, peak_bytes: Option<u64>) {
        self.summary.server_peak_bytes = peak_bytes.or(self.summary.server_peak_bytes);
    }

    /// Number of the last round that is over; 0 before the first.
    pub(super) fn rounds_over(&self) -> u64 {
        self.summary.rounds.last().map_or(0, |round| round.round)
    }

    /// Shows the end, good or bad, and where the results are.
    ///
    /// # Errors
    /// The failure that ended the simulation, or that no round produced a model.
    pub(super) fn finish(mut self, outcome: Result<(), Failure>) -> Result<(), Failure> {
        self.spinner.finish_and_clear();
        self.summary.elapsed_ms =
            u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let dir = self.summary.out.clone();
        let json = serde_json::to_vec_pretty(&self.summary).unwrap_or_default();
        if let Err(error) = std::fs::write(dir.join("summary.json"), json) {
            self.output.note(format_args!(
                "warning: cannot write {}: {error}",
                dir.join("summary.json").display()
            ));
        }
        if !self.summary.rounds.is_empty() {
            self.conclude();
        }
        if outcome.is_err() {
            self.output.note(format_args!(
                "every process is stopped; what they left is in {}",
                dir.display()
            ));
        }
        outcome?;
        if self.published > 0 {
            return Ok(());
        }
        let why = self.summary.rounds.last().map(|round| round.reason.clone());
        let mut failure = Failure::new(ExitCode::Temporary, "no round produced a new model");
        failure.causes.extend(why);
        Err(failure.with_hint(format_args!(
            "the logs of all processes are in {}",
            dir.join("logs").display()
        )))
    }

    fn conclude(&self) {
        let Summary {
            rounds,
            last,
            elapsed_ms,
            server_peak_bytes,
            out,
            ..
        } = &self.summary;
        let base = self.base.map(|base| base.accuracy);
        let accuracies: Vec<f64> = base
            .into_iter()
            .chain(rounds.iter().map(|round| round.accuracy))
            .collect();
        let curve = accuracy_curve(&accuracies, self.columns);
        if !curve.is_empty() {
            self.print(format_args!(
                "\n{}\n{curve}\n",
                paint(self.styles.heading, "accuracy by round")
            ));
        }
        let memory = server_peak_bytes
            .map(|bytes| format!(", server peak {} MiB", bytes >> 20))
            .unwrap_or_default();
        self.print(format_args!(
            "{}  accuracy {:.3}, loss {} after {} rounds in {}{memory}",
            paint(self.styles.good, "final"),
            last.accuracy,
            loss(last.loss),
            rounds.len(),
            Millis::new(*elapsed_ms).approximate()
        ));
        if let Some(backdoor) = last.backdoor {
            self.print(format_args!(
                "{}  {:.0} % of the examples with the trigger are taken for class {TARGET}, as the attackers want",
                paint(self.styles.warning, "door "),
                100.0 * backdoor
            ));
        }
        if let Some(travelled) = travelled(rounds) {
            self.print(format_args!(
                "{} {travelled}",
                paint(self.styles.good, "bytes")
            ));
        }
        if let Some(digest) = &last.model {
            self.print(format_args!(
                "{}  {digest}",
                paint(self.styles.good, "model")
            ));
        }
        self.print(format_args!(
            "       {}",
            last.path.strip_prefix(out).unwrap_or(&last.path).display()
        ));
        self.print(format_args!(
            "{}     {}",
            paint(self.styles.good, "in"),
            out.display()
        ));
        self.output.json(&self.summary);
    }

    fn row(&self, round: &Round, invited: usize) -> String {
        let rejected = format!("{:>8}", round.rejected);
        let rejected = if round.rejected > 0 {
            paint(self.styles.warning, rejected)
        } else {
            rejected
        };
        format!(
            "{:>5}  {:>8}  {rejected}  {:>8.3}  {:>8}  {:>8}  {:>8}{}",
            round.round,
            format_args!("{}/{invited}", round.accepted).to_string(),
            round.accuracy,
            loss(round.loss),
            Millis::new(round.merge_ms).approximate(),
            Millis::new(round.wall_ms).approximate(),
            self.bar(round.accuracy)
        )
    }

    /// A bar as long as the accuracy, where there is room for it.
    fn bar(&self, accuracy: f64) -> String {
        let room = usize::from(self.columns)
            .saturating_sub(TABLE_COLUMNS + 2)
            .min(BAR_COLUMNS);
        if room < BAR_COLUMNS / 2 {
            return String::new();
        }
        paint(
            self.styles.good,
            format_args!("  {}", blocks(accuracy, room)),
        )
    }

    fn print(&self, line: impl std::fmt::Display) {
        self.spinner.suspend(|| self.output.line(line));
    }
}

fn spinner(output: &Output) -> ProgressBar {
    if output.quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    }
    let spinner = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        spinner.set_style(style.tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ "));
    }
    spinner.enable_steady_tick(TICK);
    spinner
}
