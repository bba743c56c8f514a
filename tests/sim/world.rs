//! The world: one queue of what will happen, in virtual milliseconds, and the checks after every event.

mod deeds;
mod network;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use fedmerge_client::agent::Event as AgentEvent;
use fedmerge_common::digest::Digest;
use fedmerge_common::ids::{ClientId, ModelVersion};
use fedmerge_common::units::Timestamp;
use fedmerge_common::update::ModelRef;
use fedmerge_coordinator::invariant::History;
use fedmerge_coordinator::{Event, RoundPlan};

use super::calls::{Call, Reply};
use super::client::Client;
use super::disk::{Disk, Write};
use super::faults::Faults;
use super::happening::Happening;
use super::ledger::LedgerFiles;
use super::random::Random;
use super::server::{Asked, Server, Turn, Wish};
use super::verdict;

/// When every simulation begins: noon.
const NOON: u64 = 1_700_049_600_000;

/// How what must survive the server is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeping {
    /// Somehow: the fast way to look at everything else.
    Assumed,
    /// In the server's own ledger, whose files a crash tears.
    InALedger,
}

/// What a simulation is made of.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) plan: RoundPlan,
    pub(crate) clients: Vec<Client>,
    pub(crate) faults: Faults,
    /// How long things go wrong, milliseconds.
    pub(crate) troubled: u64,
    pub(crate) keeping: Keeping,
}

/// One simulation.
#[derive(Debug)]
pub(crate) struct World {
    random: Random,
    plan: RoundPlan,
    faults: Faults,
    now: u64,
    /// What the server's clock says beyond the time.
    skew: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    events: u64,
    /// What the federation begins from.
    base: ModelRef,
    disk: Disk,
    server: Option<Server>,
    server_life: u64,
    /// Until when the server waits for its ledger, and does nothing else.
    busy_until: u64,
    sessions: u64,
    /// Streams that broke at their client's end, perhaps before it knew of them.
    broken: BTreeSet<u64>,
    clients: Vec<Client>,
    names: Vec<ClientId>,
    history: History,
    /// The time of the next alarm that is set.
    alarm: Option<u64>,
    /// The last of what happened, for whoever looks into a failure.
    trail: VecDeque<String>,
    trail_len: usize,
}

impl World {
    pub(crate) fn new(seed: u64, setting: Setting) -> Self {
        let base = ModelRef {
            version: ModelVersion::new(0),
            digest: Digest::of(b"base"),
            size_bytes: 1,
        };
        let ledger = match setting.keeping {
            Keeping::Assumed => None,
            Keeping::InALedger => Some(LedgerFiles::new(seed)),
        };
        let mut world = Self {
            random: Random::new(seed),
            plan: setting.plan,
            faults: setting.faults,
            now: 0,
            skew: 0,
            queue: BTreeMap::new(),
            events: 0,
            base,
            disk: Disk::new(base, ledger),
            server: None,
            server_life: 0,
            busy_until: 0,
            sessions: 0,
            broken: BTreeSet::new(),
            names: setting.clients.iter().map(|one| one.name.clone()).collect(),
            clients: setting.clients,
            history: History::default(),
            alarm: None,
            trail: VecDeque::new(),
            trail_len: 30,
        };
        world.after(0, Happening::ServerStarts);
        for client in 0..world.clients.len() {
            let delay = world.random.below(20_000);
            world.after(delay, Happening::ClientStarts { client });
        }
        world.after(setting.troubled, Happening::FaultsEnd);
        world
    }

    /// Lets everything happen, to the end.
    pub(crate) fn run(&mut self) {
        // Far more than any simulation takes: so much happens only where something turns in circles.
        let most = 20_000 + 4_000 * self.clients.len() as u64 * self.plan.rounds;
        while let Some(((at, _), happening)) = self.queue.pop_first() {
            self.now = at;
            self.events += 1;
            assert!(self.events < most, "no end is in sight: {}", self.waiting());
            if self.trail.len() == self.trail_len {
                self.trail.pop_front();
            }
            self.trail.push_back(format!("{at} {happening:?}"));
            self.happen(happening);
        }
        let server = self.server.as_ref().expect("the server lives");
        let ended = server.coordinator.ended();
        assert!(ended.is_some(), "still waits for {}", self.waiting());
        verdict::check(self.plan.rounds, &self.disk, &self.clients);
    }

    /// Keeps so many of the last happenings.
    pub(crate) fn remember(&mut self, happenings: usize) {
        self.trail_len = happenings;
    }

    pub(crate) fn trail(&self) -> String {
        let trail: Vec<&str> = self.trail.iter().map(String::as_str).collect();
        trail.join("\n")
    }

    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    /// How often a crash tore a write of the ledger.
    pub(crate) fn tears(&self) -> u64 {
        self.disk.tears()
    }

    /// How often an older model became the base again.
    pub(crate) fn rollbacks(&self) -> u64 {
        self.disk.rollbacks().len() as u64
    }

    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    fn waiting(&self) -> String {
        let server = self.server.as_ref();
        server.map_or_else(
            || "a server".to_owned(),
            |server| server.coordinator.view().waiting_for,
        )
    }

    fn clock(&self) -> Timestamp {
        Timestamp::new(NOON + self.now + self.skew)
    }

    fn after(&mut self, delay: u64, happening: Happening) {
        // The number keeps what happens at the same time in the order in which it was caused.
        let key = (
            self.now + delay,
            self.events << 20 | self.queue.len() as u64,
        );
        let mut key = key;
        while self.queue.contains_key(&key) {
            key.1 += 1;
        }
        self.queue.insert(key, happening);
    }

    fn happen(&mut self, happening: Happening) {
        if self.now < self.busy_until && happening.is_for_the_server() {
            return self.after(self.busy_until - self.now, happening);
        }
        match happening {
            Happening::Arrives { asked, call } => self.arrives(asked, call),
            Happening::Answered { asked, reply } => self.answered(&asked, reply),
            Happening::Streamed { client, streamed } => {
                let wishes = self.clients[client].stream(streamed, &mut self.random);
                self.grant(client, wishes);
            }
            Happening::ClientLosesStream { client, session } => {
                self.broken.insert(session);
                let wishes = self.clients[client].lose(session, &mut self.random);
                self.grant(client, wishes);
            }
            Happening::ServerLosesStream {
                client,
                session,
                life,
            } => {
                let server = self.server.as_mut().filter(|_| life == self.server_life);
                if let Some(event) = server.and_then(|server| server.lose(client, session)) {
                    self.serve(event);
                }
            }
            Happening::Worked {
                client,
                life,
                work,
                event,
            } => self.worked(client, life, work, event),
            Happening::Reminded { client, life, what } => {
                if self.clients[client].life == life {
                    let wishes = self.clients[client].remind(what);
                    self.grant(client, wishes);
                }
            }
            Happening::ClientStarts { client } => {
                let one = &mut self.clients[client];
                if !one.has_left && !one.is_alive() {
                    let wishes = one.start(&mut self.random);
                    self.grant(client, wishes);
                }
            }
            Happening::ServerStarts => self.start_server(),
            Happening::Merged {
                life,
                round,
                base,
                updates,
            } => self.merged(life, round, &base, &updates),
            Happening::Published {
                life,
                round,
                candidate,
            } => self.published(life, round, candidate),
            Happening::WantsBack => self.want_back(),
            Happening::RolledBack { life, order } => self.rolled_back(life, &order),
            Happening::Wakes { life } => {
                if life == self.server_life && self.server.is_some() {
                    self.alarm = None;
                    self.serve(Event::TimePassed);
                }
            }
            Happening::Written { life, wishes } => self.written(life, wishes),
            Happening::FaultsEnd => self.faults = Faults::none(),
        }
    }

    fn written(&mut self, life: u64, wishes: Vec<Wish>) {
        if life == self.server_life && self.server.is_some() {
            for wish in wishes {
                self.fulfil(wish);
            }
            self.set_alarm();
        }
    }

    fn arrives(&mut self, asked: Asked, call: Call) {
        let now = self.clock();
        self.sessions += 1;
        let session = self.sessions;
        if let Some(server) = &mut self.server {
            let turn = server.take(now, asked, call, session);
            self.follow(turn);
        }
    }

    fn answered(&mut self, asked: &Asked, reply: Reply) {
        let client = asked.client;
        let is_alive = self.clients[client].life == asked.life;
        if let Reply::Seated { session } = &reply {
            let server = self.server.as_ref();
            let is_held = server.is_some_and(|server| server.holds(client, *session));
            // A stream may break before its client knows that it has it, and a client may want it no longer.
            let is_broken = self.broken.contains(session);
            if is_broken || !is_held || !is_alive || !self.clients[client].wants(asked.id) {
                self.break_stream(client, *session, 2_000);
            }
        }
        if !is_alive {
            return;
        }
        let wishes = self.clients[client].hear(asked.id, reply, &mut self.random);
        self.grant(client, wishes);
    }

    fn worked(&mut self, client: usize, life: u64, work: u64, event: AgentEvent) {
        if self.clients[client].life != life {
            return;
        }
        let failure =
            Client::failure(&event).filter(|_| self.random.chance(self.faults.failed_training));
        let event = failure.unwrap_or(event);
        let wishes = self.clients[client].worked(work, event, &mut self.random);
        self.grant(client, wishes);
    }

    fn start_server(&mut self) {
        let now = self.clock();
        self.server_life += 1;
        self.alarm = None;
        let (plan, disk) = (&self.plan, &mut self.disk);
        let (server, effects) = Server::start(plan, &self.names, self.base, disk, now);
        self.server = Some(server);
        self.follow(Server::resumed(effects));
    }

    fn serve(&mut self, event: Event) {
        let now = self.clock();
        if let Some(server) = &mut self.server {
            let turn = server.happen(now, event);
            self.follow(turn);
        }
    }

    /// The record first, then what follows from it; the process may die at each place.
    fn follow(&mut self, turn: Turn) {
        if self.random.chance(self.faults.clock_jump) {
            // A clock that is set back is one that was ahead.
            self.skew = self.random.below(600_000);
        }
        let Some(server) = &mut self.server else {
            return;
        };
        if self.random.chance(self.faults.server_death) {
            let write = *self.random.pick(&Write::ALL);
            server.persist(&turn, &mut self.disk, write);
            return self.kill_server();
        }
        server.persist(&turn, &mut self.disk, Write::Whole);
        let wishes = server.follow(turn, &self.disk, &mut self.history);
        if self.random.chance(self.faults.busy_ledger) {
            let wait = self.random.between(1, 10_000);
            self.busy_until = self.now + wait;
            let life = self.server_life;
            return self.after(wait, Happening::Written { life, wishes });
        }
        if self.random.chance(self.faults.server_death) {
            // Some of what follows is done, and some not.
            let done = self.random.below(wishes.len() as u64 + 1);
            let done = usize::try_from(done).unwrap();
            for wish in wishes.into_iter().take(done) {
                self.fulfil(wish);
            }
            return self.kill_server();
        }
        for wish in wishes {
            self.fulfil(wish);
        }
        self.set_alarm();
    }

    fn kill_server(&mut self) {
        self.server = None;
        let down = self.random.between(100, 30_000);
        self.after(down, Happening::ServerStarts);
        for client in 0..self.clients.len() {
            // Whichever stream it had is gone.
            let Some(session) = self.clients[client].session() else {
                continue;
            };
            let delay = self.random.below(2_000);
            self.after(delay, Happening::ClientLosesStream { client, session });
        }
    }

    fn set_alarm(&mut self) {
        let Some(server) = &self.server else { return };
        let Some(due) = server.coordinator.wake_at() else {
            return;
        };
        let wait = (due - self.clock()).get() + 1;
        let at = self.now + wait;
        // A clock that was set back is noticed after a while, as the driver does.
        let at = at.min(self.now + 30_000);
        if self
            .alarm
            .is_none_or(|alarm| at < alarm || alarm <= self.now)
        {
            self.alarm = Some(at);
            let life = self.server_life;
            self.after(at - self.now, Happening::Wakes { life });
        }
    }
}
