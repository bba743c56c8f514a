//! Which models stay on disk: the best, the last, every so manieth, and whatever a merge or a task still starts from.
//!
//! Pure. Invariant: the base stays, and the model that it was merged from, because the next merge looks back to it.

use std::collections::BTreeSet;

use fedmerge_common::ids::ModelVersion;
use fedmerge_coordinator::Goal;

use crate::store::ledger::StoredModel;

/// How many models a plan keeps; a model that any of these names stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// So many with the best scores.
    pub best: usize,
    /// So many of the newest, at least 2.
    pub last: usize,
    /// Those whose version is a multiple of this; 0 for none.
    pub every: u64,
}

/// The versions with the best scores, the best first and the older one of two that are equal, of those whose files are there. Scores of
/// another metric than the newest one's cannot be compared with it, and do not count.
#[must_use]
pub fn best(models: &[StoredModel], count: usize) -> Vec<ModelVersion> {
    let scores = models.iter().filter(|stored| stored.removed.is_none());
    let scores = scores.filter_map(|stored| Some((stored.score.as_ref()?, stored.model.version)));
    let Some((newest, _)) = scores.clone().next_back() else {
        return Vec::new();
    };
    let comparable =
        scores.filter(|(score, _)| (&score.metric, score.goal) == (&newest.metric, newest.goal));
    let mut ranked: Vec<(f64, ModelVersion)> = comparable
        .filter_map(|(score, version)| Some((score.value.0?, version)))
        .collect();
    ranked.sort_by(|(left, _), (right, _)| match newest.goal {
        Goal::Max => right.total_cmp(left),
        Goal::Min => left.total_cmp(right),
    });
    let versions = ranked.into_iter().map(|(_, version)| version);
    versions.take(count).collect()
}

impl Keep {
    /// The versions whose files may go, of models in the order of versions; tasks may start from `oldest_base` and from what is newer.
    #[must_use]
    pub fn superfluous(
        &self,
        models: &[StoredModel],
        oldest_base: ModelVersion,
    ) -> Vec<ModelVersion> {
        let mut kept: BTreeSet<ModelVersion> = best(models, self.best).into_iter().collect();
        let newest = models.iter().rev().map(|stored| stored.model.version);
        kept.extend(newest.take(self.last));
        kept.extend(looked_back_to(models));
        let versions = models
            .iter()
            .filter(|stored| stored.removed.is_none())
            .map(|stored| stored.model.version);
        versions
            .filter(|version| *version < oldest_base && !kept.contains(version))
            .filter(|version| self.every == 0 || version.get() % self.every != 0)
            .collect()
    }
}

/// What the next merge looks back to: the model that the base's content was merged from.
fn looked_back_to(models: &[StoredModel]) -> Option<ModelVersion> {
    let mut content = models.last()?;
    while let Some(rollback) = &content.rollback {
        content = models
            .iter()
            .find(|stored| stored.model.version == rollback.of)?;
    }
    let before = content.model.version.get().checked_sub(1)?;
    Some(ModelVersion::new(before))
}

#[cfg(test)]
mod tests {
    use fedmerge_common::digest::Digest;
    use fedmerge_common::rollback::Rollback;
    use fedmerge_common::units::Timestamp;
    use fedmerge_common::update::ModelRef;
    use fedmerge_coordinator::{Measure, Score};

    use super::*;

    fn model(version: u64) -> StoredModel {
        StoredModel {
            model: ModelRef {
                version: ModelVersion::new(version),
                digest: Digest::of(&version.to_le_bytes()),
                size_bytes: 1,
            },
            parent: None,
            round: None,
            published: Timestamp::new(version),
            rollback: None,
            score: None,
            removed: None,
        }
    }

    fn scored(version: u64, metric: &str, goal: Goal, value: Option<f64>) -> StoredModel {
        StoredModel {
            score: Some(Score {
                metric: metric.to_owned(),
                goal,
                value: Measure(value),
            }),
            ..model(version)
        }
    }

    fn rolled_back(version: u64, of: u64) -> StoredModel {
        StoredModel {
            rollback: Some(Rollback {
                of: ModelVersion::new(of),
                reason: String::new(),
                signature: Vec::new(),
            }),
            ..model(version)
        }
    }

    fn numbers(versions: &[ModelVersion]) -> Vec<u64> {
        versions.iter().map(|version| version.get()).collect()
    }

    fn superfluous(keep: Keep, models: &[StoredModel], oldest_base: u64) -> Vec<u64> {
        numbers(&keep.superfluous(models, ModelVersion::new(oldest_base)))
    }

    #[test]
    fn the_best_are_those_of_the_newest_metric_whichever_way_it_points() {
        let accuracy = |version, value| scored(version, "accuracy", Goal::Max, value);
        let models = [
            model(0),
            scored(1, "loss", Goal::Min, Some(0.01)),
            accuracy(2, Some(0.8)),
            accuracy(3, Some(0.9)),
            accuracy(4, None),
            accuracy(5, Some(0.9)),
            accuracy(6, Some(0.7)),
        ];
        assert_eq!(numbers(&best(&models, 3)), [3, 5, 2]);
        let losses =
            [1, 2, 3].map(|version| scored(version, "loss", Goal::Min, Some(1.0 / version as f64)));
        assert_eq!(numbers(&best(&losses, 2)), [3, 2]);
        assert_eq!(best(&[model(0)], 2), []);
    }

    #[test]
    fn what_no_rule_names_may_go() {
        let mut models: Vec<StoredModel> = (0..=9).map(model).collect();
        models[2] = scored(2, "accuracy", Goal::Max, Some(0.9));
        let keep = Keep {
            best: 1,
            last: 2,
            every: 5,
        };
        assert_eq!(superfluous(keep, &models, 9), [1, 3, 4, 6, 7]);
        let none = Keep { every: 0, ..keep };
        assert_eq!(superfluous(none, &models, 9), [0, 1, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn a_base_that_a_task_starts_from_stays() {
        let models: Vec<StoredModel> = (0..=9).map(model).collect();
        let keep = Keep {
            best: 0,
            last: 2,
            every: 0,
        };
        assert_eq!(superfluous(keep, &models, 4), [0, 1, 2, 3]);
    }

    #[test]
    fn the_model_that_a_rolled_back_base_was_merged_from_stays() {
        let mut models: Vec<StoredModel> = (0..=6).map(model).collect();
        models.push(rolled_back(7, 4));
        models.push(rolled_back(8, 7));
        let keep = Keep {
            best: 0,
            last: 2,
            every: 0,
        };
        assert_eq!(superfluous(keep, &models, 8), [0, 1, 2, 4, 5, 6]);
    }

    #[test]
    fn what_is_gone_is_neither_the_best_nor_removed_again() {
        let mut models: Vec<StoredModel> = (0..=5)
            .map(|version| scored(version, "accuracy", Goal::Max, Some(-(version as f64))))
            .collect();
        models[0].removed = Some(Timestamp::new(9));
        let keep = Keep {
            best: 1,
            last: 2,
            every: 0,
        };
        assert_eq!(superfluous(keep, &models, 5), [2, 3]);
    }
}
