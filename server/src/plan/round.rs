//! `[round]`: sizes and times become the coordinator's plan.
//!
//! What is left out is chosen so that a plan with one number still makes sense; whether the whole can work is for
//! [`RoundPlan::check`] to say.

use fedmerge_common::units::Millis;
use fedmerge_coordinator::{Cohort, RoundPlan};

use super::file::{MergeTable, RoundTable};

const DEFAULT_ROUNDS: u64 = 10;
/// A federation is more than one client.
const LEAST_TARGET: usize = 2;
const DEFAULT_FRACTION: f64 = 1.0;
const DEFAULT_OVER_SELECT: f64 = 1.0;
const DEFAULT_DEADLINE: Millis = Millis::from_secs(30 * 60);
const DEFAULT_GRACE: Millis = Millis::from_secs(30);

/// The plan of the rounds, not yet checked.
pub(super) fn plan(round: &RoundTable, merge: &MergeTable) -> RoundPlan {
    let honest_majority = merge.tolerate.saturating_mul(2).saturating_add(1);
    let target = round.cohort.target.or(round.quorum);
    let target = target.unwrap_or_else(|| LEAST_TARGET.max(honest_majority));
    // Never over the target: what is wrong then is `tolerate`, and not a quorum that nobody wrote.
    let quorum = round
        .quorum
        .unwrap_or_else(|| (target / 2 + 1).max(honest_majority).min(target));
    RoundPlan {
        rounds: round.count.unwrap_or(DEFAULT_ROUNDS),
        cohort: Cohort {
            target,
            fraction: round.cohort.fraction.unwrap_or(DEFAULT_FRACTION),
            over_select: round.cohort.over_select.unwrap_or(DEFAULT_OVER_SELECT),
        },
        quorum,
        deadline: round.deadline.unwrap_or(DEFAULT_DEADLINE),
        grace: round.grace.unwrap_or(DEFAULT_GRACE),
        tolerate: merge.tolerate,
        seed: merge.seed,
        evaluate: None,
    }
}

#[cfg(test)]
mod tests {
    use fedmerge_coordinator::PlanError;

    use super::*;

    fn made(target: Option<usize>, quorum: Option<usize>, tolerate: usize) -> RoundPlan {
        let mut round = RoundTable {
            quorum,
            ..RoundTable::default()
        };
        round.cohort.target = target;
        let merge = MergeTable {
            tolerate,
            ..MergeTable::default()
        };
        plan(&round, &merge)
    }

    #[test]
    fn a_size_left_out_follows_from_the_others() {
        for (target, quorum, tolerate, expected) in [
            (None, None, 0, (2, 2)),
            (None, None, 1, (3, 3)),
            (None, None, 2, (5, 5)),
            (Some(1), None, 0, (1, 1)),
            (Some(10), None, 0, (10, 6)),
            (Some(11), None, 0, (11, 6)),
            (Some(10), None, 2, (10, 6)),
            (Some(10), None, 4, (10, 9)),
            (None, Some(7), 2, (7, 7)),
            (Some(10), Some(3), 1, (10, 3)),
        ] {
            let plan = made(target, quorum, tolerate);
            assert_eq!((plan.cohort.target, plan.quorum), expected);
            assert_eq!(plan.check(), Ok(()), "{target:?} {quorum:?} {tolerate}");
        }
    }

    #[test]
    fn a_quorum_nobody_wrote_is_never_what_is_wrong() {
        assert_eq!(
            made(Some(4), None, 2).check(),
            Err(PlanError::ToleranceOverCohort {
                tolerate: 2,
                target: 4
            })
        );
        assert!(made(None, None, usize::MAX).check().is_err());
    }
}
