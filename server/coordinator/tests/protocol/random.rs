//! Everything at once: random events, most of them wrong, and crashes before and after the record is stored.
//!
//! The world keeps what a real shell keeps: the stored record, the published models, the effects it still has to answer.
//! Afterwards everyone behaves, and the federation must come to its end. A failure prints the seed that repeats it.

use std::collections::{BTreeMap, BTreeSet};

use fedmerge_common::digest::Digest;
use fedmerge_common::ids::{ModelVersion, RoundNumber};
use fedmerge_common::reason::{Decline, DeclineKind, Rejection};
use fedmerge_common::units::{Millis, Timestamp};
use fedmerge_common::update::ModelRef;
use fedmerge_coordinator::invariant::{self, History};
use fedmerge_coordinator::{
    Assignment, Cohort, Coordinator, Counted, Effect, EvaluationRule, EvaluationTask, Event,
    GainSummary, Goal, LatePolicy, Mode, Record, RoundPlan, UpdateRef,
};

mod rollbacks;

use super::federation::{NOON, client, model, stored};

/// Seeds of federations that once failed.
const NAMED_SEEDS: &[u64] = &[0, 8898];
const SEEDS: u64 = 1200;
const EVENTS: usize = 250;
const CLIENTS: usize = 7;
const ROUNDS: u64 = 12;

/// The splitmix64 generator.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length.max(1) as u64)).unwrap()
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

struct World {
    random: Random,
    plan: RoundPlan,
    now: Timestamp,
    coordinator: Coordinator,
    disk: Record,
    history: History,
    merges: BTreeMap<RoundNumber, ModelRef>,
    publications: BTreeMap<RoundNumber, ModelRef>,
    facts: BTreeMap<RoundNumber, ModelRef>,
    evaluations: BTreeMap<RoundNumber, EvaluationTask>,
    rollbacks: BTreeMap<ModelVersion, ModelRef>,
    rolled_back: BTreeMap<ModelVersion, ModelRef>,
    stops: bool,
    rolls_back: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let target = 1 + random.index(CLIENTS);
        let quorum = 1 + random.index(target);
        let summary = match quorum {
            3.. if random.one_in(2) => GainSummary::TrimmedMean { tolerate: 1 },
            _ => GainSummary::Quantile(0.5),
        };
        let evaluate = random.one_in(3).then_some(EvaluationRule {
            metric: "accuracy".into(),
            goal: Goal::Max,
            min_gain: 0.0,
            summary,
        });
        let plan = RoundPlan {
            rounds: ROUNDS,
            cohort: Cohort {
                target,
                fraction: 0.75,
                over_select: 1.5,
            },
            quorum,
            deadline: Millis::from_secs(60),
            grace: Millis::from_secs(1 + random.below(90)),
            tolerate: (quorum - 1) / 2,
            population: None,
            seed,
            evaluate,
            mode: if random.one_in(3) {
                Mode::Buffered
            } else {
                Mode::Synchronous
            },
            late: if random.one_in(2) {
                LatePolicy::Carry
            } else {
                LatePolicy::Reject
            },
            max_staleness: random.below(4),
            private_rounds: None,
            allow_small_quorum: true,
        };
        plan.check().unwrap();
        let coordinator = Coordinator::new(plan.clone(), model(0));
        Self {
            disk: coordinator.record(),
            stops: random.one_in(10),
            rolls_back: random.one_in(4),
            random,
            plan,
            now: NOON,
            coordinator,
            history: History::default(),
            merges: BTreeMap::new(),
            publications: BTreeMap::new(),
            facts: BTreeMap::new(),
            evaluations: BTreeMap::new(),
            rollbacks: BTreeMap::new(),
            rolled_back: BTreeMap::new(),
        }
    }

    /// One event, as the shell does it: step, store, perform; now and then the process dies in between.
    fn happen(&mut self, event: Event) {
        let mut twin = self.coordinator.clone();
        let effects = self.coordinator.step(self.now, event.clone());
        assert_eq!(
            twin.step(self.now, event),
            effects,
            "the same event, the same effects"
        );
        invariant::check(&self.coordinator, self.now).unwrap();
        match self.random.below(60) {
            0 => self.restart(),
            1 => {
                self.disk = stored(&self.coordinator.record());
                self.restart();
            }
            2 => {
                self.disk = stored(&self.coordinator.record());
                self.perform(&effects);
                self.restart();
            }
            _ => {
                self.disk = self.coordinator.record();
                self.perform(&effects);
            }
        }
    }

    fn restart(&mut self) {
        self.coordinator = Coordinator::restore(self.plan.clone(), stored(&self.disk)).unwrap();
        let effects = self.coordinator.resume(self.now);
        invariant::check(&self.coordinator, self.now).unwrap();
        if self.random.one_in(4) {
            return self.restart();
        }
        self.disk = self.coordinator.record();
        self.perform(&effects);
    }

    fn perform(&mut self, effects: &[Effect]) {
        self.history.observe(effects).unwrap();
        for effect in effects {
            match effect {
                Effect::StartMerge {
                    round,
                    base,
                    updates,
                } => {
                    let candidate = merged(base, updates);
                    let before = self.merges.insert(*round, candidate);
                    assert!(before.is_none_or(|before| before == candidate));
                }
                Effect::Publish {
                    round, candidate, ..
                } => {
                    let before = self.publications.insert(*round, *candidate);
                    assert!(before.is_none_or(|before| before == *candidate));
                }
                Effect::RequestEvaluations { task, clients } => {
                    assert!(!clients.is_empty());
                    self.evaluations.insert(task.round, task.clone());
                }
                Effect::RollBack(rollback) => {
                    let model = rollback.model;
                    self.rollbacks.insert(model.version, model);
                }
                Effect::Invite { .. }
                | Effect::Withdraw { .. }
                | Effect::AcceptUpdate { .. }
                | Effect::RejectUpdate { .. }
                | Effect::CloseRound { .. }
                | Effect::RefuseRollback { .. }
                | Effect::AnswerRollback { .. }
                | Effect::EndFederation { .. } => {}
            }
        }
    }

    /// The current round, or now and then another.
    fn some_round(&mut self) -> RoundNumber {
        let current = self.coordinator.view().round.map_or(0, RoundNumber::get);
        RoundNumber::new(match self.random.below(12) {
            0 => current.saturating_sub(1),
            1 => current + 1,
            2 => self.random.next(),
            _ => current,
        })
    }

    /// The round of the task that a client holds.
    fn task_round(&self, number: usize) -> Option<RoundNumber> {
        match self.coordinator.assignment(&client(number)) {
            Assignment::Invited(task) => Some(task.round),
            Assignment::Standby { .. } | Assignment::Ended { .. } => None,
        }
    }

    fn some_time(&mut self) {
        let step = match self.random.below(8) {
            0 => 86_400_000,
            1 | 2 => 20_000,
            _ => 1500,
        };
        let jump = Millis::new(self.random.below(step));
        self.now = match self.coordinator.wake_at() {
            Some(alarm) if self.random.one_in(3) => alarm.max(self.now),
            _ if self.random.one_in(40) => self.now - jump,
            _ => self.now + jump,
        };
    }

    fn some_event(&mut self) -> Event {
        let number = 1 + self.random.index(CLIENTS);
        let client = client(number);
        let about_its_task = self.task_round(number).filter(|_| self.random.one_in(2));
        let round = about_its_task.unwrap_or_else(|| self.some_round());
        match self.random.below(100) {
            0..20 => Event::ClientArrived { client },
            20..28 => Event::ClientLeft { client },
            28..36 => Event::ProgressReported { client, round },
            36..60 => {
                let update = self.some_update(client.as_str(), round);
                Event::UpdateValidated {
                    client,
                    round,
                    update,
                }
            }
            60..64 => Event::UpdateRejected {
                client,
                round,
                rejection: Rejection::non_finite("w", 0, f32::NAN),
            },
            64..67 => {
                self.history.released(&client, round);
                let decline = Decline::new(DeclineKind::TrainerFailed, "exit status 1");
                Event::ClientDeclined {
                    client,
                    round,
                    decline,
                }
            }
            67..75 => self.some_merge(round),
            75..82 => self.some_publication(round),
            82..88 => Event::EvaluationReported {
                client,
                round,
                before: 0.5,
                after: [0.75, 0.5, 0.25, f64::NAN][self.random.index(4)],
                num_examples: 1,
            },
            88..90 => Event::EvaluationDeclined {
                client,
                round,
                decline: Decline::new(DeclineKind::NoEvaluator, "none here"),
            },
            90..94 if self.rolls_back => self.some_rollback(),
            94 if self.stops && self.random.one_in(20) => Event::Stopped,
            _ => Event::TimePassed,
        }
    }

    fn some_update(&mut self, client: &str, round: RoundNumber) -> UpdateRef {
        let attempt = self.random.below(3) / 2;
        UpdateRef {
            payload: Digest::of(format!("{client} {round} {attempt}").as_bytes()),
            num_examples: 1,
            bytes: 1,
        }
    }

    fn some_merge(&mut self, round: RoundNumber) -> Event {
        let detail = "no space".to_owned();
        match self.merges.get(&round) {
            Some(candidate) if !self.random.one_in(6) => Event::MergeFinished {
                round,
                candidate: *candidate,
            },
            Some(_) => Event::MergeFailed { round, detail },
            None => Event::MergeFinished {
                round,
                candidate: model(self.random.below(5)),
            },
        }
    }

    /// The shell tells the truth about publications, which succeed or fail when it comes to them.
    fn some_publication(&mut self, round: RoundNumber) -> Event {
        if let Some(model) = self.facts.get(&round).copied() {
            return Event::ModelPublished { round, model };
        }
        let Some(model) = self.publications.get(&round).copied() else {
            return Event::TimePassed;
        };
        if self.random.one_in(3) {
            self.publications.remove(&round);
            let detail = "no space".to_owned();
            return Event::PublishFailed { round, detail };
        }
        let taken = self
            .facts
            .values()
            .chain(self.rolled_back.values())
            .any(|fact| fact.version == model.version);
        assert!(!taken, "one base per version");
        self.facts.insert(round, model);
        Event::ModelPublished { round, model }
    }

    /// From now on everyone behaves: the federation must end, and every round that opened with it.
    fn come_to_an_end(&mut self) {
        for _ in 0..400 {
            if self.coordinator.ended().is_some() {
                break;
            }
            for number in 1..=CLIENTS {
                self.happen(Event::ClientArrived {
                    client: client(number),
                });
            }
            self.everyone_answers();
            if let Some(alarm) = self.coordinator.wake_at() {
                self.now = self.now.max(alarm);
            }
            self.happen(Event::TimePassed);
        }
        assert!(
            self.coordinator.ended().is_some(),
            "still waits for {}",
            self.coordinator.view().waiting_for
        );
    }

    fn everyone_answers(&mut self) {
        let Some(round) = self.coordinator.view().round else {
            return;
        };
        for number in 1..=CLIENTS {
            let client = client(number);
            let round = self.task_round(number).unwrap_or(round);
            let update = self.some_update(client.as_str(), round);
            self.happen(Event::UpdateValidated {
                client,
                round,
                update,
            });
        }
        if let Some(candidate) = self.merges.get(&round).copied() {
            self.happen(Event::MergeFinished { round, candidate });
        }
        for number in 1..=CLIENTS {
            self.happen(Event::EvaluationReported {
                client: client(number),
                round,
                before: 0.5,
                after: 0.75,
                num_examples: 1,
            });
        }
        let publication = self.some_publication(round);
        self.happen(publication);
        if self.coordinator.view().phase == "rolling-back" {
            let outcome = self.some_rollback();
            self.happen(outcome);
        }
    }

    fn check_the_end(&mut self) {
        self.disk = self.coordinator.record();
        self.restart();
        let view = self.coordinator.view();
        let opened = view.round.map_or(0, RoundNumber::get);
        let closed: BTreeSet<u64> = self
            .history
            .rounds()
            .keys()
            .map(|round| round.get())
            .collect();
        assert_eq!(
            closed,
            (1..=opened).collect(),
            "every round that opened was closed"
        );
        let published = self
            .history
            .rounds()
            .values()
            .filter_map(|summary| summary.outcome.published());
        let bases = published.chain(self.rolled_back.values());
        let mut versions: Vec<u64> = bases.map(|model| model.version.get()).collect();
        versions.sort_unstable();
        let expected: Vec<u64> = (1..=view.base.version.get()).collect();
        assert_eq!(versions, expected, "the bases form one line");
    }
}

fn merged(
    base: &ModelRef,
    updates: &BTreeMap<fedmerge_common::ids::ClientId, Counted>,
) -> ModelRef {
    ModelRef {
        version: base.version.next(),
        digest: Digest::of(format!("{base:?} {updates:?}").as_bytes()),
        size_bytes: 1,
    }
}

fn live(seed: u64) -> BTreeMap<&'static str, usize> {
    let mut world = World::new(seed);
    for _ in 0..EVENTS {
        if world.random.one_in(3) {
            world.some_time();
        }
        let event = world.some_event();
        world.happen(event);
    }
    world.come_to_an_end();
    world.check_the_end();
    let mut seen = BTreeMap::new();
    for summary in world.history.rounds().values() {
        let outcome = match summary.outcome.published() {
            Some(_) => "published",
            None => "abandoned",
        };
        *seen.entry(outcome).or_default() += 1;
    }
    let counted = world.history.merges().values().flat_map(BTreeMap::values);
    let stale = counted.filter(|counted| counted.staleness > 0).count();
    seen.insert("stale", stale);
    seen.insert("rolled back", world.rolled_back.len());
    seen
}

#[test]
fn whatever_happens_the_invariants_hold_and_the_federation_comes_to_its_end() {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in NAMED_SEEDS.iter().copied().chain(1..=SEEDS) {
        let Ok(rounds) = std::panic::catch_unwind(|| live(seed)) else {
            panic!("repeat with seed {seed}: put it into NAMED_SEEDS");
        };
        for (outcome, count) in rounds {
            *seen.entry(outcome).or_default() += count;
        }
    }
    for (outcome, least) in [
        ("published", 1000),
        ("abandoned", 1000),
        ("stale", 1000),
        ("rolled back", 100),
    ] {
        assert!(seen[outcome] > least, "the events are too tame: {seen:?}");
    }
}
