//! What must always hold, as named predicates: checked after every event in tests and simulations.
//!
//! [`check`] looks at a state, [`History`] at everything that was ever asked of the shell. Neither decides anything.

use std::collections::{BTreeMap, BTreeSet};

use fedmerge_common::ids::{ClientId, ModelVersion, RoundNumber};
use fedmerge_common::units::Timestamp;
use fedmerge_common::update::ModelRef;
use thiserror::Error;

use crate::coordinator::Coordinator;
use crate::effect::{Counted, Effect, EndReason, Rollback};
use crate::phase::Phase;
use crate::plan::Mode;
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
    late_tasks_are_few_and_fresh(coordinator)?;
    whoever_was_asked_to_evaluate_is_waited_for_or_has_answered(coordinator)?;
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
        Phase::Merging(_) | Phase::Publishing(_) | Phase::RollingBack(_) | Phase::Ended(_) => false,
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
    // Of a buffered round, others may take part.
    let open = coordinator.state.phase.round();
    let is_closed = open.is_some_and(|round| round.plan.mode == Mode::Synchronous);
    let deserted = view.phase == "collecting" && view.tally.pending == 0 && is_closed;
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
        .chain(open.into_iter().flat_map(|round| round.roll.clients.keys()));
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
    // What was accepted between rounds counts, however much it is.
    let accepted = round.tally().accepted;
    let target = round.plan.cohort.target.max(round.roll.origins.len());
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

/// While a candidate is evaluated, each client whose update it is made of is either waited for or has answered, and nobody else.
///
/// # Errors
/// When it is not so.
pub fn whoever_was_asked_to_evaluate_is_waited_for_or_has_answered(
    coordinator: &Coordinator,
) -> Result<(), Violation> {
    let Phase::Evaluating(evaluating) = &coordinator.state.phase else {
        return Ok(());
    };
    let answered = evaluating.round.evaluations.keys();
    let mut asked: Vec<&ClientId> = evaluating.waiting.keys().chain(answered).collect();
    asked.sort();
    let updates = evaluating.round.counted();
    hold(
        asked.iter().copied().eq(updates.keys()),
        "whoever was asked to evaluate is waited for or has answered",
        || format!("asked {asked:?}, merged {:?}", updates.keys()),
    )
}

/// An open round starts from the current base, and its candidate is the version after it; what is rolled back to becomes a higher one.
///
/// # Errors
/// When it is not so.
pub fn the_candidate_is_the_next_version(coordinator: &Coordinator) -> Result<(), Violation> {
    let base = coordinator.state.base;
    let candidate = match &coordinator.state.phase {
        Phase::Evaluating(evaluating) => Some(evaluating.candidate),
        Phase::Publishing(publishing) => Some(publishing.candidate),
        Phase::RollingBack(rolling_back) => Some(rolling_back.rollback.model),
        Phase::Gathering(_) | Phase::Collecting(_) | Phase::Merging(_) | Phase::Ended(_) => None,
    };
    let stale = coordinator
        .state
        .phase
        .round()
        .is_some_and(|round| round.base != base);
    let is_rolling_back = matches!(coordinator.state.phase, Phase::RollingBack(_));
    let next = candidate.is_none_or(|candidate| {
        candidate.version == base.version.next()
            || (is_rolling_back && candidate.version > base.version)
    });
    hold(next && !stale, "the candidate is the next version", || {
        format!("the base is {base:?}, the candidate {candidate:?}")
    })
}

/// Late tasks wait for their round, and none has become too stale.
///
/// # Errors
/// When it is not so.
pub fn late_tasks_are_few_and_fresh(coordinator: &Coordinator) -> Result<(), Violation> {
    let state = &coordinator.state;
    let late = &state.late.roll;
    let open = state.phase.round();
    let twice = late
        .clients
        .keys()
        .find(|client| open.is_some_and(|round| round.roll.is_pending(client)));
    let collecting = matches!(state.phase, Phase::Collecting(_)) && !late.clients.is_empty();
    hold(
        twice.is_none() && !collecting,
        "a task is on one roll",
        || format!("{twice:?}, {:?}", late.clients),
    )?;
    let of_round = open.into_iter().flat_map(|round| {
        let pending = round.roll.origins.iter();
        let pending = pending.filter(|(client, _)| round.roll.is_pending(client));
        pending.map(|(client, origin)| (client, origin, round.plan.max_staleness))
    });
    let stale = of_round
        .into_iter()
        .find(|(_, origin, most)| origin.staleness(&state.base) > *most);
    hold(stale.is_none(), "no task is too stale", || {
        format!("{stale:?}")
    })
}

/// What became of an update that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It waits for its merge.
    Waits,
    /// It was merged in this round, or belonged to it when it was abandoned.
    Spent(RoundNumber),
    /// A rollback gave it up, if it succeeded.
    Doubtful,
}

/// Everything a federation ever asked of its shell, over all restarts.
#[derive(Debug, Clone, Default)]
pub struct History {
    holds: BTreeMap<ClientId, RoundNumber>,
    /// By the round of the task.
    accepted: BTreeMap<(RoundNumber, ClientId), Fate>,
    merges: BTreeMap<RoundNumber, BTreeMap<ClientId, Counted>>,
    closed: BTreeMap<RoundNumber, RoundSummary>,
    bases: BTreeMap<ModelVersion, ModelRef>,
}

impl History {
    /// The rounds that were closed, by number.
    pub fn rounds(&self) -> &BTreeMap<RoundNumber, RoundSummary> {
        &self.closed
    }

    /// The merges that were asked for, by round.
    pub fn merges(&self) -> &BTreeMap<RoundNumber, BTreeMap<ClientId, Counted>> {
        &self.merges
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
                Effect::AcceptUpdate { client, round } => self.accepted(client, *round),
                Effect::StartMerge { round, updates, .. } => self.merging(*round, updates)?,
                Effect::CloseRound { summary, .. } => self.closed(summary)?,
                Effect::EndFederation { reason, .. } => self.ended(*reason)?,
                Effect::RollBack(rollback) => self.rolling_back(rollback)?,
                Effect::RequestEvaluations { .. }
                | Effect::Publish { .. }
                | Effect::RefuseRollback { .. }
                | Effect::AnswerRollback { .. } => {}
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
        let is_over = self.is_over(client, round);
        hold(!is_over, "a closed round stays closed", || {
            format!("{client} is invited to round {round}")
        })?;
        let before = self.holds.insert(client.clone(), round);
        hold(
            before.is_none_or(|before| before == round || self.is_over(client, before)),
            "no client holds two tasks",
            || format!("{client} holds {before:?} and is invited to {round}"),
        )
    }

    /// Whether a round told what became of the client's task of `round`, or that round is closed and never gave it one.
    fn is_over(&self, client: &ClientId, round: RoundNumber) -> bool {
        let mut told = self
            .closed
            .range(round..)
            .map(|(_, summary)| summary.outcome(client, round));
        match told.next() {
            None => false,
            Some(Some(ClientOutcome::CarriedOver)) => told
                .flatten()
                .any(|outcome| *outcome != ClientOutcome::CarriedOver),
            Some(_) => true,
        }
    }

    fn accepted(&mut self, client: &ClientId, round: RoundNumber) {
        self.released(client, round);
        // Told again, or for the first time when the process died before: then its round may be over.
        let mut stories = self.closed.range(round..);
        let spent = stories.find(|(_, summary)| {
            matches!(
                summary.outcome(client, round),
                Some(ClientOutcome::Accepted { .. })
            )
        });
        let fate = spent.map_or(Fate::Waits, |(of, _)| Fate::Spent(*of));
        let key = (round, client.clone());
        self.accepted.entry(key).or_insert(fate);
    }

    fn merging(
        &mut self,
        round: RoundNumber,
        updates: &BTreeMap<ClientId, Counted>,
    ) -> Result<(), Violation> {
        let before = self.merges.insert(round, updates.clone());
        let is_part_of = |before: &BTreeMap<ClientId, Counted>| {
            let mut counted = updates.iter();
            counted.all(|(client, counted)| before.get(client) == Some(counted))
        };
        hold(
            // What was lost meanwhile is left out.
            before.as_ref().is_none_or(is_part_of),
            "a repeated merge is the same merge",
            || format!("round {round}: {before:?}, then {updates:?}"),
        )?;
        for (client, counted) in updates {
            // Perhaps nobody was told: the process died before.
            let key = (counted.round, client.clone());
            let fate = self.accepted.entry(key).or_insert(Fate::Waits);
            let counts = match fate {
                Fate::Waits | Fate::Doubtful => true,
                Fate::Spent(other) => *other == round,
            };
            *fate = Fate::Spent(round);
            hold(counts, "no update is counted twice", || {
                format!("round {round} merges {client}'s of {}", counted.round)
            })?;
        }
        Ok(())
    }

    fn closed(&mut self, summary: &RoundSummary) -> Result<(), Violation> {
        let round = summary.round;
        if let Some(before) = self.closed.get(&round) {
            return hold(before == summary, "a round is closed once", || {
                format!("round {round}: {before:?}, then {summary:?}")
            });
        }
        let last = self.closed.last_key_value();
        let expected = last.map_or(1, |(last, _)| last.get() + 1);
        hold(
            round.get() == expected,
            "rounds are closed in order",
            || format!("round {round}, expected {expected}"),
        )?;
        self.nothing_accepted_is_lost(summary)?;
        if let RoundOutcome::Published(model) = &summary.outcome {
            let merged = self.merges.get(&round).map_or(0, BTreeMap::len);
            hold(
                merged == summary.accepted(),
                "an accepted update counts",
                || format!("round {round} merged {merged} of {}", summary.accepted()),
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

    /// Every update that waits is in the story of the round that closes: there as accepted, or as what goes on in the next one.
    fn nothing_accepted_is_lost(&mut self, summary: &RoundSummary) -> Result<(), Violation> {
        let round = summary.round;
        for ((of, client), fate) in &mut self.accepted {
            if *of > round || *fate != Fate::Waits {
                continue;
            }
            let told = summary.outcome(client, *of);
            let is_told = match told {
                Some(ClientOutcome::CarriedOver) => true,
                Some(ClientOutcome::Lost { .. }) => {
                    *fate = Fate::Spent(round);
                    true
                }
                Some(ClientOutcome::Accepted { .. }) => {
                    *fate = Fate::Spent(round);
                    summary.outcome.published().is_none()
                }
                Some(
                    ClientOutcome::Rejected(_)
                    | ClientOutcome::Declined(_)
                    | ClientOutcome::Silent { .. },
                )
                | None => false,
            };
            hold(is_told, "an accepted update counts", || {
                format!("{client}'s of round {of} in round {round}: {told:?}")
            })?;
        }
        Ok(())
    }

    /// A rollback makes a new version of a base that was, and gives up what waits where it succeeds: a person wants it so. No task outlives it.
    fn rolling_back(&mut self, rollback: &Rollback) -> Result<(), Violation> {
        self.holds.clear();
        for fate in self.accepted.values_mut() {
            if *fate == Fate::Waits {
                *fate = Fate::Doubtful;
            }
        }
        let Rollback { model, of, .. } = rollback;
        let taken = self.bases.get(&model.version);
        hold(
            *of < model.version && taken.is_none_or(|taken| taken == model),
            "one base per version",
            || format!("{taken:?}, then {rollback:?}"),
        )
    }

    /// What waits when the last round is over would never count.
    fn ended(&self, reason: EndReason) -> Result<(), Violation> {
        let mut fates = self.accepted.iter();
        let lost = fates.find(|(_, fate)| **fate == Fate::Waits);
        hold(
            lost.is_none() || reason == EndReason::Stopped,
            "an accepted update counts",
            || format!("{lost:?} when the federation ended"),
        )
    }
}
