//! The straight line, the shell's loop: one event, the coordinator's step, the ledger, then its effects in order.
//!
//! Invariants: the ledger is written before anyone is told; every decision is the coordinator's; events that wait together are
//! written together. What takes long (merge, publication) runs beside the loop and comes back as an event.

mod deeds;
mod farewell;
mod inbox;
mod quarantine;
mod rollbacks;
mod seats;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use fedmerge_common::clock::Clock;
use fedmerge_common::failpoint::{self, Point};
use fedmerge_common::failure::Failure;
use fedmerge_common::ids::{ClientId, ModelVersion, RoundNumber};
use fedmerge_common::reason::Rejection;
use fedmerge_common::rollback::Rollback;
use fedmerge_common::units::Timestamp;
use fedmerge_common::update::ModelRef;
use fedmerge_coordinator::{Coordinator, Effect, Event, Record, RoundSummary, UpdateRef, View};
use fedmerge_proto::convert::evaluation::EvaluationReport;
use fedmerge_proto::convert::transfer::UpdateOutcome;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::console::Console;
use crate::notice::Offer;
use crate::plan::ByRound;
use crate::publish::Publication;
use crate::store::ledger::{Ledger, LedgerError};
use deeds::Deeds;
use farewell::Farewell;
use inbox::{INPUTS_AHEAD, Input};
use seats::Seats;

pub use deeds::{MergeTerms, Workshop};
pub use inbox::{Federation, RollbackWish, Seat};
pub use quarantine::Quarantine;

/// Inputs that are written to the ledger together, at most.
const TOGETHER: usize = 256;
/// Longest sleep: a clock that was set back is noticed after it.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// How long signs of life wait for other things that are to be written: of a thousand clients at work come a thousand in a second, and
/// each would have the whole state written.
const PROGRESS_PAUSE: Duration = Duration::from_secs(1);
/// Pause before the ledger is written again that could not be.
const LEDGER_PAUSE: Duration = Duration::from_secs(1);

/// When the driver ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stay {
    /// When the federation is over and its clients have left.
    UntilDone,
    /// Never.
    Always,
}

/// The driver of one federation.
#[derive(Debug)]
pub struct Driver {
    coordinator: Coordinator,
    clock: Clock,
    ledger: Ledger,
    console: Console,
    quarantine: Quarantine,
    stay: Stay,
    inputs: mpsc::Receiver<Input>,
    view: watch::Sender<Arc<View>>,
    seats: Seats,
    deeds: Deeds,
    /// Who waits for a decision, in the order of their updates.
    undecided: BTreeMap<(RoundNumber, ClientId), VecDeque<oneshot::Sender<UpdateOutcome>>>,
    /// Who waits for a rollback, in the order of their wishes.
    rollbacks: VecDeque<oneshot::Sender<Result<ModelRef, String>>>,
    persisted: Option<Record>,
    /// Since when signs of life wait to be written. Until then nobody is told anything that follows from them.
    behind_since: Option<Instant>,
    farewell: Farewell,
}

/// What a driver works with.
#[derive(Debug)]
pub struct Equipment {
    /// The round protocol, new or restored.
    pub coordinator: Coordinator,
    /// The server's clock.
    pub clock: Clock,
    /// Where decisions become durable.
    pub ledger: Ledger,
    /// Merges and publishes.
    pub workshop: Workshop,
    /// What invitations offer.
    pub offers: ByRound<Offer>,
    /// The rollbacks that were published, by the version that each made.
    pub rollbacks: BTreeMap<ModelVersion, Rollback>,
    /// Tells the operator.
    pub console: Console,
    /// When to end.
    pub stay: Stay,
    /// Who is shut out for what the rounds say of it.
    pub quarantine: Quarantine,
}

/// Why the loop must not go on.
#[derive(Debug)]
enum Halt {
    /// A person or supervisor stops the server.
    Stopped,
    /// The ledger fails in a way that waiting does not mend.
    Ledger(LedgerError),
}

impl Driver {
    /// A driver and the handle by which the rest of the server reaches it.
    #[must_use]
    pub fn new(equipment: Equipment) -> (Self, Federation) {
        let (sender, inputs) = mpsc::channel(INPUTS_AHEAD);
        let (view, shown) = watch::channel(Arc::new(equipment.coordinator.view()));
        let driver = Self {
            deeds: Deeds::new(equipment.workshop),
            seats: Seats::new(equipment.offers, equipment.rollbacks),
            coordinator: equipment.coordinator,
            clock: equipment.clock,
            ledger: equipment.ledger,
            console: equipment.console,
            quarantine: equipment.quarantine,
            stay: equipment.stay,
            inputs,
            view,
            undecided: BTreeMap::new(),
            rollbacks: VecDeque::new(),
            persisted: None,
            behind_since: None,
            farewell: Farewell::default(),
        };
        let federation = Federation {
            inputs: sender,
            view: shown,
        };
        (driver, federation)
    }

    /// Drives the federation until `stop`, or until it is over where that was asked for.
    ///
    /// # Errors
    /// When the ledger cannot be written and waiting does not help.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Failure> {
        let halt = match self.drive(&stop).await {
            Ok(()) => None,
            Err(Halt::Stopped) => {
                tracing::info!("driver stopped");
                None
            }
            Err(Halt::Ledger(error)) => Some(Failure::from(error)),
        };
        self.deeds.stop().await;
        halt.map_or(Ok(()), Err)
    }

    async fn drive(&mut self, stop: &CancellationToken) -> Result<(), Halt> {
        let mut due = Vec::new();
        let effects = self.coordinator.resume(self.clock.now());
        self.follow(effects, stop).await?;
        loop {
            if self.is_done() {
                return Ok(());
            }
            let sleep = tokio::time::sleep(self.until_due());
            tokio::select! {
                biased;
                () = stop.cancelled() => return Err(Halt::Stopped),
                event = self.deeds.next() => due.push(Input::unheard(event)),
                count = self.inputs.recv_many(&mut due, TOGETHER) => {
                    if count == 0 {
                        return Err(Halt::Stopped);
                    }
                }
                () = sleep => {}
            }
            self.take(&mut due, stop).await?;
        }
    }

    /// Turns what came into steps, writes the outcome once, and acts on it.
    async fn take(&mut self, due: &mut Vec<Input>, stop: &CancellationToken) -> Result<(), Halt> {
        let mut effects = Vec::new();
        let mut durable = Vec::new();
        let mut seated = Vec::new();
        let gone = self.seats.clear();
        let is_progress = |input: &Input| matches!(input, Input::Progress { .. });
        let is_quiet = gone.is_empty() && !due.is_empty() && due.iter().all(is_progress);
        // First: a client that is gone must not make up the number of those who attend.
        for client in gone {
            self.farewell.left(&client);
            effects.append(&mut self.step(Event::ClientLeft { client }));
        }
        for input in due.drain(..) {
            match input {
                Input::Happened {
                    event,
                    durable: done,
                } => {
                    effects.append(&mut self.step(event));
                    durable.push(done);
                }
                Input::Progress { client, round } => {
                    effects.append(&mut self.step(Event::ProgressReported { client, round }));
                }
                Input::Attend {
                    client,
                    instance,
                    seat,
                } => {
                    let taken = self.seats.take(&client, instance, &self.coordinator);
                    if taken.is_ok() {
                        self.farewell.arrived();
                        effects.append(&mut self.step(Event::ClientArrived { client }));
                    }
                    seated.push((seat, taken));
                }
                Input::Left { client, session } => {
                    if self.seats.leave(&client, session) {
                        self.farewell.left(&client);
                        effects.append(&mut self.step(Event::ClientLeft { client }));
                    }
                }
                Input::Decide {
                    client,
                    round,
                    verdict,
                    outcome,
                } => {
                    let waiting = self.undecided.entry((round, client.clone())).or_default();
                    waiting.push_back(outcome);
                    effects.append(&mut self.step(verdict_event(client, round, verdict)));
                }
                Input::RollBack { wish, outcome } => {
                    self.rollbacks.push_back(outcome);
                    effects.append(&mut self.step(wish.into()));
                }
            }
        }
        effects.append(&mut self.step(Event::TimePassed));
        if is_quiet && effects.is_empty() && self.may_wait() {
            return Ok(());
        }
        self.follow(effects, stop).await?;
        for done in durable {
            let _gone = done.send(());
        }
        // Not before: a seat shows an invitation, and that must be in the ledger. Whoever is gone is cleared at the next turn.
        for (seat, taken) in seated {
            let _gone = seat.send(taken);
        }
        Ok(())
    }

    /// Whether signs of life need not be written yet.
    fn may_wait(&mut self) -> bool {
        let since = *self.behind_since.get_or_insert_with(Instant::now);
        since.elapsed() < PROGRESS_PAUSE
    }

    fn step(&mut self, event: Event) -> Vec<Effect> {
        let is_notable = !matches!(event, Event::TimePassed | Event::ProgressReported { .. });
        if is_notable {
            tracing::info!(?event, "event");
        }
        self.coordinator.step(self.clock.now(), event)
    }

    /// The ledger first; then the effects, and everyone is told how things stand.
    async fn follow(&mut self, effects: Vec<Effect>, stop: &CancellationToken) -> Result<(), Halt> {
        let closed = effects.iter().filter_map(|effect| match effect {
            Effect::CloseRound { summary, .. } => Some(summary.clone()),
            Effect::Invite { .. }
            | Effect::Withdraw { .. }
            | Effect::AcceptUpdate { .. }
            | Effect::RejectUpdate { .. }
            | Effect::StartMerge { .. }
            | Effect::RequestEvaluations { .. }
            | Effect::Publish { .. }
            | Effect::RollBack(_)
            | Effect::RefuseRollback { .. }
            | Effect::AnswerRollback { .. }
            | Effect::EndFederation { .. } => None,
        });
        let closed: Vec<RoundSummary> = closed.collect();
        self.persist(&closed, stop).await?;
        let has_rolled_back =
            |effect: &Effect| matches!(effect, Effect::AnswerRollback { outcome: Ok(_) });
        if effects.iter().any(has_rolled_back) {
            self.learn_rollbacks(stop).await?;
        }
        for effect in effects {
            self.perform(effect).await;
        }
        let view = Arc::new(self.coordinator.view());
        self.console.standing(&view);
        // Before the notices: an update that a notice brings must find the round that it is for.
        self.view.send_replace(view);
        self.seats.refresh(&self.coordinator);
        self.behind_since = None;
        Ok(())
    }

    async fn persist(
        &mut self,
        closed: &[RoundSummary],
        stop: &CancellationToken,
    ) -> Result<(), Halt> {
        let record = self.coordinator.record();
        if closed.is_empty() && self.persisted.as_ref() == Some(&record) {
            return Ok(());
        }
        loop {
            match self.ledger.commit(&record, closed).await {
                Ok(()) => break,
                Err(error) if error.passes() => {
                    tracing::warn!(%error, "ledger not written, trying again");
                }
                Err(error) => return Err(Halt::Ledger(error)),
            }
            tokio::select! {
                () = stop.cancelled() => return Err(Halt::Stopped),
                () = tokio::time::sleep(LEDGER_PAUSE) => {}
            }
        }
        failpoint::pass(Point::ServerRecorded);
        self.persisted = Some(record);
        Ok(())
    }

    async fn perform(&mut self, effect: Effect) {
        tracing::info!(?effect, "effect");
        match effect {
            // Whoever is invited or not any more reads it from the notice.
            Effect::Invite { client, task } => self.console.invited(&client, &task),
            Effect::Withdraw { .. } => {}
            // So does whoever is asked to evaluate.
            Effect::RequestEvaluations { .. } => {}
            Effect::AcceptUpdate { client, round } => self.answer(client, round, Ok(())),
            Effect::RejectUpdate {
                client,
                round,
                rejection,
            } => self.answer(client, round, Err(rejection)),
            Effect::StartMerge {
                round,
                base,
                updates,
            } => self.deeds.merge(round, base, updates),
            Effect::Publish {
                round,
                candidate,
                score,
            } => self.deeds.publish(Publication {
                round,
                parent: self.coordinator.base().digest,
                candidate,
                score,
                now: self.clock.now(),
            }),
            Effect::RollBack(order) => self.deeds.roll_back(order),
            Effect::RefuseRollback { detail } => self.refuse_rollback(detail),
            Effect::AnswerRollback { outcome } => self.answer_rollback(&outcome),
            Effect::CloseRound {
                summary,
                needed_from,
                oldest_base,
            } => {
                self.tell_closed(&summary).await;
                self.quarantine.count(&self.ledger, &summary).await;
                failpoint::pass(Point::ServerClosed);
                self.deeds.clean_up(summary.round, needed_from, oldest_base);
            }
            Effect::EndFederation { reason, last } => {
                self.console.ended(reason, &last);
                let view = self.coordinator.view();
                self.farewell.begin(view.last_round.as_ref());
            }
        }
    }

    async fn tell_closed(&mut self, summary: &RoundSummary) {
        let note = self.ledger.merge_note(summary.round).await;
        let note = note.unwrap_or_else(|error| {
            tracing::warn!(%error, "the story of a merge cannot be read");
            None
        });
        self.console.closed(summary, note.as_ref());
    }

    fn answer(&mut self, client: ClientId, round: RoundNumber, outcome: UpdateOutcome) {
        let key = (round, client);
        let Some(waiting) = self.undecided.get_mut(&key) else {
            return;
        };
        if let Some(sender) = waiting.pop_front() {
            // A client that lost its connection asks again and gets the same answer.
            let _gone = sender.send(outcome);
        }
        if waiting.is_empty() {
            self.undecided.remove(&key);
        }
    }

    fn is_done(&self) -> bool {
        self.stay == Stay::UntilDone
            && self.coordinator.ended().is_some()
            && self.farewell.is_over(&self.seats)
    }

    /// Until the coordinator has something to do, or the farewell is over.
    fn until_due(&self) -> Duration {
        let now: Timestamp = self.clock.now();
        let wake = self.coordinator.wake_at();
        let wake = wake.map_or(LONGEST_SLEEP, |at| {
            // `wake_at` is in whole milliseconds: waking a moment late is waking once.
            Duration::from_millis(1) + (at - now).to_duration()
        });
        let farewell = self
            .farewell
            .until()
            .filter(|_| self.stay == Stay::UntilDone)
            .map_or(LONGEST_SLEEP, |until| until - Instant::now());
        let behind = self.behind_since.map_or(LONGEST_SLEEP, |since| {
            since + PROGRESS_PAUSE - Instant::now()
        });
        wake.min(farewell).min(behind).min(LONGEST_SLEEP)
    }
}

/// What a client's report on a candidate is to the coordinator.
#[must_use]
pub fn evaluation_event(client: ClientId, report: EvaluationReport) -> Event {
    let EvaluationReport { round, outcome } = report;
    match outcome {
        Ok(comparison) => Event::EvaluationReported {
            client,
            round,
            before: comparison.before,
            after: comparison.after,
            num_examples: comparison.num_examples,
        },
        Err(decline) => Event::EvaluationDeclined {
            client,
            round,
            decline,
        },
    }
}

fn verdict_event(
    client: ClientId,
    round: RoundNumber,
    verdict: Result<UpdateRef, Rejection>,
) -> Event {
    match verdict {
        Ok(update) => Event::UpdateValidated {
            client,
            round,
            update,
        },
        Err(rejection) => Event::UpdateRejected {
            client,
            round,
            rejection,
        },
    }
}

#[cfg(test)]
mod tests;
