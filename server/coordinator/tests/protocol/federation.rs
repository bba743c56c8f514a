//! A federation under test: a coordinator, a clock that is moved by hand, and everything it ever asked for.

use fedmerge_common::digest::Digest;
use fedmerge_common::ids::{ClientId, ModelVersion, RoundNumber};
use fedmerge_common::reason::{Decline, DeclineKind, Rejection, RejectionCode};
use fedmerge_common::units::{Millis, Timestamp};
use fedmerge_common::update::ModelRef;
use fedmerge_coordinator::invariant::{self, History};
use fedmerge_coordinator::{
    Assignment, ClientOutcome, Cohort, Coordinator, Effect, EvaluationRule, Event, GainSummary,
    Goal, LatePolicy, Mode, Record, RoundPlan, RoundSummary, UpdateRef,
};

/// When every test begins: noon.
pub(crate) const NOON: Timestamp = Timestamp::new(1_700_049_600_000);

/// A plan for `target` clients without spare ones: deadline 10 min, grace 30 s.
pub(crate) fn plan(target: usize, quorum: usize) -> RoundPlan {
    RoundPlan {
        rounds: 0,
        cohort: Cohort {
            target,
            fraction: 1.0,
            over_select: 1.0,
        },
        quorum,
        deadline: Millis::from_secs(600),
        grace: Millis::from_secs(30),
        tolerate: 0,
        population: None,
        seed: 7,
        evaluate: None,
        mode: Mode::Synchronous,
        late: LatePolicy::Reject,
        max_staleness: 0,
        private_rounds: None,
        allow_small_quorum: true,
    }
}

/// A gate for the median client's accuracy.
pub(crate) fn median_of_accuracy(min_gain: f64) -> EvaluationRule {
    EvaluationRule {
        metric: "accuracy".into(),
        goal: Goal::Max,
        min_gain,
        summary: GainSummary::Quantile(0.5),
    }
}

pub(crate) fn client(number: usize) -> ClientId {
    format!("client-{number}").parse().unwrap()
}

pub(crate) fn round(number: u64) -> RoundNumber {
    RoundNumber::new(number)
}

pub(crate) fn model(version: u64) -> ModelRef {
    ModelRef {
        version: ModelVersion::new(version),
        digest: Digest::of(format!("model {version}").as_bytes()),
        size_bytes: 1000,
    }
}

pub(crate) fn update(text: &str) -> UpdateRef {
    UpdateRef {
        payload: Digest::of(text.as_bytes()),
        num_examples: 10,
        bytes: 500,
    }
}

pub(crate) struct Federation {
    pub(crate) plan: RoundPlan,
    pub(crate) now: Timestamp,
    pub(crate) coordinator: Coordinator,
    pub(crate) history: History,
}

impl Federation {
    pub(crate) fn new(plan: RoundPlan) -> Self {
        plan.check().unwrap();
        Self {
            coordinator: Coordinator::new(plan.clone(), model(0)),
            plan,
            now: NOON,
            history: History::default(),
        }
    }

    /// A federation whose clients 1 to `attending` have arrived.
    pub(crate) fn with(plan: RoundPlan, attending: usize) -> Self {
        let mut federation = Self::new(plan);
        federation.arrive(1..=attending);
        federation
    }

    pub(crate) fn step(&mut self, event: Event) -> Vec<Effect> {
        let effects = self.coordinator.step(self.now, event);
        self.audit(&effects);
        effects
    }

    fn audit(&mut self, effects: &[Effect]) {
        self.history.observe(effects).unwrap();
        invariant::check(&self.coordinator, self.now).unwrap();
        let record = self.coordinator.record();
        assert_eq!(stored(&record), record, "a record survives storage");
    }

    pub(crate) fn arrive(&mut self, clients: impl IntoIterator<Item = usize>) -> Vec<Effect> {
        let arrivals = clients.into_iter().map(|number| Event::ClientArrived {
            client: client(number),
        });
        let arrivals: Vec<Event> = arrivals.collect();
        arrivals
            .into_iter()
            .flat_map(|event| self.step(event))
            .collect()
    }

    pub(crate) fn leave(&mut self, number: usize) -> Vec<Effect> {
        self.step(Event::ClientLeft {
            client: client(number),
        })
    }

    pub(crate) fn progress(&mut self, number: usize, of: u64) -> Vec<Effect> {
        self.step(Event::ProgressReported {
            client: client(number),
            round: round(of),
        })
    }

    /// A sound update whose payload is named for its client and round.
    pub(crate) fn submit(&mut self, number: usize, of: u64) -> Vec<Effect> {
        self.step(Event::UpdateValidated {
            client: client(number),
            round: round(of),
            update: update(&format!("{number} {of}")),
        })
    }

    pub(crate) fn refuse(&mut self, number: usize, of: u64) -> Vec<Effect> {
        self.step(Event::UpdateRejected {
            client: client(number),
            round: round(of),
            rejection: Rejection::non_finite("fc.weight", 3, f32::NAN),
        })
    }

    pub(crate) fn decline(&mut self, number: usize, of: u64) -> Vec<Effect> {
        self.history.released(&client(number), round(of));
        self.step(Event::ClientDeclined {
            client: client(number),
            round: round(of),
            decline: Decline::new(DeclineKind::TrainerFailed, "exit status 1"),
        })
    }

    pub(crate) fn lose(&mut self, numbers: &[usize], of: u64) -> Vec<Effect> {
        let lost = numbers.iter();
        let lost = lost.map(|number| (client(*number), "no such file".to_owned()));
        self.step(Event::UpdatesLost {
            round: round(of),
            lost: lost.collect(),
        })
    }

    pub(crate) fn merged(&mut self, of: u64) -> Vec<Effect> {
        let candidate = model(self.coordinator.base().version.next().get());
        self.step(Event::MergeFinished {
            round: round(of),
            candidate,
        })
    }

    pub(crate) fn published(&mut self, of: u64) -> Vec<Effect> {
        let model = model(self.coordinator.base().version.next().get());
        self.step(Event::ModelPublished {
            round: round(of),
            model,
        })
    }

    /// Lets time pass, with no alarm in between.
    pub(crate) fn wait(&mut self, seconds: u64) -> Vec<Effect> {
        self.now = self.now + Millis::from_secs(seconds);
        self.step(Event::TimePassed)
    }

    /// The process dies; its successor reads the stored record.
    pub(crate) fn restart(&mut self) -> Vec<Effect> {
        let record = stored(&self.coordinator.record());
        self.coordinator = Coordinator::restore(self.plan.clone(), record).unwrap();
        let effects = self.coordinator.resume(self.now);
        self.audit(&effects);
        effects
    }

    pub(crate) fn phase(&self) -> &'static str {
        self.coordinator.view().phase
    }

    pub(crate) fn is_invited(&self, number: usize) -> bool {
        matches!(
            self.coordinator.assignment(&client(number)),
            Assignment::Invited(_)
        )
    }

    /// What became of a client's invitation to a round that is over.
    pub(crate) fn outcome(&self, number: usize, of: u64) -> ClientOutcome {
        self.history.rounds()[&round(of)].clients[&client(number)].clone()
    }
}

/// The record as it is after it was written and read.
pub(crate) fn stored(record: &Record) -> Record {
    serde_json::from_str(&serde_json::to_string(record).unwrap()).unwrap()
}

pub(crate) fn accepts(effects: &[Effect], number: usize) -> bool {
    effects
        .iter()
        .any(|effect| matches!(effect, Effect::AcceptUpdate { client: who, .. } if *who == client(number)))
}

pub(crate) fn rejection(effects: &[Effect]) -> Option<RejectionCode> {
    effects.iter().find_map(|effect| {
        let Effect::RejectUpdate { rejection, .. } = effect else {
            return None;
        };
        Some(rejection.code)
    })
}

pub(crate) fn merge(effects: &[Effect]) -> Option<Vec<ClientId>> {
    effects.iter().find_map(|effect| {
        let Effect::StartMerge { updates, .. } = effect else {
            return None;
        };
        Some(updates.keys().cloned().collect())
    })
}

pub(crate) fn closed(effects: &[Effect]) -> Option<&RoundSummary> {
    effects.iter().find_map(|effect| {
        let Effect::CloseRound { summary, .. } = effect else {
            return None;
        };
        Some(summary)
    })
}

pub(crate) fn invited(effects: &[Effect]) -> Vec<ClientId> {
    let invitations = effects.iter().filter_map(|effect| {
        let Effect::Invite { client, .. } = effect else {
            return None;
        };
        Some(client.clone())
    });
    invitations.collect()
}
