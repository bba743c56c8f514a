//! Where the client's threads and Python's meet: tasks that wait to be taken, answers to them, and what became of updates.
//!
//! Plain state behind one lock, held for moments and never while anything is waited for but a change of it. A task that the client
//! has given up leaves the desk at once: an answer to it finds nobody, and whoever answers is told so.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fedmerge_client::milestone::Milestone;
use fedmerge_client::trainer::Progress;
use fedmerge_common::failure::Failure;
use tokio::sync::{oneshot, watch};

/// Rounds whose outcome is remembered.
const MAX_OUTCOMES: usize = 16;

/// Something for Python to do.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Its number here.
    pub(crate) ticket: u64,
    /// The round.
    pub(crate) round: u64,
    /// The model.
    pub(crate) base: PathBuf,
    /// Where the checkpoint goes; none for a measurement.
    pub(crate) out: Option<PathBuf>,
    /// The task as JSON.
    pub(crate) config: String,
}

/// What Python answers.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It did it.
    Done {
        /// Examples used, where it said.
        num_examples: Option<u64>,
        /// Metrics by name.
        metrics: BTreeMap<String, f64>,
    },
    /// It did not: the kind of reason, by its stable name, and the reason in words.
    Declined(String, String),
}

/// What became of an update: its kind, the reason for programs, the reason for people.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// `accepted`, `rejected`, `declined` or `withdrawn`.
    pub(crate) kind: &'static str,
    /// A code of the closed sets of reasons; empty where nothing speaks against it.
    pub(crate) reason: String,
    /// One line.
    pub(crate) detail: String,
}

/// A request that waits for its answer.
#[derive(Debug)]
struct Open {
    answer: oneshot::Sender<Answer>,
    progress: Option<watch::Sender<Progress>>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Request>,
    open: BTreeMap<u64, Open>,
    last_ticket: u64,
    outcomes: BTreeMap<u64, Outcome>,
    ended: Option<Result<(), Failure>>,
}

/// The meeting place.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    state: Mutex<State>,
    changed: Condvar,
}

/// Takes a request off the desk when it is dropped, which is when the client does not wait for its answer any more.
#[derive(Debug)]
pub(crate) struct Withdrawal {
    desk: Arc<Desk>,
    ticket: u64,
}

impl Drop for Withdrawal {
    fn drop(&mut self) {
        let mut state = self.desk.lock();
        state.open.remove(&self.ticket);
        state
            .waiting
            .retain(|request| request.ticket != self.ticket);
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a change until `look` finds something, or the time is over.
    fn wait<T>(&self, limit: Duration, mut look: impl FnMut(&mut State) -> Option<T>) -> Option<T> {
        let end = Instant::now() + limit;
        let mut state = self.lock();
        loop {
            if let Some(found) = look(&mut state) {
                return Some(found);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Lays a request on the desk; the number is the desk's own. Its answer comes as long as the withdrawal is held.
    pub(crate) fn lay(
        self: &Arc<Self>,
        request: Request,
        progress: Option<watch::Sender<Progress>>,
    ) -> (oneshot::Receiver<Answer>, Withdrawal) {
        let (answer, answered) = oneshot::channel();
        let mut state = self.lock();
        state.last_ticket += 1;
        let ticket = state.last_ticket;
        state.outcomes.remove(&request.round);
        state.open.insert(ticket, Open { answer, progress });
        state.waiting.push_back(Request { ticket, ..request });
        drop(state);
        self.changed.notify_all();
        let desk = Arc::clone(self);
        (answered, Withdrawal { desk, ticket })
    }

    /// The next request, if one comes in time.
    pub(crate) fn take(&self, limit: Duration) -> Option<Request> {
        let found = self.wait(limit, |state| match state.waiting.pop_front() {
            Some(request) => Some(Some(request)),
            None => state.ended.is_some().then_some(None),
        });
        found.flatten()
    }

    /// Tells a sign of life; answers whether it is still waited for.
    pub(crate) fn progress(&self, ticket: u64, progress: Progress) -> bool {
        let state = self.lock();
        let Some(open) = state.open.get(&ticket) else {
            return false;
        };
        if let Some(told) = &open.progress {
            told.send_replace(progress);
        }
        true
    }

    /// Whether a request still waits for its answer.
    pub(crate) fn is_open(&self, ticket: u64) -> bool {
        self.lock().open.contains_key(&ticket)
    }

    /// Answers a request; tells whether somebody still waited.
    pub(crate) fn answer(&self, ticket: u64, answer: Answer) -> bool {
        let open = self.lock().open.remove(&ticket);
        open.is_some_and(|open| open.answer.send(answer).is_ok())
    }

    /// Remembers what a milestone says of an update.
    pub(crate) fn hear(&self, milestone: &Milestone) {
        let Some((round, outcome)) = outcome_of(milestone) else {
            return;
        };
        let mut state = self.lock();
        state.outcomes.insert(round, outcome);
        while state.outcomes.len() > MAX_OUTCOMES {
            state.outcomes.pop_first();
        }
        drop(state);
        self.changed.notify_all();
    }

    /// What became of a round's update, if that is known in time.
    pub(crate) fn outcome(&self, round: u64, limit: Duration) -> Option<Outcome> {
        let found = self.wait(limit, |state| match state.outcomes.get(&round) {
            Some(outcome) => Some(Some(outcome.clone())),
            None => state.ended.is_some().then_some(None),
        });
        found.flatten()
    }

    /// The client has ended, and how. The first word counts.
    pub(crate) fn end(&self, how: Result<(), Failure>) {
        self.lock().ended.get_or_insert(how);
        self.changed.notify_all();
    }

    /// Whether the client has ended, waiting a while for that.
    pub(crate) fn wait_for_end(&self, limit: Duration) -> bool {
        let ended = self.wait(limit, |state| state.ended.is_some().then_some(()));
        ended.is_some()
    }

    /// Why the client has ended, where that was no good end. Told once.
    pub(crate) fn take_failure(&self) -> Option<Failure> {
        let mut state = self.lock();
        match state.ended.take() {
            Some(Err(failure)) => {
                state.ended = Some(Ok(()));
                Some(failure)
            }
            other => {
                state.ended = other;
                None
            }
        }
    }
}

fn outcome_of(milestone: &Milestone) -> Option<(u64, Outcome)> {
    let (round, kind, reason, detail) = match milestone {
        Milestone::Accepted { round } => (round, "accepted", String::new(), String::new()),
        Milestone::Withdrawn { round } => (
            round,
            "withdrawn",
            "round-closed".to_owned(),
            "the round was over before this client's update was in".to_owned(),
        ),
        Milestone::Rejected { round, rejection } => (
            round,
            "rejected",
            rejection.code.to_string(),
            rejection.detail.clone(),
        ),
        Milestone::Declined { round, decline } => (
            round,
            "declined",
            decline.kind.to_string(),
            decline.detail.clone(),
        ),
        Milestone::Waiting { .. }
        | Milestone::LastRound { .. }
        | Milestone::Resumed { .. }
        | Milestone::Forgotten { .. }
        | Milestone::RolledBack { .. }
        | Milestone::Base { .. }
        | Milestone::Trained { .. }
        | Milestone::ExamplesUnknown
        | Milestone::ResidualDropped { .. }
        | Milestone::Evaluated { .. }
        | Milestone::EvaluationDeclined { .. }
        | Milestone::EvaluationOver { .. }
        | Milestone::Ended { .. } => return None,
    };
    let outcome = Outcome {
        kind,
        reason,
        detail,
    };
    Some((round.get(), outcome))
}
