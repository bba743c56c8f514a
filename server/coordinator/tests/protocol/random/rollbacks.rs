//! Wishes for older models, and what becomes of them.

use fedmerge_common::ids::ModelVersion;
use fedmerge_common::update::ModelRef;
use fedmerge_coordinator::Event;

use super::World;
use crate::protocol::federation::model;

impl World {
    /// A wish for an older model, or what becomes of the one that was asked for last.
    pub(super) fn some_rollback(&mut self) -> Event {
        let Some((_, asked)) = self.rollbacks.pop_last() else {
            let base = self.coordinator.base().version.get();
            let to = self.random.below(base + 1);
            let reason = "as it was".to_owned();
            let to = self.published(to).unwrap_or(model(0));
            let above = ModelVersion::new(0);
            return Event::RollbackAsked { to, reason, above };
        };
        let is_fact = self.rolled_back.contains_key(&asked.version);
        if !is_fact && self.random.one_in(4) {
            let detail = "no space".to_owned();
            return Event::RollbackFailed {
                model: asked,
                detail,
            };
        }
        // Events come late: only a rollback that is waited for becomes a fact.
        let version = self.coordinator.base().version.next();
        if self.coordinator.view().phase == "rolling-back" && asked.version == version {
            self.rolled_back.insert(asked.version, asked);
            // The process may die before it hears of it; the next one is told again.
            self.rollbacks.insert(asked.version, asked);
        }
        Event::RolledBack { model: asked }
    }

    fn published(&self, version: u64) -> Option<ModelRef> {
        let version = ModelVersion::new(version);
        let mut facts = self.facts.values().chain(self.rolled_back.values());
        facts.find(|fact| fact.version == version).copied()
    }
}
