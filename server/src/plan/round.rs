//! `[round]`: sizes, times and policies become the coordinator's plan.
//!
//! What is left out is chosen so that a plan with one number still makes sense; whether the whole can work is for
//! [`RoundPlan::check`] to say.

use fedmerge_common::units::Millis;
use fedmerge_coordinator::plan::{LEAST_QUORUM, MAX_OVER_SELECT};
use fedmerge_coordinator::{Cohort, LatePolicy, Mode, Population, RoundPlan};

use super::ReadPlanError;
use super::choice::Choice;
use super::document::Document;
use super::file::{MergeTable, RoundTable};

const DEFAULT_ROUNDS: u64 = 10;
/// A federation is more than one client.
const LEAST_TARGET: usize = 2;
const DEFAULT_FRACTION: f64 = 1.0;
const DEFAULT_OVER_SELECT: f64 = 1.0;
const DEFAULT_DEADLINE: Millis = Millis::from_secs(30 * 60);
const DEFAULT_GRACE: Millis = Millis::from_secs(30);
const DEFAULT_MAX_STALENESS: u64 = 10;
const DEFAULT_RISK: f64 = 0.01;

const MODES: Choice<Mode> = Choice {
    what: "mode",
    known: &[
        ("synchronous", Mode::Synchronous),
        ("buffered", Mode::Buffered),
    ],
    planned: &[],
};

const LATE: Choice<LatePolicy> = Choice {
    what: "policy for late updates",
    known: &[("reject", LatePolicy::Reject), ("carry", LatePolicy::Carry)],
    planned: &[],
};

/// The plan of the rounds, not yet checked.
pub(super) fn plan(
    round: &RoundTable,
    merge: &MergeTable,
    document: &Document,
) -> Result<RoundPlan, ReadPlanError> {
    let mode = match &round.mode {
        Some(name) => MODES.choose(name, document)?,
        None => Mode::default(),
    };
    let late = match &round.late {
        Some(name) => LATE.choose(name, document)?,
        None => LatePolicy::default(),
    };
    let carries = mode == Mode::Buffered || late == LatePolicy::Carry;
    if let Some(most) = round.max_staleness.as_ref().filter(|_| !carries) {
        return Err(ReadPlanError::Value {
            place: document.place(most.span()),
            key: "max_staleness",
            fault: "has no effect without `late = \"carry\"` or `mode = \"buffered\"`",
        });
    }
    Ok(RoundPlan {
        mode,
        late,
        max_staleness: match &round.max_staleness {
            Some(most) => *most.get_ref(),
            None if carries => DEFAULT_MAX_STALENESS,
            None => 0,
        },
        ..sizes(round, merge, mode)
    })
}

/// How large and how long, for rounds of that mode.
fn sizes(round: &RoundTable, merge: &MergeTable, mode: Mode) -> RoundPlan {
    let honest_majority = merge.tolerate.saturating_mul(2).saturating_add(1);
    let least = if round.allow_small_quorum {
        LEAST_TARGET
    } else {
        LEAST_QUORUM
    };
    let target = round.cohort.target.or(round.quorum);
    let target = target.unwrap_or_else(|| least.max(honest_majority));
    let majority = match mode {
        Mode::Synchronous => target / 2 + 1,
        // A buffer is merged when it is full.
        Mode::Buffered => target,
    };
    // Never over the target: what is wrong then is `tolerate`, and not a quorum that nobody wrote.
    let quorum = round.quorum.unwrap_or_else(|| {
        let floor = if round.allow_small_quorum {
            1
        } else {
            LEAST_QUORUM
        };
        majority.max(honest_majority).max(floor).min(target)
    });
    let over_select = match mode {
        Mode::Synchronous => DEFAULT_OVER_SELECT,
        // Whoever is there may be at work.
        Mode::Buffered => MAX_OVER_SELECT,
    };
    RoundPlan {
        rounds: round.count.unwrap_or(DEFAULT_ROUNDS),
        cohort: Cohort {
            target,
            fraction: round.cohort.fraction.unwrap_or(DEFAULT_FRACTION),
            over_select: round.cohort.over_select.unwrap_or(over_select),
        },
        quorum,
        deadline: round.deadline.unwrap_or(DEFAULT_DEADLINE),
        grace: round.grace.unwrap_or(DEFAULT_GRACE),
        tolerate: merge.tolerate,
        population: round.population.as_ref().map(|population| Population {
            clients: population.clients,
            hostile: population.hostile,
            risk: population.risk.unwrap_or(DEFAULT_RISK),
        }),
        seed: merge.seed,
        evaluate: None,
        mode,
        late: LatePolicy::default(),
        max_staleness: 0,
        private_rounds: None,
        allow_small_quorum: round.allow_small_quorum,
    }
}

/// What the merge must withstand: where nobody wrote it, what follows from the population. A quorum that nobody wrote follows.
pub(super) fn tolerate(plan: &mut RoundPlan, round: &RoundTable) -> usize {
    let (target, rounds) = (plan.cohort.target, plan.rounds);
    if let Some(population) = plan.population.filter(|_| plan.tolerate == 0)
        && population.can_give(target)
    {
        plan.tolerate = population.tolerance(target, rounds);
        if round.quorum.is_none() {
            let majority = plan.tolerate.saturating_mul(2).saturating_add(1);
            plan.quorum = plan.quorum.max(majority).min(target);
        }
    }
    plan.tolerate
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use std::path::Path;

    use fedmerge_coordinator::PlanError;

    use super::super::file::PopulationTable;
    use super::*;

    fn table(target: Option<usize>, quorum: Option<usize>) -> RoundTable {
        let mut round = RoundTable {
            quorum,
            allow_small_quorum: true,
            ..RoundTable::default()
        };
        round.cohort.target = target;
        round
    }

    fn made(target: Option<usize>, quorum: Option<usize>, tolerate: usize) -> RoundPlan {
        of(&table(target, quorum), tolerate)
    }

    fn of(round: &RoundTable, tolerate: usize) -> RoundPlan {
        let merge = MergeTable {
            tolerate,
            ..MergeTable::default()
        };
        let document = Document::new(Path::new("federation.toml"), "");
        let mut made = plan(round, &merge, &document).unwrap();
        super::tolerate(&mut made, round);
        made
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
    fn fewer_than_three_updates_are_merged_only_where_the_plan_allows_it() {
        let mut round = table(None, None);
        round.allow_small_quorum = false;
        let plan = of(&round, 0);
        assert_eq!((plan.cohort.target, plan.quorum), (3, 3));
        round.cohort.target = Some(4);
        assert_eq!(of(&round, 0).quorum, 3);
        round.quorum = Some(2);
        assert_eq!(
            of(&round, 0).check(),
            Err(PlanError::SmallQuorum { quorum: 2 })
        );
    }

    #[test]
    fn what_a_sampled_cohort_must_tolerate_follows_from_the_population() {
        let mut round = table(Some(50), None);
        round.count = Some(1000);
        round.population = Some(PopulationTable {
            clients: 1000,
            hostile: 100,
            risk: None,
        });
        let plan = of(&round, 0);
        assert_eq!((plan.tolerate, plan.quorum), (15, 31));
        assert_eq!(plan.check(), Ok(()));
        assert!(matches!(
            of(&round, 14).check(),
            Err(PlanError::ToleranceUnderPopulation { needed: 15, .. })
        ));
        round.cohort.target = Some(20);
        round.population = Some(PopulationTable {
            clients: 1000,
            hostile: 200,
            risk: None,
        });
        assert!(matches!(
            of(&round, 0).check(),
            Err(PlanError::ToleranceOverCohort { target: 20, .. })
        ));
    }

    #[test]
    fn a_buffer_is_merged_when_it_is_full_and_whoever_is_there_may_be_at_work() {
        let text = "mode = \"buffered\"";
        let round: RoundTable = toml::from_str(text).unwrap();
        let document = Document::new(Path::new("federation.toml"), text);
        let plan = plan(&round, &MergeTable::default(), &document).unwrap();
        assert_eq!((plan.mode, plan.max_staleness), (Mode::Buffered, 10));
        assert_eq!((plan.cohort.target, plan.quorum), (3, 3));
        assert!(plan.cohort.over_select >= 10.0);
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
