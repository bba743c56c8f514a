//! How things stand, for people and for clients: status, sentences, assignments.
//!
//! Every wait says what it waits for. A sentence for an administrator names clients; one for a client never does,
//! because no client is to learn about another.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use fedmerge_common::ids::{ClientId, RoundNumber};
use fedmerge_common::reason::AbandonReason;
use fedmerge_common::units::Timestamp;
use fedmerge_common::update::ModelRef;

use crate::cohort;
use crate::coordinator::Coordinator;
use crate::effect::{EndReason, EvaluationTask, Rollback, Task};
use crate::phase::Phase;
use crate::phase::collecting::Collecting;
use crate::phase::evaluating::Evaluating;
use crate::phase::gathering::{self, Gathering};
use crate::phase::rolling_back::RollingBack;
use crate::plan::Mode;
use crate::quorum::Tally;
use crate::roll::Origin;
use crate::summary::{ClientOutcome, RoundOutcome, RoundSummary};

/// Most clients a sentence names; it counts the others.
pub const NAMED: usize = 2;

/// What is expected of one client now.
#[derive(Debug, Clone, PartialEq)]
pub enum Assignment {
    /// Nothing yet.
    Standby {
        /// What the federation waits for, one line that names no client.
        waiting_for: String,
        /// What became of the last round, one line; empty before the first and while a round is open.
        last_round: String,
    },
    /// A task is open.
    Invited(Task),
    /// The federation is over.
    Ended {
        /// Why.
        reason: EndReason,
        /// The last base.
        last: ModelRef,
    },
}

/// A candidate that clients evaluate now.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// What they do.
    pub task: EvaluationTask,
    /// Those that have not answered yet.
    pub asked: BTreeSet<ClientId>,
}

/// A federation at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// The open round, or the last one; none before the first.
    pub round: Option<RoundNumber>,
    /// `gathering`, `collecting`, `merging`, `evaluating`, `publishing`, `rolling-back` or `ended`.
    pub phase: &'static str,
    /// What is waited for, by whom and until when, one line.
    pub waiting_for: String,
    /// Who is waited for, by name; nobody in particular between rounds and while the server itself works.
    pub awaited: BTreeSet<ClientId>,
    /// When the wait ends if nothing happens; none where only an event ends it.
    pub until: Option<Timestamp>,
    /// The current base.
    pub base: ModelRef,
    /// Clients that attend.
    pub attending: BTreeSet<ClientId>,
    /// The open round's invitations in numbers; all 0 between rounds.
    pub tally: Tally,
    /// The open round's invited clients and how each stands; none while it is pending.
    pub clients: BTreeMap<ClientId, Option<ClientOutcome>>,
    /// Where the tasks come from that an earlier round gave and that are not done, of the open round and between rounds.
    pub origins: BTreeMap<ClientId, Origin>,
    /// When the open round stops waiting for clients that show no progress.
    pub deadline: Option<Timestamp>,
    /// The open round's candidate while clients evaluate it.
    pub evaluation: Option<Evaluation>,
    /// Rounds that are over.
    pub rounds_ended: u64,
    /// The last of them.
    pub last_round: Option<RoundSummary>,
    /// Why the federation is over, once it is.
    pub ended: Option<EndReason>,
}

/// Who reads a sentence. One for clients names none of them, and counts none either: it would change, and be sent to all of them, with
/// everything that any of them does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Audience {
    Administrator,
    Client,
}

/// What is expected of clients at one moment.
#[derive(Debug)]
pub struct Briefing<'a> {
    coordinator: &'a Coordinator,
    waiting_for: String,
    last_round: String,
}

impl Briefing<'_> {
    /// What is expected of one of them.
    pub fn of(&self, client: &ClientId) -> Assignment {
        let state = &self.coordinator.state;
        if let Phase::Ended(reason) = state.phase {
            let last = state.base;
            return Assignment::Ended { reason, last };
        }
        if let Phase::Collecting(Collecting { round }) = &state.phase
            && round.roll.is_pending(client)
        {
            return Assignment::Invited(round.roll.task(client, &round.frame(round.opened)));
        }
        if let Some(task) = state.late.task(client) {
            return Assignment::Invited(task);
        }
        Assignment::Standby {
            waiting_for: self.waiting_for.clone(),
            last_round: self.last_round.clone(),
        }
    }
}

impl Coordinator {
    /// How things stand.
    pub fn view(&self) -> View {
        let open = self.state.phase.round();
        let opened = self.state.rounds_opened;
        let clients = open.into_iter().flat_map(|round| &round.roll.clients);
        let clients =
            clients.map(|(client, standing)| (client.clone(), standing.outcome().cloned()));
        let late = &self.state.late.roll;
        let origins = late
            .origins
            .iter()
            .filter(|(client, _)| late.is_pending(client));
        let taken_over = open.into_iter().flat_map(|round| {
            let origins = round.roll.origins.iter();
            origins.filter(|(client, _)| round.roll.is_pending(client))
        });
        View {
            round: (opened > 0).then(|| RoundNumber::new(opened)),
            phase: self.state.phase.name(),
            waiting_for: self.sentence(Audience::Administrator),
            awaited: self.awaited(),
            until: self.wake_at(),
            base: self.state.base,
            attending: self.attending.clone(),
            tally: open.map(|round| round.tally()).unwrap_or_default(),
            clients: clients.collect(),
            origins: origins
                .chain(taken_over)
                .map(|(client, origin)| (client.clone(), *origin))
                .collect(),
            deadline: open.map(|round| round.deadline),
            evaluation: self.evaluation_under_way(),
            rounds_ended: opened.saturating_sub(u64::from(open.is_some())),
            last_round: self.state.last_round.clone(),
            ended: self.ended(),
        }
    }

    /// What is expected of `client` now.
    pub fn assignment(&self, client: &ClientId) -> Assignment {
        self.briefing().of(client)
    }

    /// What is expected of each client now; what they all hear is put into words once.
    pub fn briefing(&self) -> Briefing<'_> {
        // While a round is open its outcome is what matters; that of the round before was told, or shows in the base.
        let is_between = matches!(self.state.phase, Phase::Gathering(_));
        let last_round = self.state.last_round.as_ref().filter(|_| is_between);
        Briefing {
            coordinator: self,
            waiting_for: self.sentence(Audience::Client),
            last_round: last_round.map(story_for_clients).unwrap_or_default(),
        }
    }

    /// What `client` is asked to evaluate now, if anything.
    pub fn evaluation(&self, client: &ClientId) -> Option<EvaluationTask> {
        if let Phase::Evaluating(evaluating) = &self.state.phase
            && evaluating.waiting.contains_key(client)
        {
            return Some(evaluating.task());
        }
        None
    }

    fn awaited(&self) -> BTreeSet<ClientId> {
        match &self.state.phase {
            Phase::Collecting(collecting) => collecting.round.roll.pending().cloned().collect(),
            Phase::Evaluating(evaluating) => evaluating.waiting.keys().cloned().collect(),
            Phase::Gathering(_)
            | Phase::Merging(_)
            | Phase::Publishing(_)
            | Phase::RollingBack(_)
            | Phase::Ended(_) => BTreeSet::new(),
        }
    }

    fn evaluation_under_way(&self) -> Option<Evaluation> {
        match &self.state.phase {
            Phase::Evaluating(evaluating) => Some(Evaluation {
                task: evaluating.task(),
                asked: evaluating.waiting.keys().cloned().collect(),
            }),
            Phase::Gathering(_)
            | Phase::Collecting(_)
            | Phase::Merging(_)
            | Phase::Publishing(_)
            | Phase::RollingBack(_)
            | Phase::Ended(_) => None,
        }
    }

    fn sentence(&self, audience: Audience) -> String {
        match &self.state.phase {
            Phase::Gathering(gathering) => self.gathering_sentence(gathering, audience),
            Phase::Collecting(collecting) => collecting_sentence(collecting, audience),
            Phase::Merging(merging) => {
                format!(
                    "the merge of {}",
                    count(merging.round.tally().accepted, "update")
                )
            }
            Phase::Evaluating(evaluating) => evaluating_sentence(evaluating, audience),
            Phase::Publishing(publishing) => {
                format!("the publication of model {}", publishing.candidate.version)
            }
            Phase::RollingBack(RollingBack { rollback, .. }) => {
                let Rollback { model, of, .. } = rollback;
                format!(
                    "the publication of model {}, which is model {of} again",
                    model.version
                )
            }
            Phase::Ended(reason) => format!("nothing: {reason}"),
        }
    }

    fn gathering_sentence(&self, gathering: &Gathering, audience: Audience) -> String {
        let attending = gathering::present(&self.attending, &self.state.late);
        let wanted = cohort::invitation_size(&self.plan.cohort, attending);
        let quorum = self.plan.quorum;
        if audience == Audience::Client && gathering.paused_until.is_none() {
            return format!("enough clients to open a round, at least {quorum}");
        }
        if attending < quorum {
            return format!("{attending} of {wanted} clients (at least {quorum} to open a round)");
        }
        let opens = self.wake_at().map(clock).unwrap_or_default();
        if gathering.paused_until.is_some() {
            let failures = count_u32(self.state.failures_in_a_row, "round");
            return format!("a pause until {opens} after {failures} abandoned in a row");
        }
        format!("{attending} of {wanted} clients; the round opens with those at {opens}")
    }
}

fn collecting_sentence(collecting: &Collecting, audience: Audience) -> String {
    let round = &collecting.round;
    let tally = round.tally();
    let target = round.plan.cohort.target;
    if audience == Audience::Client {
        return format!("the updates of others until {}", clock(round.deadline));
    }
    let until = clock(collecting.waits_until());
    if tally.pending == 0 {
        let wanted = count(target, "update");
        return format!(
            "{} of {wanted}: for clients to come, until {until}",
            tally.accepted
        );
    }
    let wanted = match round.plan.mode {
        Mode::Synchronous => target.min(tally.accepted + tally.pending),
        Mode::Buffered => target,
    };
    let missing = names(round.roll.pending());
    format!(
        "{} of {}{missing} until {until}",
        tally.accepted,
        count(wanted, "update")
    )
}

fn evaluating_sentence(evaluating: &Evaluating, audience: Audience) -> String {
    if audience == Audience::Client {
        let until = clock(evaluating.deadline);
        return format!("the evaluations of others until {until}");
    }
    let reports = evaluating.round.evaluations.len();
    let asked = reports + evaluating.waiting.len();
    let missing = names(evaluating.waiting.keys());
    let until = clock(evaluating.wake_at().unwrap_or(evaluating.deadline));
    format!(
        "{reports} of {}{missing} until {until}",
        count(asked, "evaluation")
    )
}

/// `, missing client-2, client-7 and 1 more,`
fn names<'a>(clients: impl Iterator<Item = &'a ClientId>) -> String {
    let clients: Vec<&str> = clients.map(ClientId::as_str).collect();
    if clients.is_empty() {
        return String::new();
    }
    let named = &clients[..clients.len().min(NAMED)];
    match (clients.len() - named.len(), named) {
        (0, [first, second]) => format!(", missing {first} and {second},"),
        (0, named) => format!(", missing {},", named.join(", ")),
        (more, named) => format!(", missing {} and {more} more,", named.join(", ")),
    }
}

/// What became of a round, without details that may name clients.
fn story_for_clients(summary: &RoundSummary) -> String {
    let outcome: &dyn fmt::Display = match &summary.outcome {
        RoundOutcome::Published(model) => {
            return format!("round {} published model {}", summary.round, model.version);
        }
        RoundOutcome::Abandoned(AbandonReason::MergeFailed { .. }) => &"the merge failed",
        RoundOutcome::Abandoned(AbandonReason::PublishFailed { .. }) => {
            &"the model could not be published"
        }
        RoundOutcome::Abandoned(AbandonReason::Regression { .. }) => {
            &"the merged model was worse than its base"
        }
        RoundOutcome::Abandoned(AbandonReason::NotEvaluated { .. }) => {
            &"too few clients evaluated the merged model"
        }
        RoundOutcome::Abandoned(
            reason @ (AbandonReason::QuorumNotReached { .. }
            | AbandonReason::RolledBack { .. }
            | AbandonReason::Interrupted),
        ) => reason,
    };
    format!("round {} was abandoned: {outcome}", summary.round)
}

fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

fn count_u32(number: u32, noun: &str) -> String {
    count(usize::try_from(number).unwrap_or(usize::MAX), noun)
}

/// The time of day, `12:31:05 UTC`; a wait shorter than a day needs no date.
fn clock(at: Timestamp) -> String {
    let seconds = at.unix_seconds() % 86_400;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02} UTC", seconds % 60)
}
