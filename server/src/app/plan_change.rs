//! Which plan holds for which round, where `federation.toml` has changed since the server last ran.
//!
//! Invariant: a round keeps the plan that it was opened by, also across restarts, and so do its tasks for as long as they go on; a
//! federation keeps its base for life.

use std::path::Path;

use fedmerge_common::digest::Digest;
use fedmerge_common::failure::{ExitCode, Failure, explain};
use fedmerge_common::ids::{ModelVersion, RoundNumber};
use fedmerge_coordinator::View;

use crate::compute;
use crate::directory::ServerDirectory;
use crate::plan::{ByRound, Change, FederationPlan, changes};
use crate::store::ledger::{Ledger, PlanRow};

/// A plan that is not the one the server ran with before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanChange {
    /// What it says otherwise.
    pub changes: Vec<Change>,
    /// The first round that is held by it.
    pub first_round: RoundNumber,
}

/// What a start knows of the federation's plan.
pub(super) struct Planned<'a> {
    pub(super) directory: &'a ServerDirectory,
    pub(super) ledger: &'a Ledger,
    /// The plan of the file.
    pub(super) plan: &'a FederationPlan,
    /// What the file says.
    pub(super) text: &'a str,
}

impl Planned<'_> {
    /// Finds out what has changed, keeps it, and says which plan each round has.
    ///
    /// # Errors
    /// When the base is another one, or the ledger cannot be used.
    pub(super) async fn settle(
        &self,
        view: &View,
    ) -> Result<(ByRound<FederationPlan>, Option<PlanChange>), Failure> {
        let opened = view.round.map_or(0, RoundNumber::get);
        let open = view.round.filter(|_| opened > view.rounds_ended);
        let next = RoundNumber::new(opened).next();
        // Until the next round opens, a change is one to the plan of the last: each start until then tells it.
        let last = RoundNumber::new(opened.max(1));
        let Some(row) = self.ledger.plan_of(last).await? else {
            self.keep(open.unwrap_or(next)).await?;
            return Ok((ByRound::always(self.plan.clone()), None));
        };
        let before = self.understood(&row.text);
        let change = match &before {
            Some(before) => self.compare(before, next).await?,
            None => None,
        };
        let waiting = self.ledger.plan_of(next).await?;
        if waiting.is_none_or(|waiting| waiting.text != self.text) {
            self.keep(next).await?;
        }
        let plans = ByRound::always(self.plan.clone());
        let plans = match before {
            Some(before) if opened > 0 => plans.through(last, before),
            Some(_) | None => plans,
        };
        let tasks = view.origins.values().map(|origin| origin.round);
        let plans = match tasks.min() {
            Some(oldest) => self.with_earlier(plans, oldest, row.first_round).await?,
            None => plans,
        };
        Ok((plans, change))
    }

    /// The plans of the rounds from `oldest` on whose tasks go on, as far back as the ledger has them: those that held before
    /// round `known`.
    async fn with_earlier(
        &self,
        mut plans: ByRound<FederationPlan>,
        oldest: RoundNumber,
        mut known: RoundNumber,
    ) -> Result<ByRound<FederationPlan>, Failure> {
        while oldest < known {
            let last = RoundNumber::new(known.get().saturating_sub(1));
            let Some(row) = self.ledger.plan_of(last).await? else {
                break;
            };
            if let Some(plan) = self.understood(&row.text) {
                plans = plans.through(last, plan);
            }
            known = row.first_round;
        }
        Ok(plans)
    }

    /// What the file says otherwise than the plan before.
    async fn compare(
        &self,
        before: &FederationPlan,
        next: RoundNumber,
    ) -> Result<Option<PlanChange>, Failure> {
        // Both as seen from here, so that a directory that was moved with its base has the same one.
        let after = FederationPlan::parse(self.text, &self.directory.plan())?;
        let mut changes = changes(before, &after);
        if changes.iter().any(|change| change.key == "base") {
            self.refuse_another_base(&before.base).await?;
            changes.retain(|change| change.key != "base");
        }
        let change = PlanChange {
            changes,
            first_round: next,
        };
        Ok(Some(change).filter(|change| !change.changes.is_empty()))
    }

    async fn keep(&self, first_round: RoundNumber) -> Result<(), Failure> {
        let row = PlanRow {
            first_round,
            text: self.text.to_owned(),
        };
        Ok(self.ledger.keep_plan(&row).await?)
    }

    /// A plan that the ledger kept. One that this version cannot read any more is no reason not to start.
    fn understood(&self, text: &str) -> Option<FederationPlan> {
        let plan = FederationPlan::parse(text, &self.directory.plan());
        plan.inspect_err(|error| {
            tracing::warn!(error = %explain(error), "the plan before this one cannot be read any more");
        })
        .ok()
    }

    /// Another name for the same file is no other base.
    async fn refuse_another_base(&self, before: &Path) -> Result<(), Failure> {
        let first = self.ledger.model(ModelVersion::new(0)).await?;
        let base = self.plan.base.clone();
        let digest = compute::blocking(move || Digest::of_file(&base).ok()).await;
        if first.is_some_and(|first| Some(first.model.digest) == digest) {
            return Ok(());
        }
        let message = format!(
            "the plan's base is `{}`, but the federation began with `{}`",
            self.plan.base.display(),
            before.display()
        );
        let hint = "a federation keeps its base: set `base` back in federation.toml, or make a new server with `fedmerge server init`";
        Err(Failure::new(ExitCode::BadConfiguration, message).with_hint(hint))
    }
}

#[cfg(test)]
mod tests;
