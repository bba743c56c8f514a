//! Crashes at every named point and at random instants: the federation goes on, nothing acknowledged is lost, nothing finished
//! is done again, and the final model is that of a federation that nobody disturbed, to the last byte.

use std::fs;
use std::process::Command;
use std::time::Instant;

use fedmerge_common::failpoint::{self, Point};

use crate::harness::federation::Federation;
use crate::harness::machine::wait_until;
use crate::harness::plan::Plan;
use crate::harness::random::random;
use crate::harness::trainer::Trainer;
use crate::harness::values::Values;
use crate::stories::drama::{CLIENTS, Drama, ROUNDS, undisturbed};

/// Random kills of each end in a usual run of the tests.
const USUAL_KILLS: u64 = 6;

fn arm(command: &mut Command, point: Point, count: u64) -> &mut Command {
    command.env(failpoint::VARIABLE, format!("{point}:{count}"))
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

/// 16 MiB: the first acknowledgement comes in the middle of them, because the server makes bytes durable every 8 MiB.
fn large(step: f32) -> Values {
    Values {
        w: vec![step; 1 << 22],
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
        arm(command, Point::ClientAcknowledged, 1)
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
    federation.start_server_with(|command| arm(command, Point::ServerStaged, 1));
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
