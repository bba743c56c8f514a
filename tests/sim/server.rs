//! The server's shell in small: the real coordinator, its record on the disk before anybody is told, and a notice for each client.

use std::collections::BTreeMap;

use fedmerge_client::agent::Answer;
use fedmerge_common::ids::{ClientId, ModelVersion, RoundNumber};
use fedmerge_common::reason::Rejection;
use fedmerge_common::rollback;
use fedmerge_common::task_vector::Encoding;
use fedmerge_common::task_vector::encoding::Density;
use fedmerge_common::units::{ByteSize, Timestamp};
use fedmerge_common::update::ModelRef;
use fedmerge_coordinator::invariant::{self, History};
use fedmerge_coordinator::{
    Assignment, Coordinator, Counted, Effect, Event, Rollback, RoundPlan, RoundSummary, UpdateRef,
};

use fedmerge_proto::v1;
use fedmerge_server::driver::evaluation_event;
use fedmerge_server::notice::{Offer, evaluation, notice};
use fedmerge_server::plan::ByRound;

use super::calls::{Call, Reply, Streamed};
use super::disk::{Disk, Write};

/// A request that waits for its response.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) client: usize,
    /// The client's process.
    pub(crate) life: u64,
    pub(crate) id: u64,
}

/// What a server wants the world to do.
#[derive(Clone, Debug)]
pub(crate) enum Wish {
    Reply(Asked, Reply),
    Stream(usize, Box<Streamed>),
    /// A stream is over.
    EndStream(usize, u64),
    Merge {
        round: RoundNumber,
        base: ModelRef,
        updates: BTreeMap<ClientId, Counted>,
    },
    Publish {
        round: RoundNumber,
        candidate: ModelRef,
    },
    RollBack(Rollback),
}

#[derive(Debug)]
struct Place {
    instance: u64,
    session: u64,
    shown: Option<v1::Notice>,
}

/// One life of a server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) coordinator: Coordinator,
    places: BTreeMap<usize, Place>,
    undecided: BTreeMap<(RoundNumber, ClientId), Vec<Asked>>,
    names: Vec<ClientId>,
    offers: ByRound<Offer>,
    /// What the authority signed, by the version that it is about.
    rollbacks: BTreeMap<ModelVersion, rollback::Rollback>,
}

/// What one turn of the server leads to: what was written, and what it wants done if it lives on.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) wishes: Vec<Wish>,
    effects: Vec<Effect>,
}

impl Server {
    /// Starts from what is on the disk; from `base`, where nothing is.
    pub(crate) fn start(
        plan: &RoundPlan,
        names: &[ClientId],
        base: ModelRef,
        disk: &mut Disk,
        now: Timestamp,
    ) -> (Self, Vec<Effect>) {
        let mut coordinator = match disk.recover() {
            Some(record) => Coordinator::restore(plan.clone(), record).unwrap(),
            None => Coordinator::new(plan.clone(), base),
        };
        let effects = coordinator.resume(now);
        let server = Self {
            coordinator,
            places: BTreeMap::new(),
            undecided: BTreeMap::new(),
            names: names.to_vec(),
            offers: ByRound::always(Offer {
                encodings: vec![Encoding::F32],
                density: Density::default(),
                max_update: ByteSize::new(1000),
                noise: None,
            }),
            rollbacks: disk.rollbacks(),
        };
        (server, effects)
    }

    /// Takes in a request; the effects are not yet written or followed.
    pub(crate) fn take(&mut self, now: Timestamp, asked: Asked, call: Call, session: u64) -> Turn {
        let client = self.names[asked.client].clone();
        let mut wishes = Vec::new();
        let effects = match call {
            Call::Attend { instance } => {
                let place = self.places.get(&asked.client);
                if place.is_some_and(|place| place.instance != instance) {
                    wishes.push(Wish::Reply(asked, Reply::Refused));
                    Vec::new()
                } else {
                    let number = asked.client;
                    let place = Place {
                        instance,
                        session,
                        shown: None,
                    };
                    if let Some(before) = self.places.insert(number, place) {
                        wishes.push(Wish::EndStream(number, before.session));
                    }
                    wishes.push(Wish::Reply(asked, Reply::Seated { session }));
                    self.step(now, Event::ClientArrived { client })
                }
            }
            Call::Progress { round } => {
                wishes.push(Wish::Reply(asked, Reply::Done));
                self.step(now, Event::ProgressReported { client, round })
            }
            Call::Commit { header, fault } => {
                let round = header.round;
                let key = (round, client.clone());
                self.undecided.entry(key).or_default().push(asked);
                let update = UpdateRef {
                    payload: header.payload,
                    num_examples: header.num_examples,
                    bytes: header.payload_bytes,
                };
                let event = match self.fault(&client, round, fault) {
                    None => Event::UpdateValidated {
                        client,
                        round,
                        update,
                    },
                    Some(rejection) => Event::UpdateRejected {
                        client,
                        round,
                        rejection,
                    },
                };
                self.step(now, event)
            }
            Call::Report(report) => {
                wishes.push(Wish::Reply(asked, Reply::Done));
                self.step(now, evaluation_event(client, report))
            }
            Call::Decline { round, decline } => {
                wishes.push(Wish::Reply(asked, Reply::Done));
                self.step(
                    now,
                    Event::ClientDeclined {
                        client,
                        round,
                        decline,
                    },
                )
            }
        };
        Turn { wishes, effects }
    }

    /// As intake does: it looks at the bytes of those alone who are waited for.
    fn fault(
        &self,
        client: &ClientId,
        round: RoundNumber,
        fault: Option<Rejection>,
    ) -> Option<Rejection> {
        let is_awaited = matches!(
            self.coordinator.assignment(client),
            Assignment::Invited(task) if task.round == round
        );
        fault.filter(|_| is_awaited)
    }

    /// Takes in what happened beside requests.
    pub(crate) fn happen(&mut self, now: Timestamp, event: Event) -> Turn {
        let effects = self.step(now, event);
        Turn {
            wishes: Vec::new(),
            effects,
        }
    }

    /// What a start leads to.
    pub(crate) fn resumed(effects: Vec<Effect>) -> Turn {
        Turn {
            wishes: Vec::new(),
            effects,
        }
    }

    /// Whether a session is the current one of its client.
    pub(crate) fn holds(&self, client: usize, session: u64) -> bool {
        let place = self.places.get(&client);
        place.is_some_and(|place| place.session == session)
    }

    /// A stream is gone; whether its client is with it.
    pub(crate) fn lose(&mut self, client: usize, session: u64) -> Option<Event> {
        let place = self.places.get(&client)?;
        if place.session != session {
            return None;
        }
        self.places.remove(&client);
        let client = self.names[client].clone();
        Some(Event::ClientLeft { client })
    }

    fn step(&mut self, now: Timestamp, event: Event) -> Vec<Effect> {
        let effects = self.coordinator.step(now, event);
        invariant::check(&self.coordinator, now).unwrap();
        effects
    }

    /// Writes the outcome of a turn.
    pub(crate) fn persist(&self, turn: &Turn, disk: &mut Disk, write: Write) {
        let closed = turn.effects.iter().filter_map(|effect| {
            let Effect::CloseRound { summary, .. } = effect else {
                return None;
            };
            Some(summary.clone())
        });
        let closed: Vec<RoundSummary> = closed.collect();
        disk.commit(&self.coordinator.record(), &closed, write);
    }

    /// Follows what was written.
    pub(crate) fn follow(&mut self, turn: Turn, disk: &Disk, history: &mut History) -> Vec<Wish> {
        history.observe(&turn.effects).unwrap();
        self.rollbacks = disk.rollbacks();
        let mut wishes = turn.wishes;
        for effect in turn.effects {
            match effect {
                Effect::AcceptUpdate { client, round } => {
                    self.answer(client, round, &Answer::Accepted, &mut wishes);
                }
                Effect::RejectUpdate {
                    client,
                    round,
                    rejection,
                } => self.answer(client, round, &Answer::Rejected(rejection), &mut wishes),
                Effect::StartMerge {
                    round,
                    base,
                    updates,
                } => wishes.push(Wish::Merge {
                    round,
                    base,
                    updates,
                }),
                Effect::Publish {
                    round, candidate, ..
                } => {
                    wishes.push(Wish::Publish { round, candidate });
                }
                Effect::RollBack(order) => wishes.push(Wish::RollBack(order)),
                Effect::Invite { .. }
                | Effect::RefuseRollback { .. }
                | Effect::AnswerRollback { .. }
                | Effect::Withdraw { .. }
                | Effect::RequestEvaluations { .. }
                | Effect::CloseRound { .. }
                | Effect::EndFederation { .. } => {}
            }
        }
        self.refresh(&mut wishes);
        wishes
    }

    fn answer(
        &mut self,
        client: ClientId,
        round: RoundNumber,
        answer: &Answer,
        wishes: &mut Vec<Wish>,
    ) {
        let waiting = self.undecided.remove(&(round, client)).unwrap_or_default();
        for asked in waiting {
            let answer = answer.clone();
            wishes.push(Wish::Reply(asked, Reply::Answered { round, answer }));
        }
    }

    /// Shows everyone what is expected of them now, where that has changed.
    fn refresh(&mut self, wishes: &mut Vec<Wish>) {
        let briefing = self.coordinator.briefing();
        for (client, place) in &mut self.places {
            let name = &self.names[*client];
            let notice = match self.coordinator.evaluation(name) {
                Some(task) => evaluation(task),
                None => notice(&self.offers, &self.rollbacks, briefing.of(name)),
            };
            if place.shown.as_ref() != Some(&notice) {
                place.shown = Some(notice.clone());
                let session = place.session;
                let streamed = Box::new(Streamed { session, notice });
                wishes.push(Wish::Stream(*client, streamed));
            }
        }
    }
}
