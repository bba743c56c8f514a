//! A rehearsal: the user's command is tried on the present base, and what it makes is turned into an update that nobody is sent.

use std::fmt;
use std::fs;
use std::path::Path;

use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::ids::RoundNumber;
use fedmerge_common::lock::DirectoryLock;
use fedmerge_common::reason::Decline;
use fedmerge_common::task_vector::Encoding;
use fedmerge_common::task_vector::encoding::Density;
use fedmerge_common::units::{ByteSize, Millis, Timestamp};
use fedmerge_common::update::ModelRef;
use tokio::sync::watch;

use crate::cache::Cache;
use crate::link::Link;
use crate::policy::Policy;
use crate::residual::Residual;
use crate::settings::{ClientDirectory, Settings};
use crate::submission;
use crate::task::Task;
use crate::trainer::command::TrainerCommand;
use crate::trainer::workplace::Workplace;
use crate::trainer::{Progress, Trained};
use crate::transfer::download::{blocking, fetch};

/// What is tried, and where.
#[derive(Clone, Copy, Debug)]
pub struct Rehearsal<'a> {
    /// The client's directory, in which no client runs.
    pub directory: &'a ClientDirectory,
    /// What enrolment wrote there.
    pub settings: &'a Settings,
    /// The command.
    pub trainer: &'a TrainerCommand,
    /// The federation's present base.
    pub base: &'a ModelRef,
}

/// What would be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Rehearsed {
    elapsed: Millis,
    bytes: ByteSize,
    num_examples: Option<u64>,
}

impl fmt::Display for Rehearsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { elapsed, bytes, .. } = self;
        let elapsed = elapsed.approximate();
        write!(f, "the command took {elapsed}, and its update has {bytes}")?;
        match self.num_examples {
            Some(number) => write!(f, " of {number} examples"),
            None => write!(f, "; it says no num_examples, so it weighs as one example"),
        }
    }
}

/// Fetches the base, runs the command on it, and makes an update of the result.
///
/// # Errors
/// What keeps it from that; nothing is left behind but the base.
pub async fn hold(rehearsal: &Rehearsal<'_>, link: &Link) -> Result<Rehearsed, Failure> {
    let Rehearsal {
        directory,
        settings,
        trainer,
        base,
    } = *rehearsal;
    let _lock = DirectoryLock::take(directory.root(), &directory.lock())?;
    // The trainer is told paths in there, and may `cd` before it uses them.
    let directory = directory.absolute().map_err(|error| {
        Failure::new(ExitCode::Unavailable, "the working directory is gone").with_source(&error)
    })?;
    let unwritable = |error: &std::io::Error| {
        let message = format!("{} cannot be written", directory.root().display());
        Failure::new(ExitCode::Unavailable, message).with_source(error)
    };
    let cache = Cache::open(directory.cache()).map_err(|error| unwritable(&error))?;
    let fetched = fetch(link, &cache, base).await;
    let path = match fetched {
        Ok(path) => path,
        Err(error) => {
            let decline = error
                .into_decline()
                .map_err(|trouble| trouble.into_failure(link.address(), link.clock()))?;
            return Err(declined(&decline, None));
        }
    };
    let task = Task {
        round: RoundNumber::new(1),
        base: *base,
        deadline: Timestamp::new(u64::MAX),
        encodings: vec![Encoding::F32],
        density: Density::default(),
        max_update_bytes: ByteSize::new(u64::MAX),
        step_back: None,
        noise: None,
        doubt: None,
    };
    let work = directory.rehearsal();
    let whose = (&settings.federation, &settings.client);
    let place =
        Workplace::prepare(&work, &task, path, whose).map_err(|error| unwritable(&error))?;
    let (progress, _unseen) = watch::channel(Progress::default());
    let trained = trainer.run(&place, &progress).await;
    let made = match trained {
        Ok(trained) => made(&place, &task, trained, (&directory, settings)).await,
        Err(decline) => Err(decline),
    };
    made.map_err(|decline| declined(&decline, Some(&place.log)))
        .inspect(|_| {
            // What went well is of no more use; what failed is kept to be looked at.
            let _left = fs::remove_dir_all(&work);
        })
}

async fn made(
    place: &Workplace,
    task: &Task,
    trained: Trained,
    (directory, settings): (&ClientDirectory, &Settings),
) -> Result<Rehearsed, Decline> {
    let (place, task) = (place.clone(), task.clone());
    let (residual, policy) = (Residual::of(directory, settings), directory.policy());
    blocking(move || {
        let policy = Policy::read(&policy).unwrap_or_default();
        let prepared = submission::prepare(&place, &task, &trained, &residual, &policy)?;
        Ok(Rehearsed {
            elapsed: trained.elapsed,
            bytes: ByteSize::new(prepared.header.payload_bytes),
            num_examples: trained.num_examples,
        })
    })
    .await
}

fn declined(decline: &Decline, log: Option<&Path>) -> Failure {
    let failure = Failure::new(ExitCode::BadData, decline);
    match log {
        Some(log) => failure.with_hint(format_args!(
            "a round would be declined with these words; what the command printed is in {}",
            log.display()
        )),
        None => failure,
    }
}
