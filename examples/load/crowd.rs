//! Many clients in this process: each is what `fedmerge client run` is, apart from its trainer.
//!
//! Their files are in memory, where this machine has such a place: a thousand sites have a thousand disks, and here they would share
//! the server's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fedmerge_client::agent::Stay;
use fedmerge_client::driver::{Site, drive_until};
use fedmerge_client::enrolment::{self, Wish, identity};
use fedmerge_client::policy::Policy;
use fedmerge_client::settings::ClientDirectory;
use fedmerge_client::trainer::workplace::Workplace;
use fedmerge_client::trainer::{Progress, Trained, Trainer};
use fedmerge_common::checkpoint::{Checkpoint, CheckpointWriter};
use fedmerge_common::clock::Clock;
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::output::Output;
use fedmerge_common::reason::{Decline, DeclineKind};
use fedmerge_common::units::Millis;
use tempfile::TempDir;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;

/// Clients that enrol at the same time.
const ENROL_TOGETHER: usize = 64;
/// How long a client waits for what may pass.
const PATIENCE: Millis = Millis::from_secs(60);
/// Between two signs of life of a training.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);
/// A directory in memory.
const MEMORY: &str = "/dev/shm";
const QUIET: Output = Output {
    format: fedmerge_common::output::OutputFormat::Text,
    quiet: true,
    verbosity: 0,
};

/// Where the clients are and where they go.
#[derive(Debug)]
pub(crate) struct Crowd {
    root: TempDir,
    address: String,
    training: Duration,
    running: JoinSet<Result<(), Failure>>,
    stop: CancellationToken,
}

fn broke_off(error: &tokio::task::JoinError) -> Failure {
    Failure::new(ExitCode::Bug, "a client broke off").with_source(error)
}

impl Crowd {
    /// Nobody yet: clients will go to the server at `address`, and train for so long.
    ///
    /// # Errors
    /// When there is no place for their files.
    pub(crate) fn new(address: &str, training: Duration) -> Result<Self, Failure> {
        let root = tempfile::tempdir_in(MEMORY).or_else(|_| tempfile::tempdir());
        let root = root.map_err(|error| {
            Failure::new(ExitCode::Unavailable, "no temporary directory").with_source(&error)
        })?;
        Ok(Self {
            root,
            address: address.to_owned(),
            training,
            running: JoinSet::new(),
            stop: CancellationToken::new(),
        })
    }

    /// Enrols so many clients, as fast as it goes.
    ///
    /// # Errors
    /// The first failure.
    pub(crate) async fn enrol(&self, clients: usize, join: &str) -> Result<(), Failure> {
        let turns = Arc::new(Semaphore::new(ENROL_TOGETHER));
        let mut enrolling = JoinSet::new();
        for number in 0..clients {
            let wish = self.wish(number, join)?;
            let (directory, turns) = (self.directory(number), Arc::clone(&turns));
            enrolling.spawn(async move {
                let _turn = turns.acquire().await;
                Box::pin(enrolment::enrol(&directory, &wish, &QUIET)).await
            });
        }
        while let Some(enrolled) = enrolling.join_next().await {
            enrolled.map_err(|error| broke_off(&error))??;
        }
        Ok(())
    }

    fn wish(&self, number: usize, join: &str) -> Result<Wish, Failure> {
        let wrong = |error: &dyn std::error::Error| Failure::from_error(ExitCode::Bug, error);
        Ok(Wish {
            server: self.address.parse().map_err(|error| wrong(&error))?,
            join: join.parse().map_err(|error| wrong(&error))?,
            client: name(number).parse().map_err(|error| wrong(&error))?,
            wait: PATIENCE,
        })
    }

    fn directory(&self, number: usize) -> ClientDirectory {
        ClientDirectory::new(self.root.path().join(name(number)))
    }

    /// Lets clients take part that are enrolled.
    ///
    /// # Errors
    /// When the files of one cannot be read.
    pub(crate) fn arrive(
        &mut self,
        clients: impl IntoIterator<Item = usize>,
    ) -> Result<(), Failure> {
        for number in clients {
            let directory = self.directory(number);
            let settings = fedmerge_client::settings::Settings::read(&directory)?;
            let tls = identity::load(&directory, &settings, &Clock::system())?;
            let site = Site {
                directory,
                settings,
                trainer: self.trainer(number),
                evaluator: None,
                policy: Policy::default(),
                stay: Stay::WhileItLasts,
                identity_wait: PATIENCE,
                keeper: None,
            };
            let stop = self.stop.clone().cancelled_owned();
            self.running
                .spawn(Box::pin(drive_until(stop, site, tls, QUIET)));
        }
        Ok(())
    }

    /// Adds a number of the client's own to every value of the base.
    fn trainer(&self, number: usize) -> Trainer {
        let training = self.training;
        let step = f32::from(u8::try_from(number % 256).unwrap_or_default()) + 1.0;
        Trainer::Function(Arc::new(move |place, progress| {
            Box::pin(async move {
                let begun = Instant::now();
                work_for(training, &progress).await;
                let written = spawn_blocking(move || write(&place, step / 256.0)).await;
                written.map_err(|error| failed(&error))??;
                Ok(Trained {
                    num_examples: Some(1),
                    metrics: BTreeMap::new(),
                    elapsed: Millis::from(begun.elapsed()),
                })
            })
        }))
    }

    /// Waits until a client fails; for ever, while none does. Safe to cancel.
    pub(crate) async fn failure(&mut self) -> Failure {
        while let Some(ended) = self.running.join_next().await {
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => return failure,
                Err(error) => return broke_off(&error),
            }
        }
        std::future::pending().await
    }

    /// Waits until all have left by themselves.
    ///
    /// # Errors
    /// The first failure of one.
    pub(crate) async fn left(&mut self) -> Result<(), Failure> {
        while let Some(ended) = self.running.join_next().await {
            ended.map_err(|error| broke_off(&error))??;
        }
        Ok(())
    }

    /// Lets all leave that are still there.
    ///
    /// # Errors
    /// The first failure of one.
    pub(crate) async fn send_home(&mut self) -> Result<(), Failure> {
        self.stop.cancel();
        self.left().await
    }
}

fn name(number: usize) -> String {
    format!("client-{number}")
}

fn failed(error: &dyn std::error::Error) -> Decline {
    Decline::new(DeclineKind::TrainerFailed, error.to_string())
}

/// Lets time pass, as a training does, and tells how far it is.
async fn work_for(training: Duration, progress: &watch::Sender<Progress>) {
    let begun = Instant::now();
    let mut signs = interval(SIGN_OF_LIFE);
    while begun.elapsed() < training {
        signs.tick().await;
        let done = begun.elapsed().as_secs_f64() / training.as_secs_f64();
        progress.send_replace(Progress {
            done: done.min(1.0),
            loss: None,
        });
    }
}

/// Writes the base with `step` added to every value.
fn write(place: &Workplace, step: f32) -> Result<(), Decline> {
    let base = Checkpoint::open(&place.base).map_err(|error| failed(&error))?;
    let writer = CheckpointWriter::create(&place.out, base.schema(), base.metadata());
    let writer = writer.map_err(|error| failed(&error))?;
    for (position, tensor) in base.schema().iter().enumerate() {
        let mut values = vec![0.0; tensor.elements()];
        let read = base.read_f32(position, 0, &mut values);
        read.map_err(|error| failed(&error))?;
        values.iter_mut().for_each(|value| *value += step);
        let written = writer.write_f32(position, 0, &values);
        written.map_err(|error| failed(&error))?;
    }
    writer.finish().map_err(|error| failed(&error))?;
    Ok(())
}
