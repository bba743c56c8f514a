//! What must always hold, as named predicates: checked after every event in tests and simulations.
//!
//! [`check`] looks at a state, [`History`] at everything that was ever asked of the shell. Neither decides anything.

use std::collections::{BTreeMap, BTreeSet};

use fedmerge_common::ids::{ClientId, ModelVersion, RoundNumber};
use fedmerge_common::units::Timestamp;
use fedmerge_common::update::ModelRef;
use thiserror::Error;

use crate::coordinator::Coordinator;
use crate::effect::Effect;
use crate::event::UpdateRef;
use crate::phase::Phase;
use crate::summary::{ClientOutcome, RoundOutcome, RoundSummary};

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{invariant}: {detail}")]
pub struct Violation {
    /// The predicate's name.
    pub invariant: &'static str,
    /// What was found.
    pub detail: String,
}

fn hold(
    holds: bool,
    invariant: &'static str,
    detail: impl FnOnce() -> String,
) -> Result<(), Violation> {
    if holds {
        Ok(())
    } else {
        let detail = detail();
        Err(Violation { invariant, detail })
    }
}

/// Every predicate on a state, after a step at `now`.
///
/// # Errors
/// The first predicate that does not hold.
pub fn check(coordinator: &Coordinator, now: Timestamp) -> Result<(), Violation> {
    nothing_due_is_left_undone(coordinator, now)?;
    progress_that_depends_on_time_has_an_alarm(coordinator)?;
    every_wait_has_a_reason(coordinator)?;
    no_client_learns_about_another(coordinator)?;
    a_merge_has_its_quorum(coordinator)?;
    no_more_updates_count_than_wanted(coordinator)?;
    the_candidate_is_the_next_version(coordinator)
}

/// The alarm is in the future: whatever was due has been done.
///
/// # Errors
/// When it is not.
pub fn nothing_due_is_left_undone(
    coordinator: &Coordinator,
    now: Timestamp,
) -> Result<(), Violation> {
    let alarm = coordinator.wake_at();
    hold(
        alarm.is_none_or(|alarm| alarm > now),
        "nothing due is left undone",
        || format!("it is {now}, and {alarm:?} was due"),
    )
}

/// Where only time brings progress, an alarm is set: while collecting and evaluating, and while gathering with a quorum or a pause.
///
/// # Errors
/// When it is not.
pub fn progress_that_depends_on_time_has_an_alarm(
    coordinator: &Coordinator,
) -> Result<(), Violation> {
    let needed = match &coordinator.state.phase {
        Phase::Gathering(_) => coordinator.attending.len() >= coordinator.plan.quorum.max(1),
        Phase::Collecting(_) | Phase::Evaluating(_) => true,
        Phase::Merging(_) | Phase::Publishing(_) | Phase::Ended(_) => false,
    };
    hold(
        !needed || coordinator.wake_at().is_some(),
        "progress that depends on time has an alarm",
        || format!("{} has none", coordinator.state.phase.name()),
    )
}

/// The status says what is waited for.
///
/// # Errors
/// When it does not.
pub fn every_wait_has_a_reason(coordinator: &Coordinator) -> Result<(), Violation> {
    let view = coordinator.view();
    let deserted = view.phase == "collecting" && view.tally.pending == 0;
    hold(
        !view.waiting_for.is_empty() && !deserted,
        "every wait has a reason",
        || format!("{} waits for `{}`", view.phase, view.waiting_for),
    )
}

/// What a client is told names no other client.
///
/// # Errors
/// When it does.
pub fn no_client_learns_about_another(coordinator: &Coordinator) -> Result<(), Violation> {
    use crate::view::Assignment;
    let nobody_else: Option<ClientId> = "nobody-in-particular".parse().ok();
    let Some(Assignment::Standby {
        waiting_for,
        last_round,
    }) = nobody_else.map(|client| coordinator.assignment(&client))
    else {
        return Ok(());
    };
    let told = format!("{waiting_for} {last_round}");
    let words: BTreeSet<&str> = told.split([' ', ',', '(', ')']).collect();
    let open = coordinator.state.phase.round();
    let mut others = coordinator
        .attending
        .iter()
        .chain(open.into_iter().flat_map(|round| round.clients.keys()));
    let named = others.find(|other| words.contains(other.as_str()));
    hold(named.is_none(), "no client learns about another", || {
        format!("`{told}` names {named:?}")
    })
}

/// From the merge on, a round has its quorum and no open invitation.
///
/// # Errors
/// When it has not.
pub fn a_merge_has_its_quorum(coordinator: &Coordinator) -> Result<(), Violation> {
    let phase = &coordinator.state.phase;
    let Some(round) = phase.round().filter(|_| phase.name() != "collecting") else {
        return Ok(());
    };
    let tally = round.tally();
    hold(
        tally.reaches(round.plan.quorum) && tally.pending == 0,
        "a merge has its quorum",
        || {
            format!(
                "round {} goes on with {tally:?}, quorum {}",
                round.number, round.plan.quorum
            )
        },
    )
}

/// A round never counts more updates than its cohort's target.
///
/// # Errors
/// When it does.
pub fn no_more_updates_count_than_wanted(coordinator: &Coordinator) -> Result<(), Violation> {
    let Some(round) = coordinator.state.phase.round() else {
        return Ok(());
    };
    let (accepted, target) = (round.tally().accepted, round.plan.cohort.target);
    hold(
        accepted <= target,
        "no more updates count than wanted",
        || {
            format!(
                "round {} accepted {accepted}, wanted {target}",
                round.number
            )
        },
    )
}

/// An open round starts from the current base, and its candidate is the version after it.
///
/// # Errors
/// When it is not so.
pub fn the_candidate_is_the_next_version(coordinator: &Coordinator) -> Result<(), Violation> {
    let base = coordinator.state.base;
    let candidate = match &coordinator.state.phase {
        Phase::Evaluating(evaluating) => Some(evaluating.candidate),
        Phase::Publishing(publishing) => Some(publishing.candidate),
        Phase::Gathering(_) | Phase::Collecting(_) | Phase::Merging(_) | Phase::Ended(_) => None,
    };
    let stale = coordinator
        .state
        .phase
        .round()
        .is_some_and(|round| round.base != base);
    let next = candidate.is_none_or(|candidate| candidate.version == base.version.next());
    hold(next && !stale, "the candidate is the next version", || {
        format!("the base is {base:?}, the candidate {candidate:?}")
    })
}

/// Everything a federation ever asked of its shell, over all restarts.
#[derive(Debug, Clone, Default)]
pub struct History {
    holds: BTreeMap<ClientId, RoundNumber>,
    accepted: BTreeSet<(RoundNumber, ClientId)>,
    merges: BTreeMap<RoundNumber, BTreeMap<ClientId, UpdateRef>>,
    closed: BTreeMap<RoundNumber, RoundSummary>,
    bases: BTreeMap<ModelVersion, ModelRef>,
}

impl History {
    /// The rounds that were closed, by number.
    pub fn rounds(&self) -> &BTreeMap<RoundNumber, RoundSummary> {
        &self.closed
    }

    /// Takes in the effects of a step or of a resumption.
    ///
    /// # Errors
    /// When they contradict what was asked before.
    pub fn observe(&mut self, effects: &[Effect]) -> Result<(), Violation> {
        for effect in effects {
            match effect {
                Effect::Invite { client, task } => self.invited(client, task.round)?,
                Effect::Withdraw { client, round, .. }
                | Effect::RejectUpdate { client, round, .. } => {
                    self.released(client, *round);
                }
                Effect::AcceptUpdate { client, round } => self.accepted(client, *round)?,
                Effect::StartMerge { round, updates, .. } => self.merging(*round, updates)?,
                Effect::CloseRound { summary } => self.closed(summary)?,
                Effect::RequestEvaluations { .. }
                | Effect::Publish { .. }
                | Effect::EndFederation { .. } => {}
            }
        }
        Ok(())
    }

    /// Takes note that a client gave up its task by itself: it declined, or its process died.
    pub fn released(&mut self, client: &ClientId, round: RoundNumber) {
        if self.holds.get(client) == Some(&round) {
            self.holds.remove(client);
        }
    }

    fn invited(&mut self, client: &ClientId, round: RoundNumber) -> Result<(), Violation> {
        hold(
            !self.closed.contains_key(&round),
            "a closed round stays closed",
            || format!("{client} is invited to round {round}"),
        )?;
        let before = self.holds.insert(client.clone(), round);
        hold(
            before.is_none_or(|before| before == round || self.closed.contains_key(&before)),
            "no client holds two tasks",
            || format!("{client} holds {before:?} and is invited to {round}"),
        )
    }

    fn accepted(&mut self, client: &ClientId, round: RoundNumber) -> Result<(), Violation> {
        self.released(client, round);
        let first = self.accepted.insert((round, client.clone()));
        let merged = self
            .merges
            .get(&round)
            .is_none_or(|updates| updates.contains_key(client));
        let told = self.closed.get(&round).is_none_or(|summary| {
            matches!(
                summary.clients.get(client),
                Some(ClientOutcome::Accepted { .. })
            )
        });
        hold(merged && told, "an accepted update counts", || {
            format!("{client} in round {round}, first time: {first}")
        })
    }

    fn merging(
        &mut self,
        round: RoundNumber,
        updates: &BTreeMap<ClientId, UpdateRef>,
    ) -> Result<(), Violation> {
        let before = self.merges.insert(round, updates.clone());
        hold(
            before.as_ref().is_none_or(|before| before == updates),
            "a repeated merge is the same merge",
            || format!("round {round}: {before:?}, then {updates:?}"),
        )?;
        let lost = self
            .accepted
            .iter()
            .find(|(of, client)| *of == round && !updates.contains_key(client));
        hold(lost.is_none(), "an accepted update counts", || {
            format!("{lost:?} is not merged")
        })
    }

    fn closed(&mut self, summary: &RoundSummary) -> Result<(), Violation> {
        let round = summary.round;
        if let Some(before) = self.closed.get(&round) {
            return hold(before == summary, "a round is closed once", || {
                format!("round {round}: {before:?}, then {summary:?}")
            });
        }
        let expected = self
            .closed
            .last_key_value()
            .map_or(1, |(last, _)| last.get() + 1);
        hold(
            round.get() == expected,
            "rounds are closed in order",
            || format!("round {round}, expected {expected}"),
        )?;
        let lost = self.accepted.iter().find(|(of, client)| {
            *of == round
                && !matches!(
                    summary.clients.get(client),
                    Some(ClientOutcome::Accepted { .. })
                )
        });
        hold(lost.is_none(), "an accepted update counts", || {
            format!("{lost:?} is not in the story")
        })?;
        if let RoundOutcome::Published(model) = &summary.outcome {
            let merged = self.merges.get(&round).map_or(0, BTreeMap::len);
            hold(
                merged == summary.accepted(),
                "no update is counted twice",
                || {
                    format!(
                        "round {round} merged {merged} updates, accepted {}",
                        summary.accepted()
                    )
                },
            )?;
            let other = self.bases.insert(model.version, *model);
            let follows = model.version == summary.base.version.next();
            hold(
                follows && other.is_none_or(|other| other == *model),
                "one base per version",
                || format!("{other:?}, then {model:?} from {:?}", summary.base),
            )?;
        }
        self.closed.insert(round, summary.clone());
        Ok(())
    }
}
