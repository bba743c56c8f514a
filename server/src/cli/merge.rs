//! `fedmerge merge`: the plan before it begins, a bar while it runs, one line in the end.
//!
//! An interrupt raises the merge's flag and is waited for, so that what was begun is removed; nothing is decided here.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Args;
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::output::Output;
use fedmerge_common::units::ByteSize;
use fedmerge_merge::{Control, Detail, Pass, Progress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::run::interrupted;
use crate::compute::{Compute, ComputeError, MOST_THREADS};
use crate::files;
use crate::offline::report::{Report, Times};
use crate::offline::summary::Summary;
use crate::offline::{Existing, FinishedMerge, MergeCheckpointsError, Order, PreparedMerge};
use crate::plan::recipe::MergeRecipe;

const EXAMPLES: &str = "\
Examples:
  fedmerge merge recipe.toml --out merged                     a directory as Hugging Face tools have it
  fedmerge merge recipe.toml --out merged.safetensors         a single file
  fedmerge merge recipe.toml --out merged --dry-run           check everything, write nothing
  fedmerge merge recipe.toml --out merged --report merge.json --memory 2GiB

A recipe, with paths as seen from its directory:
  base = \"base/\"                  # a .safetensors file, or a Hugging Face directory, sharded or not
  out_dtype = \"bf16\"              # f32, f16 or bf16; left out: as in the base

  [merge]                         # as in a federation's plan
  method  = \"ties\"
  density = 0.2

  [[model]]
  path   = \"math/\"                # a fine-tuned checkpoint
  weight = 1.0

  [[model]]
  task_vector = \"code.safetensors\"   # fine-tuned - base
  density     = 0.5";

/// What `merge` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct MergeArguments {
    /// The recipe, a TOML file: which checkpoints, and how
    #[arg(value_name = "RECIPE")]
    pub recipe: PathBuf,
    /// Where the merged model goes: a file that ends in .safetensors, or a directory to make
    #[arg(long, value_name = "PATH")]
    pub out: PathBuf,
    /// Replace the output of an earlier merge
    #[arg(long)]
    pub force: bool,
    /// Check everything and print the plan, but do not merge
    #[arg(long)]
    pub dry_run: bool,
    /// Threads, at most 1024; 0: as many as the machine has
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=i64::from(MOST_THREADS)))]
    pub threads: u16,
    /// Most memory for the values that are worked on
    #[arg(long, value_name = "SIZE", default_value = "512MiB")]
    pub memory: ByteSize,
    /// Largest file of tensors in a directory; a larger model is sharded
    #[arg(long, value_name = "SIZE", default_value = "5GB")]
    pub shard_size: ByteSize,
    /// Write a report: how the models agree with one another, tensor by tensor, and where the time went
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

pub(super) async fn run(arguments: MergeArguments, output: Output) -> Result<(), Failure> {
    let started = Instant::now();
    let recipe = MergeRecipe::read(&arguments.recipe)?;
    let compute = Compute::start(arguments.threads.into())?;
    let order = Order {
        out: arguments.out.clone(),
        existing: if arguments.force {
            Existing::Replace
        } else {
            Existing::Keep
        },
        max_shard_bytes: arguments.shard_size.get(),
        threads: compute.threads(),
        memory_bytes: arguments.memory.get(),
        detail: if arguments.report.is_some() {
            Detail::Full
        } else {
            Detail::Brief
        },
    };
    let prepared = PreparedMerge::new(recipe, order)?;
    check_report(&arguments, &prepared)?;
    let summary = prepared.summary();
    for line in summary.lines() {
        output.line(line);
    }
    if arguments.dry_run {
        output.json(&serde_json::json!({ "event": "planned", "plan": summary }));
        return Ok(());
    }
    let (finished, passes) = merge(prepared, &compute, &output).await?;
    let times = Times {
        passes,
        total: started.elapsed(),
    };
    tell(&arguments, &output, &summary, &finished, &times)
}

/// Runs the merge on the pool, until it ends or somebody asks to stop.
async fn merge(
    prepared: PreparedMerge,
    compute: &Compute,
    output: &Output,
) -> Result<(FinishedMerge, Vec<(Pass, Duration)>), Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let stopper = {
        let (stop, interrupted) = (Arc::clone(&stop), interrupted()?);
        tokio::spawn(async move {
            interrupted.await;
            stop.store(true, Ordering::Relaxed);
        })
    };
    let board = Board::new(output);
    let outcome = compute
        .run(move |_| {
            let control = Control {
                cancelled: &stop,
                progress: &|progress| board.show(progress),
            };
            let outcome = prepared.run(&control);
            (outcome, board.passes())
        })
        .await;
    stopper.abort();
    match outcome {
        Ok((outcome, passes)) => Ok((outcome?, passes)),
        Err(ComputeError::Stopped) => Err(MergeCheckpointsError::Cancelled.into()),
        Err(error @ ComputeError::Panicked { .. }) => {
            Err(Failure::from_error(ExitCode::Bug, &error)
                .with_hint("this is a defect of fedmerge: please report it with the recipe"))
        }
    }
}

/// Refuses a report that would overwrite what is read or lie in the output, and one that could not be written.
fn check_report(arguments: &MergeArguments, prepared: &PreparedMerge) -> Result<(), Failure> {
    let Some(path) = &arguments.report else {
        return Ok(());
    };
    let refuse = |why: &str| {
        let message = format!("the report `{}` {why}", path.display());
        Err(Failure::new(ExitCode::Usage, message)
            .with_hint("give --report a new file in a directory that is there"))
    };
    if prepared.touches(path) {
        return refuse("would replace what the merge reads or writes");
    }
    let directory = std::path::absolute(path)
        .ok()
        .and_then(|path| path.parent().map(std::path::Path::to_owned));
    if path.is_dir() || !directory.is_some_and(|directory| directory.is_dir()) {
        return refuse("cannot be a file there");
    }
    Ok(())
}

fn tell(
    arguments: &MergeArguments,
    output: &Output,
    summary: &Summary,
    finished: &FinishedMerge,
    times: &Times,
) -> Result<(), Failure> {
    let report = Report::of(summary, finished, times);
    if let Some(path) = &arguments.report {
        files::write_json(path, &report).map_err(|error| {
            let message = format!("the report `{}` cannot be written", path.display());
            Failure::new(ExitCode::Unavailable, message)
                .with_source(&error)
                .with_hint("the merged model is complete and in its place")
        })?;
    }
    output.line(format_args!(
        "merged   {} ({}, {}) in {:.1} s",
        finished.path.display(),
        ByteSize::new(finished.bytes()),
        finished.digest(),
        times.total.as_secs_f64()
    ));
    output.json(&report);
    Ok(())
}

/// The bar, and when each pass began.
struct Board {
    bar: ProgressBar,
    began: Mutex<Vec<(Pass, Instant)>>,
}

impl Board {
    fn new(output: &Output) -> Self {
        let is_seen = !output.quiet && std::io::stderr().is_terminal();
        let target = if is_seen {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {percent} % ({elapsed})")
        {
            bar.set_style(style);
        }
        Self {
            bar,
            began: Mutex::new(Vec::new()),
        }
    }

    fn show(&self, progress: Progress) {
        let mut began = self.began.lock().unwrap_or_else(PoisonError::into_inner);
        if began.last().is_none_or(|(pass, _)| *pass != progress.pass) {
            began.push((progress.pass, Instant::now()));
            self.bar.set_message(progress.pass.purpose());
        }
        self.bar.set_length(progress.total as u64);
        self.bar.set_position(progress.done as u64);
    }

    /// How long each pass took, now that all are over; the writing of what was merged counts to the last.
    fn passes(&self) -> Vec<(Pass, Duration)> {
        self.bar.finish_and_clear();
        let began = self.began.lock().unwrap_or_else(PoisonError::into_inner);
        let ends = began.iter().skip(1).map(|(_, next)| *next);
        let ends = ends.chain([Instant::now()]);
        began
            .iter()
            .zip(ends)
            .map(|((pass, begin), end)| (*pass, end.duration_since(*begin)))
            .collect()
    }
}
