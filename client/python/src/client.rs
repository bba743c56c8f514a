//! A client in this process: the driver of `fedmerge client run` on threads of its own, with the desk as trainer and evaluator.
//!
//! Every method that waits lets go of the interpreter's lock first. A process that was forked has none of the threads; it must not
//! touch a client, and dropping one there does nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use fedmerge_client::agent::Stay;
use fedmerge_client::driver::Listener;
use fedmerge_client::member::{Member, Part};
use fedmerge_client::settings::ClientDirectory;
use fedmerge_client::trainer::workplace::{EvaluationPlace, Workplace};
use fedmerge_client::trainer::{
    Evaluator, Measurement, Measuring, Progress, Trained, Trainer, Training,
};
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::output::{Output, OutputFormat};
use fedmerge_common::reason::{Decline, DeclineKind};
use fedmerge_common::units::Millis;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::desk::{Answer, Desk, Request};
use crate::failure::raise;
use crate::log;

/// A client waits more than it works.
const WORKERS: usize = 2;
/// What is told goes to Python's log, and nothing to this process's streams.
const SILENT: Output = Output {
    format: OutputFormat::Text,
    quiet: true,
    verbosity: 0,
};

/// What the client is asked to do.
#[pyclass(frozen, get_all)]
#[derive(Clone, Debug)]
pub(crate) struct Assignment {
    /// Its number.
    ticket: u64,
    /// The round.
    round: u64,
    /// Path of the model.
    base: PathBuf,
    /// Path where the checkpoint goes; None for a measurement.
    out: Option<PathBuf>,
    /// The task as JSON.
    config: String,
}

impl From<Request> for Assignment {
    fn from(request: Request) -> Self {
        Self {
            ticket: request.ticket,
            round: request.round,
            base: request.base,
            out: request.out,
            config: request.config,
        }
    }
}

/// A client that takes part, from when it is made until it is stopped or the federation ends.
#[pyclass(frozen)]
#[derive(Debug)]
pub(crate) struct Client {
    desk: Arc<Desk>,
    stop: CancellationToken,
    process: u32,
}

impl Drop for Client {
    fn drop(&mut self) {
        if std::process::id() == self.process {
            self.stop.cancel();
        }
    }
}

#[pymethods]
impl Client {
    /// Takes the directory and begins.
    #[new]
    fn new(
        py: Python<'_>,
        directory: PathBuf,
        evaluates: bool,
        stay: &str,
        identity_wait_ms: u64,
    ) -> PyResult<Self> {
        let stay = match stay {
            "while-it-lasts" => Stay::WhileItLasts,
            "always" => Stay::Always,
            "one-round" => Stay::OneRound,
            other => {
                let words = format!("`{other}` is none of: while-it-lasts, always, one-round");
                return Err(PyValueError::new_err(words));
            }
        };
        let (desk, stop) = (Arc::new(Desk::default()), CancellationToken::new());
        let part = Part {
            trainer: trainer(&desk),
            evaluator: evaluates.then(|| evaluator(&desk)),
            stay,
            identity_wait: Millis::new(identity_wait_ms),
        };
        let directory = ClientDirectory::new(directory);
        let begun = py.detach(|| begin(&directory, part, &desk, stop.clone()));
        begun.map_err(|failure| raise(&failure))?;
        let process = std::process::id();
        Ok(Self {
            desk,
            stop,
            process,
        })
    }

    /// The next task, if one comes in time. Raises what ended the client.
    fn receive(&self, py: Python<'_>, limit_ms: u64) -> PyResult<Option<Assignment>> {
        let found = py.detach(|| self.desk.take(Duration::from_millis(limit_ms)));
        if let Some(request) = found {
            return Ok(Some(request.into()));
        }
        match self.desk.take_failure() {
            Some(failure) => Err(raise(&failure)),
            None => Ok(None),
        }
    }

    /// Whether the client has left.
    fn has_ended(&self) -> bool {
        self.desk.wait_for_end(Duration::ZERO)
    }

    /// Tells a sign of life; answers whether the task is still wanted.
    #[pyo3(signature = (ticket, done, loss))]
    fn progress(&self, ticket: u64, done: f64, loss: Option<f64>) -> bool {
        self.desk.progress(ticket, Progress { done, loss })
    }

    /// Whether a task is still wanted.
    fn is_open(&self, ticket: u64) -> bool {
        self.desk.is_open(ticket)
    }

    /// Answers a task that is done; tells whether it was still wanted.
    #[pyo3(signature = (ticket, num_examples, metrics))]
    fn finish(
        &self,
        ticket: u64,
        num_examples: Option<u64>,
        metrics: BTreeMap<String, f64>,
    ) -> bool {
        let answer = Answer::Done {
            num_examples,
            metrics,
        };
        self.desk.answer(ticket, answer)
    }

    /// Gives a task back; tells whether it was still wanted. A reason that is none of a decline's is the trainer's, or the
    /// evaluator's, failure.
    fn decline(&self, ticket: u64, reason: String, words: String) -> bool {
        self.desk.answer(ticket, Answer::Declined(reason, words))
    }

    /// What became of a round's update, if that is known in time: kind, reason for programs, reason for people.
    fn outcome(&self, py: Python<'_>, round: u64, limit_ms: u64) -> Option<(&str, String, String)> {
        let limit = Duration::from_millis(limit_ms);
        let outcome = py.detach(|| self.desk.outcome(round, limit))?;
        Some((outcome.kind, outcome.reason, outcome.detail))
    }

    /// Asks the client to leave; a task in hand is given back.
    fn stop(&self) {
        self.stop.cancel();
    }

    /// Whether the client has left, waiting a while for that.
    fn join(&self, py: Python<'_>, limit_ms: u64) -> bool {
        py.detach(|| self.desk.wait_for_end(Duration::from_millis(limit_ms)))
    }
}

/// Takes the client's directory and starts its threads.
fn begin(
    directory: &ClientDirectory,
    part: Part,
    desk: &Arc<Desk>,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let member = Member::open(directory, part, SILENT)?;
    let runtime = runtime()?;
    let last_word = LastWord(Arc::clone(desk));
    let life = move || {
        let desk = Arc::clone(&last_word.0);
        let listener = Listener::new(move |milestone| {
            log::tell(milestone);
            desk.hear(milestone);
        });
        let ended = runtime.block_on(member.take_part(stop.cancelled_owned(), listener));
        runtime.shutdown_background();
        last_word.0.end(ended);
    };
    let started = thread::Builder::new()
        .name("fedmerge-client".to_owned())
        .spawn(life);
    started.map(drop).map_err(|error| no_threads(&error))
}

fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("fedmerge-worker")
        .enable_all()
        .build()
        .map_err(|error| no_threads(&error))
}

fn no_threads(error: &std::io::Error) -> Failure {
    let message = "the client's threads cannot be started";
    Failure::new(ExitCode::Temporary, message).with_source(error)
}

/// Says that the client broke off, where nothing else was said: nobody should wait for it for ever.
#[derive(Debug)]
struct LastWord(Arc<Desk>);

impl Drop for LastWord {
    fn drop(&mut self) {
        let failure = Failure::new(ExitCode::Bug, "the client broke off");
        self.0.end(Err(failure));
    }
}

fn trainer(desk: &Arc<Desk>) -> Trainer {
    let desk = Arc::clone(desk);
    Trainer::Function(Arc::new(move |place, progress| -> Training {
        Box::pin(train(Arc::clone(&desk), place, progress))
    }))
}

fn evaluator(desk: &Arc<Desk>) -> Evaluator {
    let desk = Arc::clone(desk);
    Evaluator::Function(Arc::new(move |place| -> Measuring {
        Box::pin(measure(Arc::clone(&desk), place))
    }))
}

async fn train(
    desk: Arc<Desk>,
    place: Workplace,
    progress: watch::Sender<Progress>,
) -> Result<Trained, Decline> {
    let begun = Instant::now();
    let request = Request {
        ticket: 0,
        round: place.round.get(),
        base: place.base,
        out: Some(place.out),
        config: read_config(&place.config)?,
    };
    let (answer, _withdrawal) = desk.lay(request, Some(progress));
    match answer.await {
        Ok(Answer::Done {
            num_examples,
            metrics,
        }) => Ok(Trained {
            num_examples,
            metrics,
            elapsed: Millis::from(begun.elapsed()),
        }),
        Ok(Answer::Declined(reason, words)) => {
            let kind = kind_of(&reason, DeclineKind::TrainerFailed);
            Err(Decline::new(kind, words))
        }
        Err(_) => Err(gone()),
    }
}

async fn measure(desk: Arc<Desk>, place: EvaluationPlace) -> Result<Measurement, Decline> {
    let request = Request {
        ticket: 0,
        round: place.round.get(),
        base: place.model,
        out: None,
        config: read_config(&place.config)?,
    };
    let (answer, _withdrawal) = desk.lay(request, None);
    match answer.await {
        Ok(Answer::Done {
            num_examples,
            metrics,
        }) => Ok(Measurement {
            num_examples,
            metrics,
        }),
        Ok(Answer::Declined(reason, words)) => {
            let kind = kind_of(&reason, DeclineKind::EvaluatorFailed);
            Err(Decline::new(kind, words))
        }
        Err(_) => Err(gone()),
    }
}

/// The kind of that name, or else what a failure is called here.
fn kind_of(name: &str, failed: DeclineKind) -> DeclineKind {
    let known = DeclineKind::ALL.iter().copied();
    known
        .into_iter()
        .find(|kind| kind.as_str() == name)
        .unwrap_or(failed)
}

fn read_config(path: &std::path::Path) -> Result<String, Decline> {
    fs::read_to_string(path).map_err(|error| {
        let words = format!("the task cannot be read back: {error}");
        Decline::new(DeclineKind::Storage, words)
    })
}

/// Only a request that was taken off the desk has nobody who could answer it.
fn gone() -> Decline {
    Decline::new(DeclineKind::Interrupted, "the client is stopping")
}
