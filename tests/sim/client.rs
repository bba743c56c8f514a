//! A client's shell in small: the real agent, a journal on its disk, work that takes time, and requests that are repeated until answered.

use std::collections::BTreeMap;

use fedmerge_client::agent::{Agent, Answer, Effect, Evaluator, Event, Memory, Stay};
use fedmerge_client::lineage::{Lineage, StepBack};
use fedmerge_client::submission::Prepared;
use fedmerge_client::task::{Belief, Notice, Task};
use fedmerge_client::trainer::{Measurement, Trained};
use fedmerge_common::digest::Digest;
use fedmerge_common::ids::{ClientId, RoundNumber};
use fedmerge_common::reason::{Decline, DeclineKind, Rejection};
use fedmerge_common::task_vector::Encoding;
use fedmerge_common::units::Millis;
use fedmerge_common::update::{ModelRef, UpdateHeader};
use fedmerge_proto::convert::evaluation::EvaluationRequest;

use super::calls::{Call, Reply, Streamed};
use super::disk::SIGNATURE;
use super::random::Random;

/// What kind of peer a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    Honest,
    /// Sends broken updates, other ones under the same name, for rounds it was never asked for, and signs of life without end.
    Hostile,
}

/// What a client wants the world to do.
#[derive(Clone, Debug)]
pub(crate) enum Wish {
    /// Send this once; the world may lose it.
    Send { id: u64, call: Call },
    /// Come back with this event after so long, unless the work is given up.
    Work { after: u64, work: u64, event: Event },
    /// Remind of a request or a reconnection.
    Remind { after: u64, what: Reminder },
    /// The process has ended, well.
    Ended,
}

/// What a client wakes up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reminder {
    /// To ask again, where the response did not come.
    Again { id: u64 },
    /// To take its place.
    Attend,
    /// To say that training goes on.
    Alive { work: u64, round: RoundNumber },
}

/// How long a response is waited for.
const PATIENCE: u64 = 5_000;

/// What a client's machine keeps.
#[derive(Debug, Default)]
struct Site {
    journal: Option<Memory>,
    lineage: Lineage,
    /// Trainings that were finished, by round.
    trained: BTreeMap<RoundNumber, u32>,
    /// Acceptances that the agent was told.
    told: BTreeMap<RoundNumber, Digest>,
}

/// One process.
#[derive(Debug)]
struct Process {
    agent: Agent,
    instance: u64,
    session: Option<u64>,
    /// Requests that are not answered.
    open: BTreeMap<u64, Call>,
    /// The work in hand; what reports for another one is late.
    work: u64,
    upload: Option<u64>,
}

/// A client over all its lives.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) name: ClientId,
    pub(crate) manner: Manner,
    /// Milliseconds that a training takes.
    pub(crate) pace: u64,
    pub(crate) is_talkative: bool,
    evaluator: Evaluator,
    site: Site,
    process: Option<Process>,
    pub(crate) life: u64,
    pub(crate) has_left: bool,
    ids: u64,
}

impl Client {
    pub(crate) fn new(name: ClientId, manner: Manner, pace: u64, is_talkative: bool) -> Self {
        Self {
            name,
            manner,
            pace,
            is_talkative,
            evaluator: if is_talkative {
                Evaluator::Present
            } else {
                Evaluator::Absent
            },
            site: Site::default(),
            process: None,
            life: 0,
            has_left: false,
            ids: 0,
        }
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.process.is_some()
    }

    /// Whether a response to that request would be heard.
    pub(crate) fn wants(&self, id: u64) -> bool {
        let process = self.process.as_ref();
        process.is_some_and(|process| process.open.contains_key(&id))
    }

    /// The session of its stream, where it has one.
    pub(crate) fn session(&self) -> Option<u64> {
        self.process.as_ref()?.session
    }

    /// Acceptances that it was told, by round, and trainings that it finished.
    pub(crate) fn told(&self) -> (&BTreeMap<RoundNumber, Digest>, &BTreeMap<RoundNumber, u32>) {
        (&self.site.told, &self.site.trained)
    }

    /// A new process, which knows what the journal knows.
    pub(crate) fn start(&mut self, random: &mut Random) -> Vec<Wish> {
        self.life += 1;
        self.process = Some(Process {
            agent: Agent::new(
                Stay::WhileItLasts,
                self.evaluator,
                self.site.journal.clone(),
            )
            .with_lineage(self.site.lineage.clone()),
            instance: random.next(),
            session: None,
            open: BTreeMap::new(),
            work: 0,
            upload: None,
        });
        vec![Wish::Remind {
            after: random.below(2_000),
            what: Reminder::Attend,
        }]
    }

    pub(crate) fn die(&mut self) {
        self.process = None;
    }

    pub(crate) fn remind(&mut self, what: Reminder) -> Vec<Wish> {
        let Some(process) = &self.process else {
            return Vec::new();
        };
        match what {
            Reminder::Again { id } => match process.open.get(&id).cloned() {
                // A stream is not asked for again, but opened anew: what comes of the first attempt is nobody's.
                Some(call @ Call::Attend { .. }) => {
                    self.forget(id);
                    self.ask(call)
                }
                Some(call) => again(id, call),
                None => Vec::new(),
            },
            Reminder::Attend if process.session.is_some() => Vec::new(),
            Reminder::Attend => {
                let instance = process.instance;
                self.ask(Call::Attend { instance })
            }
            Reminder::Alive { work, round } if process.work == work => {
                self.ids += 1;
                let send = Wish::Send {
                    id: self.ids,
                    call: Call::Progress { round },
                };
                let next = Wish::Remind {
                    after: 10_000,
                    what,
                };
                vec![send, next]
            }
            Reminder::Alive { .. } => Vec::new(),
        }
    }

    fn forget(&mut self, id: u64) {
        if let Some(process) = &mut self.process {
            process.open.remove(&id);
        }
    }

    /// A request that is repeated until its response comes.
    fn ask(&mut self, call: Call) -> Vec<Wish> {
        let Some(process) = &mut self.process else {
            return Vec::new();
        };
        self.ids += 1;
        process.open.insert(self.ids, call.clone());
        again(self.ids, call)
    }

    pub(crate) fn hear(&mut self, id: u64, reply: Reply, random: &mut Random) -> Vec<Wish> {
        let Some(process) = &mut self.process else {
            return Vec::new();
        };
        if process.open.remove(&id).is_none() {
            return Vec::new();
        }
        match reply {
            Reply::Seated { session } => {
                process.session = Some(session);
                Vec::new()
            }
            Reply::Refused => vec![Wish::Remind {
                after: 1_000,
                what: Reminder::Attend,
            }],
            Reply::Answered { round, answer } if process.upload == Some(id) => {
                process.upload = None;
                self.step(Event::UpdateSent { round }, random)
                    .into_iter()
                    .chain(self.answered(round, answer, random))
                    .collect()
            }
            Reply::Answered { .. } | Reply::Done => Vec::new(),
        }
    }

    fn answered(&mut self, round: RoundNumber, answer: Answer, random: &mut Random) -> Vec<Wish> {
        if answer == Answer::Accepted {
            let payload = self.payload(round);
            self.site.told.insert(round, payload);
        }
        self.step(Event::UpdateAnswered { round, answer }, random)
    }

    pub(crate) fn stream(&mut self, streamed: Streamed, random: &mut Random) -> Vec<Wish> {
        let is_ours = self
            .process
            .as_ref()
            .is_some_and(|process| process.session == Some(streamed.session));
        if !is_ours {
            return Vec::new();
        }
        let notice = Notice::read(streamed.notice, |claims, _| {
            let rollback = claims.rollback;
            let signed = rollback.filter(|rollback| rollback.signature == SIGNATURE);
            Belief {
                step_back: signed.map(|rollback| StepBack {
                    of: rollback.of,
                    reason: rollback.reason,
                }),
                doubt: None,
            }
        });
        let notice = notice.unwrap();
        let mut wishes = self.step(Event::NoticeReceived(notice.clone()), random);
        if self.manner == Manner::Hostile {
            wishes.extend(self.misbehave(&notice, random));
        }
        wishes
    }

    pub(crate) fn lose(&mut self, session: u64, random: &mut Random) -> Vec<Wish> {
        let Some(process) = &mut self.process else {
            return Vec::new();
        };
        if process.session != Some(session) {
            return Vec::new();
        }
        process.session = None;
        let mut wishes = self.step(Event::LinkLost, random);
        wishes.push(Wish::Remind {
            after: random.between(200, 5_000),
            what: Reminder::Attend,
        });
        wishes
    }

    pub(crate) fn worked(&mut self, work: u64, event: Event, random: &mut Random) -> Vec<Wish> {
        let is_in_hand = self
            .process
            .as_ref()
            .is_some_and(|process| process.work == work);
        if !is_in_hand {
            return Vec::new();
        }
        if let Some(process) = &mut self.process {
            process.work += 1;
        }
        if let Event::TrainingFinished { round, .. } = &event {
            *self.site.trained.entry(*round).or_default() += 1;
        }
        self.step(event, random)
    }

    /// The agent's step; the journal first, then its effects.
    fn step(&mut self, event: Event, random: &mut Random) -> Vec<Wish> {
        let Some(process) = &mut self.process else {
            return Vec::new();
        };
        let effects = process.agent.step(event);
        self.site.journal = process.agent.memory();
        self.site.lineage = process.agent.lineage().clone();
        let mut wishes = Vec::new();
        for effect in effects {
            wishes.extend(self.follow(effect, random));
        }
        wishes
    }

    fn follow(&mut self, effect: Effect, random: &mut Random) -> Vec<Wish> {
        match effect {
            Effect::Download(task) => {
                let event = Event::BaseDownloaded { round: task.round };
                self.begin(random.between(10, 3_000), event)
            }
            Effect::Train(task) => self.train(&task, random),
            Effect::Prepare(task, trained) => {
                let header = self.header(&task, trained);
                self.begin(
                    random.between(1, 100),
                    Event::UpdatePrepared(Prepared {
                        header,
                        residual_dropped: None,
                    }),
                )
            }
            Effect::Upload(header) => {
                let fault = (self.manner == Manner::Hostile && random.chance(500))
                    .then(|| Rejection::non_finite("w", 0, f32::NAN));
                let wishes = self.ask(Call::Commit { header, fault });
                let id = self.ids;
                if let Some(process) = &mut self.process {
                    process.upload = Some(id);
                }
                wishes
            }
            Effect::Abort => {
                if let Some(process) = &mut self.process {
                    process.work += 1;
                    if let Some(upload) = process.upload.take() {
                        process.open.remove(&upload);
                    }
                }
                Vec::new()
            }
            Effect::Measure(request, model) => self.measure(&request, &model, random),
            Effect::Report(report) => self.ask(Call::Report(report)),
            Effect::Decline { round, decline } => self.ask(Call::Decline { round, decline }),
            Effect::Tell(_) => Vec::new(),
            Effect::Leave => {
                self.process = None;
                self.has_left = true;
                vec![Wish::Ended]
            }
        }
    }

    /// Begins a piece of work, which gives up the one before.
    fn begin(&mut self, after: u64, event: Event) -> Vec<Wish> {
        let Some(process) = &mut self.process else {
            return Vec::new();
        };
        process.work += 1;
        let work = process.work;
        vec![Wish::Work { after, work, event }]
    }

    fn train(&mut self, task: &Task, random: &mut Random) -> Vec<Wish> {
        let round = task.round;
        let takes = random.between(self.pace / 2 + 1, self.pace * 2 + 1);
        let mut wishes = self.begin(
            takes,
            Event::TrainingFinished {
                round,
                trained: Trained {
                    num_examples: Some(1),
                    metrics: BTreeMap::new(),
                    elapsed: Millis::new(takes),
                },
            },
        );
        if let (Some(process), true) = (&self.process, self.is_talkative) {
            let work = process.work;
            wishes.push(Wish::Remind {
                after: 10_000,
                what: Reminder::Alive { work, round },
            });
        }
        wishes
    }

    /// Later models are better; a liar praises or slanders whatever it sees.
    fn measure(
        &mut self,
        request: &EvaluationRequest,
        model: &ModelRef,
        random: &mut Random,
    ) -> Vec<Wish> {
        let metric = match self.manner {
            Manner::Honest => u32::try_from(model.version.get()).map_or(0.0, f64::from),
            Manner::Hostile => *random.pick(&[-1e9, 1e9, f64::NAN]),
        };
        let event = Event::ModelMeasured {
            round: request.round,
            digest: model.digest,
            measurement: Measurement {
                num_examples: Some(1),
                metrics: BTreeMap::from([(request.metric.clone(), metric)]),
            },
        };
        self.begin(random.between(10, self.pace), event)
    }

    /// A training that fails: the world's choice.
    pub(crate) fn failure(event: &Event) -> Option<Event> {
        let Event::TrainingFinished { round, .. } = event else {
            return None;
        };
        Some(Event::TaskFailed {
            round: *round,
            decline: Decline::new(DeclineKind::TrainerFailed, "exit status 1"),
        })
    }

    /// The same training gives the same bytes.
    fn payload(&self, round: RoundNumber) -> Digest {
        Digest::of(format!("{} {round}", self.name).as_bytes())
    }

    fn header(&self, task: &Task, trained: Trained) -> UpdateHeader {
        UpdateHeader {
            round: task.round,
            base: task.base.digest,
            encoding: Encoding::F32,
            payload: self.payload(task.round),
            payload_bytes: 1,
            num_examples: trained.num_examples.unwrap_or(1),
            metrics: trained.metrics,
        }
    }

    fn misbehave(&mut self, notice: &Notice, random: &mut Random) -> Vec<Wish> {
        let round = match notice {
            Notice::Invited(task) => task.round,
            Notice::Evaluate(request) => request.round,
            Notice::Standby { .. } | Notice::Ended { .. } => RoundNumber::new(random.below(9)),
        };
        self.ids += 1;
        let id = self.ids;
        let send = |call| vec![Wish::Send { id, call }];
        match random.below(5) {
            0 => send(Call::Commit {
                header: UpdateHeader {
                    round,
                    base: Digest::of(b"another base"),
                    encoding: Encoding::F32,
                    payload: Digest::of(b"another update"),
                    payload_bytes: 1,
                    num_examples: u64::MAX,
                    metrics: BTreeMap::new(),
                },
                fault: random
                    .chance(500)
                    .then(|| Rejection::non_finite("w", 0, f32::NAN)),
            }),
            1 => send(Call::Decline {
                round,
                decline: Decline::new(DeclineKind::TrainerFailed, "no"),
            }),
            2 => send(Call::Progress { round }),
            _ => Vec::new(),
        }
    }
}

/// Sends a request, and asks again when its response does not come.
fn again(id: u64, call: Call) -> Vec<Wish> {
    let remind = Wish::Remind {
        after: PATIENCE,
        what: Reminder::Again { id },
    };
    vec![Wish::Send { id, call }, remind]
}
