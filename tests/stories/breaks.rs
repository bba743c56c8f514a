//! Transfers that break at any byte: nothing is wrong afterwards, and little travels twice.
//!
//! A network between clients and server counts what it carries, everything included: handshakes, calls, and what a transfer repeats.

use crate::harness::federation::Federation;
use crate::harness::machine::wait_until;
use crate::harness::plan::Plan;
use crate::harness::random::random;
use crate::harness::trainer::Trainer;
use crate::harness::values::Values;

const CLIENTS: [(&str, f32); 2] = [("a", 1.0), ("b", 3.0)];

/// How large the transfers are, and how often they break.
struct Search {
    rounds: u64,
    model_bytes: u64,
    cuts: u64,
    server_kills: u64,
    client_kills: u64,
}

impl Search {
    /// A short one, or with `FEDMERGE_TEST_BREAKS` set the long one, with models of 200 MB.
    fn chosen() -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "a test has no settings but these"
        )]
        let is_long = std::env::var_os("FEDMERGE_TEST_BREAKS").is_some();
        if is_long {
            Self {
                rounds: 5,
                model_bytes: 200_000_000,
                cuts: 100,
                server_kills: 20,
                client_kills: 20,
            }
        } else {
            Self {
                rounds: 2,
                model_bytes: 40_000_000,
                cuts: 10,
                server_kills: 1,
                client_kills: 1,
            }
        }
    }

    /// What travels at least: each client takes each base and gives each update.
    fn payload_bytes(&self) -> u64 {
        2 * self.rounds * CLIENTS.len() as u64 * self.model_bytes
    }

    /// So many places among all bytes that travel, in order.
    fn moments(&self, count: u64) -> Vec<u64> {
        let share = self.payload_bytes() / (count + 1);
        let place = |moment| moment * share + random(count, moment) % share;
        (0..count).map(place).collect()
    }

    /// One value everywhere, another in each round, so that all of each base travels.
    fn values(&self, value: f32) -> Values {
        let elements = usize::try_from(self.model_bytes / 4).unwrap();
        Values {
            w: vec![value; elements],
            b: vec![0.5; 2],
        }
    }

    /// The federation behind a network that is cut so many times, and its last model's digest once it has ended.
    fn run(&self, cuts: u64, disturb: impl FnOnce(&mut Federation)) -> (String, u64) {
        let plan = Plan {
            rounds: self.rounds,
            ..Plan::of(CLIENTS.len())
        };
        let mut federation = Federation::from_base(&plan, |path| self.values(0.0).write(path));
        for (round, (name, step)) in
            (1..=self.rounds).flat_map(|round| CLIENTS.map(|client| (round, client)))
        {
            let tuned = self.values(f32::from(u16::try_from(round).unwrap()) * step);
            tuned.write(&federation.path(&format!("{name}.{round}.tuned")));
        }
        federation.start_server();
        federation.cut_network(self.moments(cuts));
        federation.enrol(&CLIENTS.map(|(name, _)| name));
        for name in CLIENTS.map(|(name, _)| name) {
            start(&mut federation, name);
        }
        disturb(&mut federation);
        let ended = federation.server().next_event("ended");
        for (name, _) in CLIENTS {
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

#[test]
fn transfers_that_break_send_little_twice_and_no_byte_wrong() {
    let search = Search::chosen();
    let (digest, carried) = search.run(0, |_| {});
    assert!(carried > search.payload_bytes());
    let expect = |what: &str, run: (String, u64)| {
        assert_eq!(run.0, digest, "{what}");
        let twice = run.1.saturating_sub(carried);
        println!("{what}: {twice} of {carried} bytes twice");
        assert!(twice * 50 <= carried, "{what}: {twice} bytes sent twice");
    };
    expect("cuts", search.run(search.cuts, |_| {}));
    let kills = search.server_kills;
    let server = search.run(0, |federation| {
        at_random_bytes(federation, &search, kills, |federation, _| {
            federation.kill_server();
            federation.start_server();
        });
    });
    expect("the server's ends", server);
    let kills = search.client_kills;
    let clients = search.run(0, |federation| {
        at_random_bytes(federation, &search, kills, |federation, moment| {
            let (name, _) = CLIENTS[usize::try_from(moment % 2).unwrap()];
            federation.kill_client(name);
            start(federation, name);
        });
    });
    expect("a client's ends", clients);
}
