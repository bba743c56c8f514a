//! What the server does beside its loop: merges, publications, rollbacks; each fails now and then, or is cut off by a death.

use std::collections::BTreeMap;

use fedmerge_common::ids::{ClientId, ModelVersion, RoundNumber};
use fedmerge_common::update::ModelRef;
use fedmerge_coordinator::{Counted, Event, Rollback};

use super::World;
use crate::sim::disk::Write;
use crate::sim::happening::Happening;

impl World {
    pub(super) fn merged(
        &mut self,
        life: u64,
        round: RoundNumber,
        base: &ModelRef,
        updates: &BTreeMap<ClientId, Counted>,
    ) {
        if life != self.server_life || self.server.is_none() {
            return;
        }
        let event = if self.random.chance(self.faults.lost_update) {
            let lost = updates.keys().filter(|_| self.random.chance(300));
            let lost = lost.map(|client| (client.clone(), "no such file".to_owned()));
            Event::UpdatesLost {
                round,
                lost: lost.collect(),
            }
        } else if self.random.chance(self.faults.failed_deed) {
            let detail = "no space".to_owned();
            Event::MergeFailed { round, detail }
        } else {
            let candidate = self.disk.merge(base, updates);
            if self.random.chance(self.faults.rollback) {
                let delay = self.random.below(20_000);
                self.after(delay, Happening::WantsBack);
            }
            Event::MergeFinished { round, candidate }
        };
        self.serve(event);
    }

    /// Some older model, or the base itself, which is refused.
    pub(super) fn want_back(&mut self) {
        let base = self
            .server
            .as_ref()
            .map(|server| *server.coordinator.base());
        let version = base.map(|base| self.random.below(base.version.get() + 1));
        let to = version.and_then(|version| self.disk.model(ModelVersion::new(version)));
        if let Some(to) = to {
            let reason = "as it was".to_owned();
            let above = ModelVersion::new(0);
            self.serve(Event::RollbackAsked { to, reason, above });
        }
    }

    pub(super) fn rolled_back(&mut self, life: u64, order: &Rollback) {
        let model = order.model;
        let detail = "no space".to_owned();
        let failed = Event::RollbackFailed { model, detail };
        let done = Event::RolledBack { model };
        self.become_a_fact(life, (model, Some(order.of)), done, failed);
    }

    pub(super) fn published(&mut self, life: u64, round: RoundNumber, model: ModelRef) {
        let detail = "no space".to_owned();
        let failed = Event::PublishFailed { round, detail };
        let done = Event::ModelPublished { round, model };
        self.become_a_fact(life, (model, None), done, failed);
    }

    fn become_a_fact(
        &mut self,
        life: u64,
        (model, of): (ModelRef, Option<ModelVersion>),
        done: Event,
        failed: Event,
    ) {
        if life != self.server_life || self.server.is_none() {
            return;
        }
        if !self.disk.has(&model) && self.random.chance(self.faults.failed_deed) {
            return self.serve(failed);
        }
        if self.random.chance(self.faults.server_death) {
            // Where it is whole, a fact that nobody has heard of yet.
            let write = *self.random.pick(&Write::ALL);
            self.disk.publish(model, of, write);
            return self.kill_server();
        }
        self.disk.publish(model, of, Write::Whole);
        self.serve(done);
    }
}
