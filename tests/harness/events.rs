//! The lines of `server run --format json` that stories read: a contract, so every field is expected.

use std::path::PathBuf;

use serde::Deserialize;

/// A round that is over.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct RoundClosed {
    pub(crate) round: u64,
    pub(crate) outcome: String,
    #[serde(default)]
    pub(crate) reason: String,
    pub(crate) accepted: usize,
    pub(crate) rejected: usize,
    pub(crate) declined: usize,
    pub(crate) silent: usize,
    pub(crate) merge_ms: u64,
    pub(crate) wall_ms: u64,
    #[serde(default)]
    pub(crate) model: Option<Model>,
    pub(crate) clients: Vec<ClientOutcome>,
}

/// A published model.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Model {
    pub(crate) version: u64,
    pub(crate) digest: String,
    pub(crate) path: PathBuf,
}

/// What became of one client.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ClientOutcome {
    pub(crate) client: String,
    pub(crate) outcome: String,
    #[serde(default)]
    pub(crate) reason: String,
    #[serde(default)]
    pub(crate) num_examples: u64,
    /// Of its update, where it sent one.
    #[serde(default)]
    pub(crate) bytes: u64,
    #[serde(default)]
    pub(crate) evaluation: Option<Evaluation>,
}

/// What came of asking one client to evaluate the candidate.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Evaluation {
    pub(crate) outcome: String,
    #[serde(default)]
    pub(crate) gain: Option<f64>,
    pub(crate) num_examples: u64,
    pub(crate) reason: String,
}

impl RoundClosed {
    /// The model that the round must have published.
    #[track_caller]
    pub(crate) fn published(&self) -> &Model {
        assert_eq!(self.outcome, "published", "{self:#?}");
        self.model
            .as_ref()
            .unwrap_or_else(|| panic!("no model: {self:#?}"))
    }

    /// What became of a client that must have been invited.
    #[track_caller]
    pub(crate) fn client(&self, name: &str) -> &ClientOutcome {
        let mut clients = self.clients.iter();
        let found = clients.find(|client| client.client == name);
        found.unwrap_or_else(|| panic!("{name} was not invited: {self:#?}"))
    }

    /// What came of asking a client to evaluate the candidate.
    #[track_caller]
    pub(crate) fn evaluation(&self, name: &str) -> &Evaluation {
        let evaluation = self.client(name).evaluation.as_ref();
        evaluation.unwrap_or_else(|| panic!("{name} was not asked: {self:#?}"))
    }

    /// Fails the test unless the client's part ended so, for a reason with all of `words`.
    #[track_caller]
    pub(crate) fn expect(&self, name: &str, outcome: &str, words: &[&str]) {
        let client = self.client(name);
        let is_as_expected =
            client.outcome == outcome && words.iter().all(|words| client.reason.contains(words));
        assert!(
            is_as_expected,
            "expected {outcome} and {words:?}: {client:#?}"
        );
    }
}
