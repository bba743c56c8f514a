//! Transfers that break at any byte: nothing is wrong afterwards, and little travels twice.
//!
//! A network between clients and server counts what it carries, everything included: handshakes, calls, and what a transfer repeats.

use fedmerge_proto::limits::{DOWNLOAD_WINDOW_BYTES, UPLOADS_WINDOW_BYTES};

use crate::harness::federation::Federation;
use crate::harness::machine::wait_until;
use crate::harness::plan::Plan;
use crate::harness::random::{arbitrary, random};
use crate::harness::trainer::Trainer;
use crate::harness::values::Values;

const CLIENTS: [&str; 2] = ["a", "b"];

/// How large the transfers are, and how often they break.
struct Search {
    rounds: u64,
    model_bytes: u64,
    cuts: u64,
    server_kills: u64,
    client_kills: u64,
    /// What may be sent twice of so many bytes, at so many breaks of which each may lose some bytes.
    allowed: fn(carried: u64, breaks: u64, lost_bytes: u64) -> u64,
}

/// What a cut may lose on a busy machine: what the system has taken and nobody has read.
const LOST_WITH_A_CONNECTION: u64 = 4 << 20;
/// What an end of a server may lose: the windows of its uploads too.
const LOST_WITH_A_SERVER: u64 = LOST_WITH_A_CONNECTION + 2 * UPLOADS_WINDOW_BYTES as u64;
/// What an end of a client may lose: the window of its download too.
const LOST_WITH_A_CLIENT: u64 = LOST_WITH_A_CONNECTION + DOWNLOAD_WINDOW_BYTES as u64;

impl Search {
    /// A short one, or with `FEDMERGE_TEST_BREAKS` set the long one, with models of 200 MB.
    fn chosen() -> Self {
        let is_long = std::env::var_os("FEDMERGE_TEST_BREAKS").is_some();
        if is_long {
            Self {
                rounds: 5,
                model_bytes: 200_000_000,
                cuts: 100,
                server_kills: 20,
                client_kills: 20,
                allowed: |carried, _, _| carried / 50,
            }
        } else {
            Self {
                rounds: 2,
                model_bytes: 40_000_000,
                cuts: 4,
                server_kills: 1,
                client_kills: 1,
                allowed: |_, breaks, lost_bytes| breaks * lost_bytes,
            }
        }
    }

    /// What travels, or almost: each client takes each base and gives each update.
    fn payload_bytes(&self) -> u64 {
        2 * self.rounds * CLIENTS.len() as u64 * self.model_bytes
    }

    /// So many places among all bytes that travel, in order.
    fn moments(&self, count: u64) -> Vec<u64> {
        let share = self.payload_bytes() / (count + 1);
        let place = |moment| moment * share + random(count, moment) % share;
        (0..count).map(place).collect()
    }

    /// A model that has nothing in common with any other.
    fn model(&self, seed: u64) -> Values {
        let elements = usize::try_from(self.model_bytes / 4).unwrap();
        Values {
            w: arbitrary(seed, elements),
            b: vec![0.5; 2],
        }
    }

    /// The federation behind a network that is cut so many times, and its last model's digest once it has ended.
    fn run(&self, cuts: u64, disturb: impl FnOnce(&mut Federation)) -> (String, u64) {
        let plan = Plan {
            rounds: self.rounds,
            ..Plan::of(CLIENTS.len())
        };
        let mut federation = Federation::from_base(&plan, |path| self.model(0).write(path));
        for round in 1..=self.rounds {
            for (name, seed) in CLIENTS.into_iter().zip(1..) {
                let tuned = self.model(round << 8 | seed);
                tuned.write(&federation.path(&format!("{name}.{round}.tuned")));
            }
        }
        federation.start_server();
        federation.cut_network(self.moments(cuts));
        federation.enrol(&CLIENTS);
        for name in CLIENTS {
            start(&mut federation, name);
        }
        disturb(&mut federation);
        let ended = federation.server().next_event("ended");
        for name in CLIENTS {
            federation.client_end(name).well();
        }
        assert_eq!(federation.network().cuts(), cuts);
        let digest = ended["model"]["digest"].as_str().unwrap().to_owned();
        (digest, federation.network().carried_bytes())
    }
}

/// A client whose training is to hand in what lies there for the round.
fn start(federation: &mut Federation, name: &str) {
    let trainer = Trainer::shell(format!(
        "cp {name}.\"$FEDMERGE_ROUND\".tuned \"$FEDMERGE_OUT\" && echo '{{\"num_examples\": 1}}'"
    ));
    federation.start_client(name, &trainer);
}

/// Waits for so many moments that come when the network has carried so much, and does something at each.
fn at_random_bytes(
    federation: &mut Federation,
    search: &Search,
    moments: u64,
    mut deed: impl FnMut(&mut Federation, u64),
) {
    for (moment, bytes) in (0..).zip(search.moments(moments)) {
        wait_until("a moment in a transfer", || {
            federation.network().carried_bytes() >= bytes
        });
        deed(federation, moment);
    }
}

#[expect(clippy::print_stderr, reason = "what a long search is run for")]
fn tell(words: std::fmt::Arguments<'_>) {
    eprintln!("{words}");
}

#[test]
fn transfers_that_break_send_little_twice_and_no_byte_wrong() {
    let search = Search::chosen();
    let (digest, carried) = search.run(0, |_| {});
    let payload = search.payload_bytes();
    assert!(carried > payload / 100 * 99, "{carried} of {payload} bytes");
    let expect = |what: &str, run: (String, u64), allowed: u64| {
        assert_eq!(run.0, digest, "{what}");
        let twice = run.1.saturating_sub(carried);
        tell(format_args!("{what}: {twice} of {carried} bytes twice"));
        assert!(twice <= allowed, "{what}: {twice} bytes sent twice");
    };
    let allowed = |breaks, lost_bytes| (search.allowed)(carried, breaks, lost_bytes);
    let cuts = search.run(search.cuts, |_| {});
    expect("cuts", cuts, allowed(search.cuts, LOST_WITH_A_CONNECTION));
    let kills = search.server_kills;
    let server = search.run(0, |federation| {
        at_random_bytes(federation, &search, kills, |federation, _| {
            federation.kill_server();
            federation.start_server();
        });
    });
    expect(
        "the server's ends",
        server,
        allowed(kills, LOST_WITH_A_SERVER),
    );
    let kills = search.client_kills;
    let clients = search.run(0, |federation| {
        at_random_bytes(federation, &search, kills, |federation, moment| {
            let name = CLIENTS[usize::try_from(moment % 2).unwrap()];
            federation.kill_client(name);
            start(federation, name);
        });
    });
    expect(
        "a client's ends",
        clients,
        allowed(kills, LOST_WITH_A_CLIENT),
    );
}
