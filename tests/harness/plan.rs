//! The plan of a story's federation: short times, few clients, everything said.

use std::fmt;

/// What a story's `federation.toml` says; its base is the one that the harness wrote.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: u64,
    pub(crate) target: usize,
    pub(crate) quorum: usize,
    pub(crate) deadline: &'static str,
    pub(crate) grace: &'static str,
    /// Lines before the tables.
    pub(crate) keep: &'static str,
    /// More lines of `[round]`.
    pub(crate) round: &'static str,
    /// The lines of `[merge]`.
    pub(crate) merge: &'static str,
    /// Lines of `[update]`.
    pub(crate) update: &'static str,
    /// Lines of `[evaluate]`; empty publishes every merge.
    pub(crate) evaluate: &'static str,
}

impl Plan {
    /// One round of so many clients, all of whom must succeed, and the weighted mean of their updates.
    pub(crate) fn of(clients: usize) -> Self {
        Self {
            rounds: 1,
            target: clients,
            quorum: clients,
            deadline: "60s",
            grace: "10s",
            keep: "",
            round: "",
            merge: "method = \"mean\"",
            update: "encodings = [\"f32\"]",
            evaluate: "",
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "name = \"story\"\nbase = \"../base.safetensors\"\n")?;
        writeln!(f, "{}\n", self.keep)?;
        writeln!(f, "[round]\ncount = {}", self.rounds)?;
        writeln!(f, "cohort = {{ target = {} }}", self.target)?;
        writeln!(f, "quorum = {}", self.quorum)?;
        writeln!(f, "allow_small_quorum = true\n{}", self.round)?;
        writeln!(f, "deadline = \"{}\"", self.deadline)?;
        writeln!(f, "grace = \"{}\"\n", self.grace)?;
        writeln!(f, "[merge]\n{}\n", self.merge)?;
        writeln!(f, "[update]\n{}", self.update)?;
        if self.evaluate.is_empty() {
            return Ok(());
        }
        writeln!(f, "\n[evaluate]\n{}", self.evaluate)
    }
}
