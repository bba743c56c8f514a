//! A federation of five rounds whose last model is known to the last byte, for stories that disturb it.
//!
//! Each client hands in something else each round and writes down each training: what is done twice, or lost, shows.

use std::fs;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::harness::federation::Federation;
use crate::harness::plan::Plan;
use crate::harness::process::Ended;
use crate::harness::trainer::Trainer;
use crate::harness::values::Values;

pub(super) const ROUNDS: u16 = 5;
/// Clients with the step that each takes in a round and the examples that it claims: the mean step is 2.25.
pub(super) const CLIENTS: [(&str, f32, u64); 3] = [("a", 1.0, 10), ("b", 2.0, 20), ("c", 4.0, 10)];

/// The federation and its clients.
pub(super) struct Drama {
    pub(super) federation: Federation,
    base: Values,
    /// What the processes of clients said that have ended.
    pub(super) ended: Vec<(&'static str, Ended)>,
}

impl Drama {
    /// The server runs and the clients are enrolled.
    pub(super) fn begin(adapt_server: impl FnOnce(&mut Command) -> &mut Command) -> Self {
        let drama = Self::of(Values::base(), adapt_server);
        drama.enrol();
        drama
    }

    /// The server of a model runs, and nobody is enrolled.
    pub(super) fn of(
        base: Values,
        adapt_server: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Self {
        let plan = Plan {
            rounds: ROUNDS.into(),
            ..Plan::of(CLIENTS.len())
        };
        let mut federation = Federation::from_base(&plan, |path| base.write(path));
        federation.start_server_with(adapt_server);
        for (name, step, _) in CLIENTS {
            for round in 1..=ROUNDS {
                let tuned = base.plus(step * f32::from(round));
                tuned.write(&federation.path(&format!("{name}.{round}.tuned")));
            }
        }
        Self {
            federation,
            base,
            ended: Vec::new(),
        }
    }

    /// Enrols the clients.
    pub(super) fn enrol(&self) {
        self.federation.enrol(&CLIENTS.map(|(name, ..)| name));
    }

    pub(super) fn start_client(&mut self, name: &str) {
        self.start_client_as(name, |command| command);
    }

    pub(super) fn start_client_as(
        &mut self,
        name: &str,
        adapt: impl FnOnce(&mut Command) -> &mut Command,
    ) {
        let mut clients = CLIENTS.iter();
        let (_, _, examples) = clients.find(|(client, ..)| *client == name).unwrap();
        let trainer = Trainer::shell(format!(
            "echo \"$FEDMERGE_ROUND\" >> {name}.trainings && \
             cp {name}.\"$FEDMERGE_ROUND\".tuned \"$FEDMERGE_OUT\" && \
             echo '{{\"num_examples\": {examples}, \"metrics\": {{\"loss\": 0.1}}}}'"
        ));
        self.federation.start_client_as(name, &trainer, adapt);
    }

    pub(super) fn start_clients(&mut self) {
        for (name, ..) in CLIENTS {
            self.start_client(name);
        }
    }

    /// Digest of the last model, which is what the steps of all clients make of the base, once the federation has ended.
    pub(super) fn last_model(&mut self) -> String {
        let digest = self.end();
        let last = Values::read(&self.federation.model(ROUNDS.into()));
        assert!(last == self.base.plus(2.25 * f32::from(ROUNDS)));
        digest
    }

    /// Digest of the last model, once the federation has ended.
    pub(super) fn end(&mut self) -> String {
        let ended = self.federation.server().next_event("ended");
        ended["model"]["digest"].as_str().unwrap().to_owned()
    }

    /// Waits until a client has left well.
    pub(super) fn client_leaves(&mut self, name: &'static str) {
        let ended = self.federation.client_end(name).well();
        self.ended.push((name, ended));
    }

    /// The rounds for which a client's trainer ran, in order.
    pub(super) fn trainings(&self, name: &str) -> Vec<u16> {
        let path = self.federation.path(&format!("{name}.trainings"));
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }

    /// Every client trained once a round, heard once a round that its update counts, and keeps nothing but its last round.
    pub(super) fn nothing_was_done_twice(&self) {
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
        assert_eq!(
            root,
            "cache client.toml identity lineage.json lock log site-log.jsonl work"
        );
        assert_eq!(names("work").len(), 1, "{:?}", names("work"));
        assert_eq!(
            names(&format!("work/round-{ROUNDS}/update")),
            ["update.safetensors"]
        );
        assert!(names("cache").len() <= 2, "{:?}", names("cache"));
    }
}

/// The digest of the last model of a federation that nobody disturbs, and how long it takes.
pub(super) fn undisturbed() -> (&'static str, Duration) {
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
