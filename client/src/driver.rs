//! Runs the agent: every event goes in, every effect that comes out is carried out, in order.
//!
//! Owns all that a running client owns: the attendance, the one piece of work in hand, the errands (declines and
//! evaluations on their way). The client waits here and nowhere else. No decision is made here. What is finished of a task
//! is in the journal before anything is done or told that follows from it.

mod attend;
mod teller;
mod work;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fedmerge_common::failure::{ExitCode, Failure, explain};
use fedmerge_common::ids::RoundNumber;
use fedmerge_common::output::Output;
use fedmerge_common::reason::Decline;
use fedmerge_common::units::Millis;
use fedmerge_proto::convert::evaluation::EvaluationReport;
use fedmerge_proto::v1;
use fedmerge_proto::v1::round_client::RoundClient;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::agent::{Agent, Effect, Evaluator, Event, Memory, Stay};
use crate::cache::Cache;
use crate::enrolment::Keeper;
use crate::journal::Journal;
use crate::lineage::Lineage;
use crate::link::trouble::Trouble;
use crate::link::{Greeting, Link};
use crate::policy::Policy;
use crate::settings::{ClientDirectory, Settings};
use crate::site_log::{Departure, SiteLog};
use crate::trainer::{self, Trainer};
use crate::transfer::download::blocking;
use crate::trust::Trust;
use teller::Teller;

pub use teller::Listener;

/// Reports that wait for the driver before whoever makes them waits, too.
const EVENTS_AHEAD: usize = 16;
/// Time for what must still be said when the client leaves.
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);

/// All that one client is, apart from its certificate.
#[derive(Debug)]
pub struct Site {
    /// Where everything is kept.
    pub directory: ClientDirectory,
    /// What enrolment wrote.
    pub settings: Settings,
    /// How a base is fine-tuned.
    pub trainer: Trainer,
    /// How a model is measured, where the site does that.
    pub evaluator: Option<trainer::Evaluator>,
    /// What may leave.
    pub policy: Policy,
    /// When to leave.
    pub stay: Stay,
    /// How long to wait for another process with the same certificate.
    pub identity_wait: Millis,
    /// What keeps the client's certificate good; none where it outlives the process.
    pub keeper: Option<Keeper>,
}

/// At a moment; never, without one.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// What reaches the driver.
#[derive(Debug)]
enum Report {
    /// Something for the agent.
    Event(Event),
    /// Trouble that ends the client.
    Fatal(Box<Failure>),
}

/// Listens to SIGINT and SIGTERM from now on; what it answers is ready when one of them comes.
///
/// # Errors
/// When the system does not let it.
pub fn asked_to_stop() -> Result<impl Future<Output = ()>, Failure> {
    let listen = |kind| {
        signal(kind).map_err(|error| {
            Failure::new(ExitCode::Unavailable, "signals cannot be listened to").with_source(&error)
        })
    };
    let (mut interrupt, mut terminate) = (
        listen(SignalKind::interrupt())?,
        listen(SignalKind::terminate())?,
    );
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Takes part until the agent leaves, or `stop` asks it to.
///
/// # Errors
/// What neither waiting nor the next round mends.
pub async fn drive_until(
    stop: impl Future<Output = ()>,
    site: Site,
    tls: rustls::ClientConfig,
    output: Output,
) -> Result<(), Failure> {
    drive_heard(stop, site, tls, output, Listener::nobody()).await
}

/// As [`drive_until`], with `listener` hearing each milestone when a user would be told it.
///
/// # Errors
/// What neither waiting nor the next round mends.
pub async fn drive_heard(
    stop: impl Future<Output = ()>,
    mut site: Site,
    tls: rustls::ClientConfig,
    output: Output,
    listener: Listener,
) -> Result<(), Failure> {
    // The trainer is told paths in there, and may `cd` before it uses them.
    site.directory = site.directory.absolute().map_err(|error| {
        Failure::new(ExitCode::Unavailable, "the working directory is gone").with_source(&error)
    })?;
    let cache = Cache::open(site.directory.cache()).map_err(|error| {
        let path: PathBuf = site.directory.cache();
        let message = format!("{} cannot be made", path.display());
        Failure::new(ExitCode::Unavailable, message).with_source(&error)
    })?;
    let journal = Journal::of(&site.directory, &site.settings);
    let remains = recall(&journal, output).await?;
    let trust = Trust::of(&site.directory, &site.settings);
    let here = trust.clone();
    let lineage = blocking(move || here.recall()).await?;
    let link = Link::new(site.settings.server.clone(), tls, Greeting::Hello, output);
    let link = Arc::new(link);
    let keeper = site.keeper.take();
    let evaluator = match site.evaluator {
        Some(_) => Evaluator::Present,
        None => Evaluator::Absent,
    };
    let (reports, mut incoming) = mpsc::channel(EVENTS_AHEAD);
    let mut driver = Driver {
        agent: Agent::new(site.stay, evaluator, remains.clone()).with_lineage(lineage.clone()),
        journal,
        kept: remains,
        trust,
        followed: lineage,
        workshop: Arc::new(work::Workshop {
            site_log: SiteLog::new(site.directory.site_log(), *link.clock()),
            link,
            cache,
            site,
        }),
        reports,
        work: None,
        errands: JoinSet::new(),
        teller: Teller::new(output, listener),
    };
    let _attendance = driver.attend();
    let _renewal = keeper.map(|keeper| driver.keep_renewed(keeper));
    tokio::pin!(stop);
    loop {
        let due = driver.teller.due();
        let report = tokio::select! {
            Some(report) = incoming.recv() => report,
            () = &mut stop => Report::Event(Event::StopAsked),
            () = at(due) => {
                driver.teller.release();
                continue;
            }
        };
        match report {
            Report::Fatal(failure) => {
                // The process may end before a task that is merely dropped has killed its trainer.
                driver.abort().await;
                return Err(*failure);
            }
            Report::Event(event) => {
                // A stop leads to leaving, so `stop` is not asked again once it has been heard.
                if driver.step(event).await == Next::Leave {
                    return Ok(());
                }
            }
        }
    }
}

/// What an earlier process had finished; what of it is of no use is told and forgotten.
async fn recall(journal: &Journal, output: Output) -> Result<Option<Memory>, Failure> {
    let here = journal.clone();
    match blocking(move || here.recall()).await? {
        Ok(remains) => Ok(remains),
        Err(unusable) => {
            let why = explain(&unusable);
            output.note(format_args!("what was finished before is dropped: {why}"));
            tracing::warn!(reason = %why, "journal not used");
            let here = journal.clone();
            if let Err(error) = blocking(move || here.keep(None)).await {
                tracing::warn!(%error, "the journal cannot be removed");
            }
            Ok(None)
        }
    }
}

/// What a step leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    GoOn,
    Leave,
}

#[derive(Debug)]
struct Driver {
    agent: Agent,
    journal: Journal,
    /// What the journal holds.
    kept: Option<Memory>,
    trust: Trust,
    /// The line of bases that the next process will recall.
    followed: Lineage,
    workshop: Arc<work::Workshop>,
    reports: mpsc::Sender<Report>,
    work: Option<AbortOnDropHandle<()>>,
    errands: JoinSet<()>,
    teller: Teller,
}

impl Driver {
    fn attend(&self) -> AbortOnDropHandle<()> {
        let (workshop, reports) = (Arc::clone(&self.workshop), self.reports.clone());
        let limit = workshop.site.identity_wait;
        let trust = self.trust.clone();
        AbortOnDropHandle::new(tokio::spawn(async move {
            attend::attend((&workshop.link, &trust), limit, &reports).await;
        }))
    }

    fn keep_renewed(&self, keeper: Keeper) -> AbortOnDropHandle<()> {
        let (link, reports) = (Arc::clone(&self.workshop.link), self.reports.clone());
        AbortOnDropHandle::new(tokio::spawn(async move {
            let failure = keeper.keep_renewed(link).await;
            // Without a listener there is nobody left to tell.
            let _ = reports.send(Report::Fatal(Box::new(failure))).await;
        }))
    }

    async fn step(&mut self, event: Event) -> Next {
        tracing::debug!(event = ?event, "event");
        let effects = self.agent.step(event);
        self.follow().await;
        self.remember().await;
        for effect in effects {
            tracing::debug!(effect = ?effect, "effect");
            match effect {
                Effect::Download(task) => self.begin(|workshop| work::download(workshop, task)),
                Effect::Train(task) => self.begin(|workshop| work::train(workshop, task)),
                Effect::Prepare(task, trained) => {
                    self.begin(|workshop| work::prepare(workshop, task, trained));
                }
                Effect::Upload(header) => {
                    let reports = self.reports.clone();
                    self.begin(|workshop| work::upload(workshop, header, reports));
                }
                Effect::Measure(request, model) => {
                    self.begin(|workshop| work::measure(workshop, request, model));
                }
                Effect::Report(report) => self.report(report),
                Effect::Abort => self.abort().await,
                Effect::Decline { round, decline } => self.decline(round, decline),
                Effect::Tell(milestone) => self.teller.tell(&milestone),
                Effect::Leave => {
                    self.leave().await;
                    return Next::Leave;
                }
            }
        }
        Next::GoOn
    }

    /// Writes down which base is followed now. A client that cannot goes on: the next process would not know of this base.
    async fn follow(&mut self) {
        if *self.agent.lineage() == self.followed {
            return;
        }
        let (trust, lineage) = (self.trust.clone(), self.agent.lineage().clone());
        let page = lineage.clone();
        match blocking(move || trust.keep(&page)).await {
            Ok(()) => self.followed = lineage,
            Err(error) => {
                tracing::warn!(%error, "the line of bases cannot be written: a crash now would make this one forgotten");
            }
        }
    }

    /// Writes down what is finished now. A client that cannot goes on: a crash would then cost it the work of a task.
    async fn remember(&mut self) {
        let memory = self.agent.memory();
        if memory == self.kept {
            return;
        }
        let (journal, page) = (self.journal.clone(), memory.clone());
        match blocking(move || journal.keep(page.as_ref())).await {
            Ok(()) => self.kept = memory,
            Err(error) => {
                tracing::warn!(%error, "the journal cannot be written: a crash now would cost what is finished");
            }
        }
    }

    /// Begins the next piece of work; the one before has ended, or reported what this one goes on from.
    fn begin<F>(&mut self, deed: impl FnOnce(Arc<work::Workshop>) -> F)
    where
        F: Future<Output = Result<Event, Trouble>> + Send + 'static,
    {
        let (reports, workshop) = (self.reports.clone(), Arc::clone(&self.workshop));
        let deed = deed(Arc::clone(&self.workshop));
        self.work = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            let report = match deed.await {
                Ok(event) => Report::Event(event),
                Err(trouble) => workshop.fatal(trouble),
            };
            // Nobody listens any more when the client leaves, and then nothing is left to report to.
            let _ = reports.send(report).await;
        })));
    }

    /// Ends the work in hand, and with it every process it started.
    async fn abort(&mut self) {
        if let Some(work) = self.work.take() {
            work.abort();
            // It ends by being aborted, which is what was asked.
            let _ = work.await;
        }
    }

    fn decline(&mut self, round: RoundNumber, decline: Decline) {
        let departure = Departure::from((round, &decline));
        let request = move |unlogged: Option<Decline>| {
            v1::DeclineRequest::from((round, unlogged.unwrap_or(decline)))
        };
        self.errand(
            ("decline", departure),
            request,
            |channel, request| async move { RoundClient::new(channel).decline(request).await },
        );
    }

    fn report(&mut self, report: EvaluationReport) {
        let departure = Departure::from(&report);
        let request = move |unlogged: Option<Decline>| {
            let outcome = unlogged.map_or(report.outcome, Err);
            v1::ReportEvaluationRequest::from(EvaluationReport { outcome, ..report })
        };
        self.errand(("evaluation", departure), request, |channel, request| {
            async move { RoundClient::new(channel).report_evaluation(request).await }
        });
    }

    /// Makes a call beside the work in hand, until it is answered. Where the site's log cannot be written, nothing is said but that.
    fn errand<R, T, F>(
        &mut self,
        (what, departure): (&'static str, Departure),
        request: impl FnOnce(Option<Decline>) -> R + Send + 'static,
        call: impl Fn(Channel, R) -> F + Send + Sync + 'static,
    ) where
        R: Clone + Send + Sync + 'static,
        T: Send + 'static,
        F: Future<Output = Result<Response<T>, Status>> + Send + 'static,
    {
        let workshop = Arc::clone(&self.workshop);
        self.errands.spawn(async move {
            let request = request(workshop.write_down(departure).await.err());
            let call = |channel| call(channel, request.clone());
            if let Err(trouble) = workshop.link.call(call).await {
                tracing::warn!(what, reason = %trouble, "errand was not taken");
            }
        });
        while self.errands.try_join_next().is_some() {}
    }

    async fn leave(&mut self) {
        self.abort().await;
        let errands = async { while self.errands.join_next().await.is_some() {} };
        if timeout(GOODBYE_LIMIT, errands).await.is_err() {
            tracing::warn!("left without an errand reaching the server");
        }
    }
}

#[cfg(test)]
mod tests;
