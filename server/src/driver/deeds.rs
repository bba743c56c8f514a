//! What takes long: merges, publications and rollbacks, run beside the loop, each coming back as an event.
//!
//! A deed is safe to repeat, because a crash repeats it. When the server stops, deeds are dropped, which raises the flag of a
//! merge under way; the next start does them again.

mod room;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fedmerge_common::clock::Clock;
use fedmerge_common::failpoint::{self, Point};
use fedmerge_common::failure::explain;
use fedmerge_common::ids::{ClientId, FederationName, ModelVersion, RoundNumber};
use fedmerge_common::units::Millis;
use fedmerge_common::update::ModelRef;
use fedmerge_coordinator::{Counted, Event, Rollback};
use fedmerge_merge::{Recipe, Resources};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::LEDGER_PAUSE;
use crate::compute::{self, Compute};
use crate::directory::ServerDirectory;
use crate::enrolment::authority::Authority;
use crate::enrolment::keeper::Newest;
use crate::files;
use crate::keep::Keep;
use crate::merging::{MergeFailure, MergeJob, Merged, PrivateJob, merge};
use crate::plan::{ByRound, FederationPlan, Freeze, Weight};
use crate::privacy::{NoiseKey, Privacy};
use crate::publish::{Publication, publish};
use crate::rollback::roll_back;
use crate::store::ledger::{Ledger, LedgerError, MergeNote};
use crate::store::staging::Staging;
use room::{WaitForRoom, is_for_want_of_room};

/// What merges and publications need.
#[derive(Debug, Clone)]
pub struct Workshop {
    /// Where everything is.
    pub directory: ServerDirectory,
    /// The ledger.
    pub ledger: Ledger,
    /// Incomplete uploads.
    pub staging: Staging,
    /// The pool.
    pub compute: Compute,
    /// The server's clock.
    pub clock: Clock,
    /// The federation.
    pub federation: FederationName,
    /// Its authority, which signs models and rollbacks.
    pub authority: Newest<Authority>,
    /// How updates are merged.
    pub terms: ByRound<MergeTerms>,
    /// What a merge may use.
    pub resources: Resources,
    /// Which models stay; none for all.
    pub keep: Option<Keep>,
    /// For how many rounds updates are kept after their round.
    pub keep_updates: u64,
}

/// What a plan says of a merge.
#[derive(Debug, Clone)]
pub struct MergeTerms {
    /// The stages of a merge.
    pub recipe: Recipe,
    /// What weighs an update.
    pub weight: Weight,
    /// How many times the median weight a client may have.
    pub max_weight: f64,
    /// What clients are promised.
    pub privacy: Option<Privacy>,
    /// Whom the method trusts, where it trusts someone.
    pub trusted: Option<ClientId>,
    /// Tensors that stay as they are.
    pub freeze: Freeze,
    /// The plan's seed.
    pub seed: u64,
}

impl MergeTerms {
    /// The terms of a plan.
    #[must_use]
    pub fn of(plan: &FederationPlan) -> Self {
        Self {
            recipe: plan.recipe.clone(),
            weight: plan.weight,
            max_weight: plan.max_weight,
            privacy: plan.privacy,
            trusted: plan.trusted.clone(),
            freeze: plan.freeze.clone(),
            seed: plan.round.seed,
        }
    }
}

/// The deeds under way.
#[derive(Debug)]
pub(super) struct Deeds {
    workshop: Workshop,
    running: JoinSet<Option<Event>>,
}

impl Deeds {
    pub(super) fn new(workshop: Workshop) -> Self {
        Self {
            workshop,
            running: JoinSet::new(),
        }
    }

    /// What the next deed that is done made of the federation; never, where none is under way. Safe to cancel.
    pub(super) async fn next(&mut self) -> Event {
        loop {
            match self.running.join_next().await {
                Some(Ok(Some(event))) => return event,
                Some(Ok(None)) => {}
                Some(Err(error)) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_cancelled) => {}
                },
                None => std::future::pending().await,
            }
        }
    }

    /// Ends all that is under way.
    pub(super) async fn stop(&mut self) {
        self.running.shutdown().await;
    }

    /// Merges a round's updates.
    pub(super) fn merge(
        &mut self,
        round: RoundNumber,
        base: ModelRef,
        updates: BTreeMap<ClientId, Counted>,
    ) {
        let workshop = self.workshop.clone();
        self.running
            .spawn(async move { Some(workshop.merge(round, base, updates).await) });
    }

    /// Publishes a round's candidate.
    pub(super) fn publish(&mut self, publication: Publication) {
        let workshop = self.workshop.clone();
        self.running
            .spawn(async move { Some(workshop.publish(publication).await) });
    }

    /// Publishes an older model again.
    pub(super) fn roll_back(&mut self, order: Rollback) {
        let workshop = self.workshop.clone();
        self.running
            .spawn(async move { Some(workshop.roll_back(order).await) });
    }

    /// Removes what a closed round leaves, but for what may still count, from round `needed_from` on: uploads, and the updates of
    /// rounds long gone. So go the models that the plan does not keep, but for the bases of tasks, from `oldest_base` on.
    pub(super) fn clean_up(
        &mut self,
        closed: RoundNumber,
        needed_from: RoundNumber,
        oldest_base: ModelVersion,
    ) {
        let workshop = self.workshop.clone();
        self.running.spawn(async move {
            workshop.clean_up(closed, needed_from).await;
            workshop.forget_models(oldest_base).await;
            None
        });
    }
}

impl Workshop {
    async fn merge(
        &self,
        round: RoundNumber,
        base: ModelRef,
        updates: BTreeMap<ClientId, Counted>,
    ) -> Event {
        let terms = self.terms.of(round).clone();
        let privacy = match self.private(round, terms.privacy).await {
            Ok(privacy) => privacy,
            Err(detail) => return Event::MergeFailed { round, detail },
        };
        let job = MergeJob {
            directory: self.directory.clone(),
            federation: self.federation.clone(),
            round,
            base,
            updates,
            recipe: terms.recipe,
            weight: terms.weight,
            max_weight: terms.max_weight,
            privacy,
            trusted: terms.trusted,
            freeze: terms.freeze,
            seed: terms.seed,
            resources: self.resources,
            keep_updates: self.keep_updates,
        };
        let mut room = WaitForRoom::default();
        let result = loop {
            let begun = Instant::now();
            let job = job.clone();
            let result = self.compute.run(move |cancelled| merge(&job, cancelled));
            match result.await {
                Ok(Ok(merged)) => break self.note(round, merged, begun).await,
                Ok(Err(error)) if is_for_want_of_room(&error) => room.wait(explain(&error)).await,
                Ok(Err(MergeFailure::Lost { lost })) => {
                    tracing::error!(?lost, "accepted updates are lost");
                    return Event::UpdatesLost { round, lost };
                }
                Ok(Err(error)) => break Err(explain(&error)),
                Err(error) => break Err(explain(&error)),
            }
        };
        match result {
            Ok(candidate) => Event::MergeFinished { round, candidate },
            Err(detail) => Event::MergeFailed { round, detail },
        }
    }

    /// What a merge needs to keep a promise: the server's secret, and what earlier merges cost.
    async fn private(
        &self,
        round: RoundNumber,
        promise: Option<Privacy>,
    ) -> Result<Option<PrivateJob>, String> {
        let Some(promise) = promise else {
            return Ok(None);
        };
        let spent = loop {
            match self.ledger.privacy_spent_before(round).await {
                Ok(spent) => break spent,
                Err(error) if error.passes() => wait_for_the_ledger(&error).await,
                Err(error) => return Err(explain(&error)),
            }
        };
        let path = self.directory.noise_key();
        let key = compute::blocking(move || NoiseKey::of(&path)).await;
        let key =
            key.map_err(|error| format!("the secret of the noise cannot be read: {error}"))?;
        Ok(Some(PrivateJob {
            promise,
            key,
            spent,
        }))
    }

    async fn note(
        &self,
        round: RoundNumber,
        merged: Merged,
        begun: Instant,
    ) -> Result<ModelRef, String> {
        let mut report = serde_json::to_value(&merged.story).map_err(|error| explain(&error))?;
        // Tensor by tensor it is in the model's manifest; the ledger keeps rounds for ever.
        let diagnostics = report.get_mut("diagnostics");
        if let Some(diagnostics) = diagnostics.and_then(serde_json::Value::as_object_mut) {
            diagnostics.remove("tensors");
        }
        let note = MergeNote {
            round,
            candidate: merged.candidate,
            elapsed_ms: Millis::from(begun.elapsed()).get(),
            report,
        };
        loop {
            match self.ledger.note_merge(&note).await {
                Ok(()) => break,
                Err(error) if error.passes() => wait_for_the_ledger(&error).await,
                Err(error) => return Err(explain(&error)),
            }
        }
        failpoint::pass(Point::ServerMergeNoted);
        Ok(note.candidate)
    }

    async fn publish(&self, publication: Publication) -> Event {
        let (round, model) = (publication.round, publication.candidate);
        let place = (&self.directory, &self.ledger);
        let authority = Arc::clone(&self.authority.borrow());
        match insist(|| publish(place, &authority, &publication)).await {
            Ok(()) => Event::ModelPublished { round, model },
            Err(detail) => Event::PublishFailed { round, detail },
        }
    }

    async fn roll_back(&self, order: Rollback) -> Event {
        let (place, now) = ((&self.directory, &self.ledger), self.clock.now());
        let model = order.model;
        let authority = Arc::clone(&self.authority.borrow());
        match insist(|| roll_back(place, &authority, &order, now)).await {
            Ok(()) => Event::RolledBack { model },
            Err(detail) => Event::RollbackFailed { model, detail },
        }
    }

    /// What cannot be removed now is tried again after the next round.
    async fn clean_up(&self, closed: RoundNumber, needed_from: RoundNumber) {
        let over = RoundNumber::new(needed_from.get().saturating_sub(1)).min(closed);
        let forgotten = self.ledger.forget_uploads_through(over).await;
        let uploads = forgotten.unwrap_or_else(|error| {
            tracing::warn!(%error, "uploads of a closed round not forgotten");
            Vec::new()
        });
        let workshop = self.clone();
        compute::blocking(move || {
            for upload in uploads {
                if let Err(error) = workshop.staging.remove(&upload) {
                    tracing::warn!(%upload, %error, "staged upload not removed");
                }
            }
            for path in workshop.outdated(closed, over) {
                if let Err(error) = files::remove_directory(&path) {
                    tracing::warn!(path = %path.display(), %error, "old directory not removed");
                }
            }
        })
        .await;
    }

    /// Removes the files of models that the plan does not keep; the ledger says so first, so that nobody is led to what is not there.
    async fn forget_models(&self, oldest_base: ModelVersion) {
        let Some(keep) = self.keep else {
            return;
        };
        let noted = async {
            let models = self.ledger.models().await?;
            let superfluous = keep.superfluous(&models, oldest_base);
            let now = self.clock.now();
            self.ledger
                .note_removed(superfluous.iter().copied(), now)
                .await?;
            // Those too that a crash left behind after the ledger said that they are gone.
            let gone = models.iter().filter(|stored| stored.removed.is_some());
            let gone = gone.map(|stored| stored.model.version);
            Ok::<_, LedgerError>(gone.chain(superfluous).collect::<Vec<_>>())
        };
        let gone = match noted.await {
            Ok(gone) => gone,
            Err(error) => {
                tracing::warn!(%error, "models that are not kept stay for now");
                return;
            }
        };
        let directory = self.directory.clone();
        compute::blocking(move || {
            for version in gone {
                let path = directory.model(version);
                if let Err(error) = files::remove_directory(&path) {
                    tracing::warn!(path = %path.display(), %error, "model not removed");
                }
            }
        })
        .await;
    }

    /// The directories of candidates up to the closed round, and of updates that are kept no longer: of rounds up to `over`.
    fn outdated(&self, closed: RoundNumber, over: RoundNumber) -> Vec<PathBuf> {
        let last = RoundNumber::new(closed.get().saturating_sub(self.keep_updates)).min(over);
        let candidates = rounds_through(closed, &self.directory.candidates());
        let updates = rounds_through(last, &self.directory.updates());
        let candidates = candidates.map(|round| self.directory.candidate(round));
        let updates = updates.map(|round| self.directory.round_updates(round));
        candidates.chain(updates).collect()
    }
}

/// The rounds up to `last` that have a directory in `parent`.
fn rounds_through(last: RoundNumber, parent: &Path) -> impl Iterator<Item = RoundNumber> + use<> {
    let entries = std::fs::read_dir(parent).into_iter().flatten();
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u64>().ok())
        .map(RoundNumber::new)
        .filter(move |round| *round <= last)
}

/// Does what may be repeated until it is done, however long the ledger or the disk is busy or full; else says why it cannot be done.
async fn insist<F, E>(deed: impl Fn() -> F) -> Result<(), String>
where
    F: Future<Output = Result<(), E>>,
    E: Error + 'static,
{
    let mut room = WaitForRoom::default();
    loop {
        let Err(error) = deed().await else {
            return Ok(());
        };
        let ledger = error
            .source()
            .and_then(|source| source.downcast_ref::<LedgerError>());
        if let Some(error) = ledger.filter(|error| error.passes()) {
            wait_for_the_ledger(error).await;
        } else if is_for_want_of_room(&error) {
            room.wait(explain(&error)).await;
        } else {
            return Err(explain(&error));
        }
    }
}

/// The work of a whole round is not lost because the disk is full or another process writes.
async fn wait_for_the_ledger(error: &LedgerError) {
    tracing::warn!(%error, "ledger not written, trying again");
    tokio::time::sleep(LEDGER_PAUSE).await;
}
