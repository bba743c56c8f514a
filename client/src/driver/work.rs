//! The pieces of work of one task, or of one evaluation. Each ends in one event, or in trouble that ends the client.
//!
//! A piece that is dropped stops at once, processes and all. What it leaves on disk is overwritten by the next, apart from
//! what the journal remembers: that is what the next piece starts from, in this process or in another.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fedmerge_common::checkpoint::Checkpoint;
use fedmerge_common::failpoint::{self, Point};
use fedmerge_common::ids::RoundNumber;
use fedmerge_common::reason::{Decline, DeclineKind};
use fedmerge_common::schema::Schema;
use fedmerge_common::update::{ModelRef, UpdateHeader};
use fedmerge_proto::convert::evaluation::EvaluationRequest;
use fedmerge_proto::convert::round::ProgressReport;
use fedmerge_proto::v1;
use fedmerge_proto::v1::round_client::RoundClient;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::{Report, Site};
use crate::agent::{Answer, Event};
use crate::cache::Cache;
use crate::link::Link;
use crate::link::trouble::Trouble;
use crate::residual::Residual;
use crate::settings::Settings;
use crate::site_log::{Departure, SiteLog};
use crate::submission::{self, with_sources};
use crate::task::Task;
use crate::trainer::workplace::{EvaluationPlace, Workplace};
use crate::trainer::{Measurement, Progress, Trained};
use crate::transfer::{TransferError, download, upload};

/// Shortest time between two signs of life.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// What every piece of work uses.
#[derive(Debug)]
pub(super) struct Workshop {
    pub(super) link: Arc<Link>,
    pub(super) cache: Cache,
    pub(super) site: Site,
    pub(super) site_log: SiteLog,
}

impl Workshop {
    pub(super) fn fatal(&self, trouble: Trouble) -> Report {
        Report::Fatal(Box::new(
            trouble.into_failure(self.link.address(), self.link.clock()),
        ))
    }

    /// Writes into the site's log what is about to leave.
    ///
    /// # Errors
    /// What is said instead of it where that cannot be written: it tells nothing of the site.
    pub(super) async fn write_down(&self, departure: Departure) -> Result<(), Decline> {
        let log = self.site_log.clone();
        let written = download::blocking(move || log.add(&departure)).await;
        written.map_err(|error| {
            tracing::warn!(%error, "the site's log cannot be written: nothing leaves");
            let words = format!("the site's log cannot be written: {error}");
            Decline::new(DeclineKind::Storage, words)
        })
    }

    fn residual(&self) -> Residual {
        Residual::of(&self.site.directory, &self.site.settings)
    }

    fn workplace(&self, task: &Task) -> Workplace {
        Workplace::of(
            &self.site.directory.work(),
            task.round,
            self.cache.path(&task.base.digest),
        )
    }
}

pub(super) async fn download(workshop: Arc<Workshop>, task: Task) -> Result<Event, Trouble> {
    let round = task.round;
    let fetched = download::fetch(&workshop.link, &workshop.cache, &task.base).await;
    match fetched {
        Ok(_) => {
            failpoint::pass(Point::ClientDownloaded);
            Ok(Event::BaseDownloaded { round })
        }
        Err(error) => failed(round, error),
    }
}

pub(super) async fn train(workshop: Arc<Workshop>, task: Task) -> Result<Event, Trouble> {
    let round = task.round;
    // Said before hours of training, and again before anything leaves.
    if let Err(decline) = workshop.site.policy.check_noise(task.noise.as_ref()) {
        return Ok(Event::TaskFailed { round, decline });
    }
    let settings = &workshop.site.settings;
    let prepared = Workplace::prepare(
        &workshop.site.directory.work(),
        &task,
        workshop.cache.path(&task.base.digest),
        (&settings.federation, &settings.client),
    );
    let place = match prepared {
        Ok(place) => place,
        Err(error) => {
            let decline = unusable("the round's directory cannot be made", &error);
            return Ok(Event::TaskFailed { round, decline });
        }
    };
    let (progress, seen) = watch::channel(Progress::default());
    let trained = tokio::select! {
        trained = workshop.site.trainer.run(&place, &progress) => trained,
        never = forward(&workshop.link, round, seen) => match never {},
    };
    let durable = match trained {
        Ok(trained) => {
            download::blocking(move || match place.make_durable() {
                Ok(()) => Ok(trained),
                Err(error) => Err(unusable(
                    "the trainer's checkpoint cannot be stored",
                    &error,
                )),
            })
            .await
        }
        Err(decline) => Err(decline),
    };
    Ok(match durable {
        Ok(trained) => Event::TrainingFinished { round, trained },
        Err(decline) => Event::TaskFailed { round, decline },
    })
}

fn unusable(what: &str, error: &std::io::Error) -> Decline {
    Decline::new(DeclineKind::Storage, format!("{what}: {error}"))
}

enum Never {}

/// Tells the server of each sign of life, the last one when they come fast. One that is lost does not matter.
async fn forward(link: &Link, round: RoundNumber, mut seen: watch::Receiver<Progress>) -> Never {
    let mut pace = interval(REPORT_INTERVAL);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        pace.tick().await;
        if seen.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        let Progress { done, loss } = *seen.borrow_and_update();
        let report = v1::ReportProgressRequest::from(ProgressReport {
            round,
            progress: done,
            loss,
        });
        let call = |channel| async move { RoundClient::new(channel).report_progress(report).await };
        if let Err(trouble) = link.attempt(call).await {
            tracing::debug!(reason = %trouble, "progress was not taken");
        }
    }
}

pub(super) async fn prepare(
    workshop: Arc<Workshop>,
    task: Task,
    trained: Trained,
) -> Result<Event, Trouble> {
    let round = task.round;
    let prepared = download::blocking(move || {
        let place = workshop.workplace(&task);
        let policy = &workshop.site.policy;
        let residual = workshop.residual();
        let prepared = submission::prepare(&place, &task, &trained, &residual, policy)?;
        let base = base_schema(&place)?;
        let limit = task.max_update_bytes;
        policy.check(&prepared.header, limit, &place.update, &base)?;
        failpoint::pass(Point::ClientUpdateWritten);
        Ok(prepared)
    });
    Ok(match prepared.await {
        Ok(prepared) => Event::UpdatePrepared(prepared),
        Err(decline) => Event::TaskFailed { round, decline },
    })
}

pub(super) async fn upload(
    workshop: Arc<Workshop>,
    header: UpdateHeader,
    reports: mpsc::Sender<Report>,
) -> Result<Event, Trouble> {
    let round = header.round;
    let base = workshop.cache.path(&header.base);
    let place = Workplace::of(&workshop.site.directory.work(), round, base);
    let written = match departure(&place, &header).await {
        Ok(departure) => workshop.write_down(departure).await,
        Err(decline) => Err(decline),
    };
    if let Err(decline) = written {
        return Ok(Event::TaskFailed { round, decline });
    }
    let sent = || {
        // When the queue is full the answer itself, which is never dropped, says the same a moment later.
        let _ = reports.try_send(Report::Event(Event::UpdateSent { round }));
    };
    let answered: Result<Answer, TransferError> =
        upload::submit(&workshop.link, &header, &place.update, sent).await;
    match answered {
        Ok(answer) => {
            if answer == Answer::Accepted {
                settle(workshop, place, header).await;
            }
            Ok(Event::UpdateAnswered { round, answer })
        }
        Err(error) => failed(round, error),
    }
}

fn base_schema(place: &Workplace) -> Result<Schema, Decline> {
    let base = Checkpoint::open(&place.base);
    let base = base.map_err(|error| {
        let words = with_sources("the base cannot be read", &error);
        Decline::new(DeclineKind::Storage, words)
    })?;
    Ok(base.schema().clone())
}

/// An update that is about to leave, as the site's log tells it.
async fn departure(place: &Workplace, header: &UpdateHeader) -> Result<Departure, Decline> {
    let (place, header) = (place.clone(), header.clone());
    let departure = download::blocking(move || {
        // What an earlier process made ready needs its base no more: then the shapes are those of the payload.
        let base = Checkpoint::open(&place.base).ok();
        let base = base.as_ref().map(Checkpoint::schema);
        Departure::update(&header, &place.update, base)
    });
    departure.await.map_err(|error| {
        let words = with_sources("the update cannot be read back", &error);
        Decline::new(DeclineKind::Storage, words)
    })
}

/// Keeps what the update could not say, now that it counts. A client that cannot goes on: its next round begins anew.
async fn settle(workshop: Arc<Workshop>, place: Workplace, header: UpdateHeader) {
    let settled = download::blocking(move || workshop.residual().settle(&place, &header));
    if let Err(error) = settled.await {
        tracing::warn!(%error, "what the encoding lost cannot be kept");
    }
    failpoint::pass(Point::ClientResidualKept);
}

/// Gets one model of a request and runs the evaluator on it.
pub(super) async fn measure(
    workshop: Arc<Workshop>,
    request: EvaluationRequest,
    model: ModelRef,
) -> Result<Event, Trouble> {
    let round = request.round;
    let fetched = download::fetch(&workshop.link, &workshop.cache, &model).await;
    let measured = match fetched {
        Ok(path) => run_evaluator(&workshop.site, &request, &model, path).await,
        Err(error) => Err(error.into_decline()?),
    };
    Ok(match measured {
        Ok(measurement) => Event::ModelMeasured {
            round,
            digest: model.digest,
            measurement,
        },
        Err(decline) => Event::EvaluationFailed { round, decline },
    })
}

async fn run_evaluator(
    site: &Site,
    request: &EvaluationRequest,
    model: &ModelRef,
    path: PathBuf,
) -> Result<Measurement, Decline> {
    let evaluator = site.evaluator.as_ref();
    let evaluator =
        evaluator.ok_or_else(|| Decline::new(DeclineKind::NoEvaluator, "there is no evaluator"))?;
    let Settings {
        federation, client, ..
    } = &site.settings;
    let work = site.directory.work();
    let place = EvaluationPlace::prepare(&work, request, (model, path), (federation, client));
    let place = place.map_err(|error| {
        let words = format!("the evaluation's directory cannot be made: {error}");
        Decline::new(DeclineKind::Storage, words)
    })?;
    evaluator.run(&place).await
}

fn failed(round: RoundNumber, error: TransferError) -> Result<Event, Trouble> {
    error
        .into_decline()
        .map(|decline| Event::TaskFailed { round, decline })
}
