//! What is simulated: many seeds, a thousand clients, and what once failed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use fedmerge_common::units::Millis;
use fedmerge_coordinator::{
    Cohort, EvaluationRule, GainSummary, Goal, LatePolicy, Mode, RoundPlan,
};

use super::client::{Client, Manner};
use super::faults::Faults;
use super::random::Random;
use super::world::{Keeping, Setting, World};

/// So many seeds are simulated unless `FEDMERGE_SIM_SEEDS` says another number.
const SEEDS: u64 = 2_000;

/// So many seeds are simulated on real ledgers unless `FEDMERGE_SIM_LEDGER_SEEDS` says another number.
const LEDGER_SEEDS: u64 = 120;

/// How often the server dies there, of a thousand times, at the least: that is what those seeds are about.
const LEDGER_DEATHS: u64 = 40;

/// What once failed, and why.
const NAMED_SEEDS: &[(u64, &str)] = &[(
    20_379,
    "a rollback ends carried tasks, and its process dies before anybody is told",
)];

/// The setting that a seed chooses.
pub(super) fn setting(seed: u64) -> Setting {
    let mut random = Random::new(!seed);
    let count = random.between(2, 9);
    let clients = (1..=count).map(|number| {
        let is_hostile = number > 2 && random.chance(150);
        let manner = if is_hostile {
            Manner::Hostile
        } else {
            Manner::Honest
        };
        // Some are so slow that a round does not wait for them.
        let pace = *random.pick(&[1_000, 5_000, 20_000, 20_000, 200_000]);
        let name = format!("client-{number}").parse().unwrap();
        Client::new(name, manner, pace, random.chance(500))
    });
    let clients: Vec<Client> = clients.collect();
    let honest = clients.iter().filter(|one| one.manner == Manner::Honest);
    let honest = honest.count() as u64;
    let target = random.between(1, honest);
    let quorum = random.between(1, target);
    let plan = RoundPlan {
        rounds: random.between(2, 6),
        cohort: Cohort {
            target: usize::try_from(target).unwrap(),
            fraction: *random.pick(&[0.5, 1.0]),
            over_select: *random.pick(&[1.0, 1.5, 10.0]),
        },
        quorum: usize::try_from(quorum).unwrap(),
        deadline: Millis::from_secs(random.between(20, 300)),
        grace: Millis::from_secs(random.between(1, 60)),
        tolerate: 0,
        population: None,
        seed,
        evaluate: random.chance(300).then(|| EvaluationRule {
            metric: "accuracy".to_owned(),
            goal: Goal::Max,
            min_gain: 0.0,
            summary: GainSummary::Quantile(0.5),
        }),
        mode: *random.pick(&[Mode::Synchronous, Mode::Synchronous, Mode::Buffered]),
        late: *random.pick(&[LatePolicy::Reject, LatePolicy::Carry]),
        max_staleness: random.below(4),
        private_rounds: None,
        allow_small_quorum: true,
    };
    plan.check().unwrap();
    Setting {
        faults: Faults::of(&mut random),
        troubled: random.between(60_000, 1_800_000),
        keeping: Keeping::Assumed,
        plan,
        clients,
    }
}

/// The same on a real ledger.
fn on_a_ledger(seed: u64) -> Setting {
    let mut setting = setting(seed);
    setting.keeping = Keeping::InALedger;
    setting.faults.server_death = setting.faults.server_death.max(LEDGER_DEATHS);
    setting
}

/// What was seen in the simulations, so that they cannot become tame without anybody's notice.
#[derive(Debug, Default)]
struct Seen {
    events: AtomicU64,
    published: AtomicU64,
    abandoned: AtomicU64,
    stale: AtomicU64,
    evaluated: AtomicU64,
    rolled_back: AtomicU64,
    tears: AtomicU64,
}

impl Seen {
    fn add(&self, world: &World) {
        self.events.fetch_add(world.events(), Ordering::Relaxed);
        self.tears.fetch_add(world.tears(), Ordering::Relaxed);
        let rollbacks = world.rollbacks();
        self.rolled_back.fetch_add(rollbacks, Ordering::Relaxed);
        for summary in world.history().rounds().values() {
            let counter = match summary.outcome.published() {
                Some(_) => &self.published,
                None => &self.abandoned,
            };
            counter.fetch_add(1, Ordering::Relaxed);
            let evaluated = u64::from(!summary.evaluations.is_empty());
            self.evaluated.fetch_add(evaluated, Ordering::Relaxed);
        }
        for updates in world.history().merges().values() {
            let stale = updates.values().filter(|counted| counted.staleness > 0);
            self.stale
                .fetch_add(stale.count() as u64, Ordering::Relaxed);
        }
    }
}

/// Simulates one seed; `replay` is the test that does so alone.
fn simulate(seed: u64, setting: Setting, replay: &str, seen: &Seen) {
    let mut world = World::new(seed, setting);
    if let Some(happenings) = number("FEDMERGE_SIM_TRAIL") {
        world.remember(usize::try_from(happenings).unwrap());
    }
    let lived = catch_unwind(AssertUnwindSafe(|| world.run()));
    if lived.is_err() {
        panic!(
            "{}\nreplay it: FEDMERGE_SIM_SEED={seed} cargo test -p fedmerge --test sim {replay}",
            world.trail()
        );
    }
    seen.add(&world);
}

/// Simulates the seeds from 1 on, each once, on every processor.
fn simulate_all(seeds: u64, setting: fn(u64) -> Setting, replay: &str) -> Seen {
    let seen = Seen::default();
    let next = AtomicU64::new(1);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let taken = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
                for seed in taken.take_while(|seed| *seed <= seeds) {
                    simulate(seed, setting(seed), replay, &seen);
                }
            });
        }
    });
    seen
}

/// Fails the test unless the seeds have seen each of these often.
fn expect_not_tame(seeds: u64, seen: &Seen, counters: &[&AtomicU64]) {
    for counter in counters {
        assert!(
            counter.load(Ordering::Relaxed) > seeds / 4,
            "the faults are too tame: {seen:?}"
        );
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test has no settings but the environment"
)]
pub(super) fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap())
}

#[test]
fn whatever_goes_wrong_the_promises_hold_and_everything_comes_to_its_end() {
    let seeds = number("FEDMERGE_SIM_SEEDS").unwrap_or(SEEDS);
    let seen = simulate_all(seeds, setting, "one_seed");
    let counters = [
        &seen.published,
        &seen.abandoned,
        &seen.stale,
        &seen.evaluated,
        &seen.rolled_back,
    ];
    expect_not_tame(seeds, &seen, &counters);
}

#[test]
fn one_seed() {
    if let Some(seed) = number("FEDMERGE_SIM_SEED") {
        simulate(seed, setting(seed), "one_seed", &Seen::default());
    }
}

#[test]
fn a_torn_ledger_keeps_the_same_promises() {
    let seeds = number("FEDMERGE_SIM_LEDGER_SEEDS").unwrap_or(LEDGER_SEEDS);
    let seen = simulate_all(seeds, on_a_ledger, "one_ledger");
    expect_not_tame(seeds, &seen, &[&seen.published, &seen.tears]);
}

#[test]
fn one_ledger() {
    if let Some(seed) = number("FEDMERGE_SIM_SEED") {
        simulate(seed, on_a_ledger(seed), "one_ledger", &Seen::default());
    }
}

#[test]
fn what_once_failed_holds() {
    for (seed, _why) in NAMED_SEEDS {
        simulate(*seed, setting(*seed), "one_seed", &Seen::default());
    }
}

/// A federation that is as large as one server is asked to hold: every client takes part in every round.
#[test]
fn a_thousand_agents_come_to_the_end_together() {
    let clients = (1..=1000).map(|number| {
        let name = format!("client-{number}").parse().unwrap();
        Client::new(name, Manner::Honest, 5_000, false)
    });
    let setting = Setting {
        clients: clients.collect(),
        faults: Faults {
            lost_request: 20,
            lost_response: 20,
            broken_stream: 5,
            ..Faults::none()
        },
        troubled: 120_000,
        keeping: Keeping::Assumed,
        plan: RoundPlan {
            rounds: 2,
            cohort: Cohort {
                target: 1000,
                fraction: 1.0,
                over_select: 1.0,
            },
            quorum: 600,
            deadline: Millis::from_secs(600),
            tolerate: 299,
            ..setting(1).plan
        },
    };
    let mut world = World::new(1, setting);
    world.run();
}
