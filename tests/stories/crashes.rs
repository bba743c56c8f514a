//! Crashes at every named point and at random instants: the federation goes on, nothing acknowledged is lost, nothing finished
//! is done again, and the final model is that of a federation that nobody disturbed, to the last byte.

use std::fs;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use fedmerge_common::failpoint::{self, Point};

use crate::harness::federation::Federation;
use crate::harness::machine::wait_until;
use crate::harness::plan::Plan;
use crate::harness::process::Ended;
use crate::harness::trainer::Trainer;
use crate::harness::values::Values;

const ROUNDS: u16 = 5;
/// Clients with the step that each takes in a round and the examples that it claims: the mean step is 2.25.
const CLIENTS: [(&str, f32, u64); 3] = [("a", 1.0, 10), ("b", 2.0, 20), ("c", 4.0, 10)];
/// Random kills of each end in a usual run of the tests.
const USUAL_KILLS: u64 = 6;

/// A federation whose clients hand in something else each round, and write down each training.
struct Drama {
    federation: Federation,
    /// What the processes of clients said that have ended.
    ended: Vec<(&'static str, Ended)>,
}

impl Drama {
    /// The server runs and the clients are enrolled.
    fn begin(adapt_server: impl FnOnce(&mut Command) -> &mut Command) -> Self {
        let plan = Plan {
            rounds: ROUNDS.into(),
            ..Plan::of(CLIENTS.len())
        };
        let mut federation = Federation::new(&plan);
        federation.start_server_with(adapt_server);
        federation.enrol(&CLIENTS.map(|(name, ..)| name));
        for (name, step, _) in CLIENTS {
            for round in 1..=ROUNDS {
                let tuned = Values::base().plus(step * f32::from(round));
                tuned.write(&federation.path(&format!("{name}.{round}.tuned")));
            }
        }
        Self {
            federation,
            ended: Vec::new(),
        }
    }

    fn start_client(&mut self, name: &str) {
        self.start_client_as(name, |command| command);
    }

    fn start_client_as(&mut self, name: &str, adapt: impl FnOnce(&mut Command) -> &mut Command) {
        let mut clients = CLIENTS.iter();
        let (_, _, examples) = clients.find(|(client, ..)| *client == name).unwrap();
        let trainer = Trainer::shell(format!(
            "echo \"$FEDMERGE_ROUND\" >> {name}.trainings && \
             cp {name}.\"$FEDMERGE_ROUND\".tuned \"$FEDMERGE_OUT\" && \
             echo '{{\"num_examples\": {examples}, \"metrics\": {{\"loss\": 0.1}}}}'"
        ));
        self.federation.start_client_as(name, &trainer, adapt);
    }

    fn start_clients(&mut self) {
        for (name, ..) in CLIENTS {
            self.start_client(name);
        }
    }

    /// Digest of the last model, once the federation has ended.
    fn last_model(&mut self) -> String {
        let ended = self.federation.server().next_event("ended");
        let last = Values::read(&self.federation.model(ROUNDS.into()));
        assert_eq!(last, Values::base().plus(2.25 * f32::from(ROUNDS)));
        ended["model"]["digest"].as_str().unwrap().to_owned()
    }

    /// Waits until a client has left well.
    fn client_leaves(&mut self, name: &'static str) {
        let ended = self.federation.client_end(name).well();
        self.ended.push((name, ended));
    }

    /// The rounds for which a client's trainer ran, in order.
    fn trainings(&self, name: &str) -> Vec<u16> {
        let path = self.federation.path(&format!("{name}.trainings"));
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }

    /// Every client trained once a round, heard once a round that its update counts, and keeps nothing but its last round.
    fn nothing_was_done_twice(&self) {
        for (name, ..) in CLIENTS {
            assert_eq!(
                self.trainings(name),
                (1..=ROUNDS).collect::<Vec<u16>>(),
                "{name}"
            );
            let said = self.ended.iter().filter(|(client, _)| *client == name);
            let accepted =
                said.map(|(_, ended)| ended.stdout.matches(r#""event":"accepted""#).count());
            assert_eq!(accepted.sum::<usize>(), usize::from(ROUNDS), "{name}");
            self.nothing_is_left_over(name);
        }
    }

    fn nothing_is_left_over(&self, name: &str) {
        let names = |folder: &str| {
            let entries = fs::read_dir(self.federation.path(&format!("{name}/{folder}")));
            let entries = entries.unwrap().map(|entry| entry.unwrap().file_name());
            let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
            names.sort();
            names
        };
        let root = names(".").join(" ");
        assert_eq!(root, "cache client.toml identity lock log work");
        assert_eq!(names("work").len(), 1, "{:?}", names("work"));
        assert_eq!(
            names(&format!("work/round-{ROUNDS}/update")),
            ["update.safetensors"]
        );
        assert!(names("cache").len() <= 2, "{:?}", names("cache"));
    }
}

fn arm(command: &mut Command, point: Point, count: u64) -> &mut Command {
    command.env(failpoint::VARIABLE, format!("{point}:{count}"))
}

/// The digest of the last model of a federation that nobody disturbs, and how long it takes.
fn undisturbed() -> (&'static str, Duration) {
    static RUN: OnceLock<(String, Duration)> = OnceLock::new();
    let (digest, duration) = RUN.get_or_init(|| {
        let mut drama = Drama::begin(|command| command);
        let begun = Instant::now();
        drama.start_clients();
        let digest = drama.last_model();
        let duration = begun.elapsed();
        for (name, ..) in CLIENTS {
            drama.client_leaves(name);
        }
        drama.nothing_was_done_twice();
        (digest, duration)
    });
    (digest, *duration)
}

#[test]
fn a_client_that_dies_at_any_named_point_goes_on_and_trains_once_a_round() {
    let points = Point::ALL
        .iter()
        .filter(|point| point.as_str().starts_with("client-"));
    for point in points {
        let mut drama = Drama::begin(|command| command);
        // In the second round, so that there is a first whose leavings could be in the way.
        drama.start_client_as("a", |command| arm(command, *point, 2));
        drama.start_client("b");
        drama.start_client("c");
        let died = drama.federation.client_end("a").died_at(*point);
        drama.ended.push(("a", died));
        drama.start_client("a");
        assert_eq!(drama.last_model(), undisturbed().0, "{point}");
        for (name, ..) in CLIENTS {
            drama.client_leaves(name);
        }
        drama.nothing_was_done_twice();
        drama.federation.server_end().well();
    }
}

/// How often a server passes a point before it dies there: in the first round, and in the last.
fn passings(point: Point) -> [u64; 2] {
    let rounds = u64::from(ROUNDS);
    match point.as_str() {
        // The first record is written before anybody can connect; ten more make it a later round.
        "server-recorded" => [2, 12],
        "server-staged" => [1, rounds * CLIENTS.len() as u64],
        _ => [1, rounds],
    }
}

#[test]
fn a_server_that_dies_at_any_named_point_goes_on_and_ends_in_the_same_bytes() {
    let points = Point::ALL
        .iter()
        .filter(|point| point.as_str().starts_with("server-"));
    for (point, count) in points.flat_map(|point| passings(*point).map(|count| (*point, count))) {
        let mut drama = Drama::begin(|command| arm(command, point, count));
        drama.start_clients();
        drama.federation.server_end().died_at(point);
        drama.federation.start_server();
        assert_eq!(drama.last_model(), undisturbed().0, "{point}:{count}");
        for (name, ..) in CLIENTS {
            drama.client_leaves(name);
        }
        drama.nothing_was_done_twice();
    }
}

/// More than one acknowledgement of an upload: the server makes bytes durable every 4 MiB.
fn large(step: f32) -> Values {
    Values {
        w: vec![step; 9 << 18],
        b: vec![0.5; 2],
    }
}

#[test]
fn an_upload_goes_on_when_its_client_dies_in_the_middle() {
    let mut federation = Federation::from_base(&Plan::of(1), |path| large(1.0).write(path));
    federation.start_server();
    federation.enrol(&["a"]);
    let trainer = federation.trainer("a", &large(2.5), 1);
    federation.start_client_as("a", &trainer, |command| {
        arm(command, Point::ClientAcknowledged, 2)
    });
    federation
        .client_end("a")
        .died_at(Point::ClientAcknowledged);
    // It must not train again: this trainer would have the round declined.
    federation.start_client("a", &Trainer::shell("exit 1"));
    let closed = federation.next_round();
    assert!(Values::read(&closed.published().path) == large(2.5));
    federation.client_end("a").well();
}

#[test]
fn an_upload_goes_on_when_the_server_dies_in_the_middle() {
    let mut federation = Federation::from_base(&Plan::of(1), |path| large(1.0).write(path));
    federation.start_server_with(|command| arm(command, Point::ServerStaged, 2));
    federation.enrol(&["a"]);
    let trainer = federation.trainer("a", &large(2.5), 1);
    federation.start_client("a", &trainer);
    federation.server_end().died_at(Point::ServerStaged);
    federation.start_server();
    let closed = federation.next_round();
    assert!(Values::read(&closed.published().path) == large(2.5));
    federation.client_end("a").well();
}

#[test]
fn a_killed_client_leaves_no_trainer_behind() {
    let mut federation = Federation::new(&Plan::of(1));
    federation.start_server();
    federation.enrol(&["a"]);
    let pid = federation.path("a.pid");
    let trainer = Trainer::shell("echo $$ > a.part && mv a.part a.pid && sleep 1000");
    federation.start_client("a", &trainer);
    wait_until("the trainer", || pid.exists());
    let pid = fs::read_to_string(pid).unwrap();
    let process = format!("/proc/{}", pid.trim());
    assert!(fs::exists(&process).unwrap());
    federation.kill_client("a");
    wait_until("the trainer's end", || !fs::exists(&process).unwrap());
}

/// Numbers that are the same in every run: one for each seed and use.
fn random(seed: u64, purpose: u64) -> u64 {
    let mut mixed = seed
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(purpose);
    for _ in 0..3 {
        mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    }
    mixed ^ (mixed >> 32)
}

/// When a run is disturbed: at a random instant of the time that it takes undisturbed.
fn instant(seed: u64, begun: Instant) -> Instant {
    let permille = u32::try_from(random(seed, 1) % 1000).unwrap();
    begun + undisturbed().1 * permille / 1000
}

/// How many random kills there are: `FEDMERGE_TEST_KILLS`, for a long search.
fn kills() -> u64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test has no settings but these"
    )]
    let wanted = std::env::var("FEDMERGE_TEST_KILLS");
    wanted.map_or(USUAL_KILLS, |number| number.parse().unwrap())
}

#[test]
fn a_server_killed_at_random_instants_ends_in_the_same_bytes() {
    let digest = undisturbed().0;
    for seed in 0..kills() {
        let mut drama = Drama::begin(|command| command);
        let at = instant(seed, Instant::now());
        drama.start_clients();
        if drama.federation.server().lives_until(at) {
            drama.federation.kill_server();
            drama.federation.start_server();
        }
        assert_eq!(drama.last_model(), digest, "seed {seed}");
        for (name, ..) in CLIENTS {
            drama.client_leaves(name);
        }
        drama.nothing_was_done_twice();
    }
}

#[test]
fn a_client_killed_at_random_instants_does_not_change_a_byte() {
    let digest = undisturbed().0;
    for seed in 0..kills() {
        let mut drama = Drama::begin(|command| command);
        let (killed, ..) = CLIENTS[usize::try_from(random(seed, 2) % 3).unwrap()];
        let at = instant(seed, Instant::now());
        drama.start_clients();
        if drama.federation.client(killed).lives_until(at) {
            drama.federation.kill_client(killed);
            drama.start_client(killed);
        }
        assert_eq!(drama.last_model(), digest, "seed {seed}");
        for (name, ..) in CLIENTS {
            let mut trainings = drama.trainings(name);
            let count = trainings.len();
            trainings.dedup();
            assert_eq!(
                trainings,
                (1..=ROUNDS).collect::<Vec<u16>>(),
                "seed {seed}, {name}"
            );
            // The training under way is begun again; nobody else is disturbed.
            let most = usize::from(name == killed);
            assert!(count - trainings.len() <= most, "seed {seed}, {name}");
        }
    }
}
