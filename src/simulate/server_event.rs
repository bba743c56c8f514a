//! The lines that `server run --format json` prints, as far as a simulation reads them.
//!
//! Unknown events and unknown fields are skipped: the server may say more than this needs.

use std::path::PathBuf;

use fedmerge_common::digest::Digest;
use serde::Deserialize;

/// One line of the server.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(super) enum ServerEvent {
    /// Clients can connect.
    Listening {
        /// Host and port.
        address: String,
    },
    /// A round is over.
    RoundClosed(RoundClosed),
    /// The federation is over.
    Ended {
        /// Why.
        reason: String,
    },
    /// Something a simulation does not care about.
    #[serde(other)]
    Other,
}

/// A round that is over.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct RoundClosed {
    /// From 1.
    pub(super) round: u64,
    /// `published` or `abandoned`.
    pub(super) outcome: String,
    /// Why it was abandoned.
    #[serde(default)]
    pub(super) reason: String,
    /// Updates that counted.
    pub(super) accepted: usize,
    /// Updates that were refused.
    pub(super) rejected: usize,
    /// Time of the merge.
    pub(super) merge_ms: u64,
    /// From the first invitation to the end.
    pub(super) wall_ms: u64,
    /// The new base.
    #[serde(default)]
    pub(super) model: Option<PublishedModel>,
    /// What became of each client.
    #[serde(default)]
    pub(super) clients: Vec<ClientOutcome>,
}

/// A new base.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct PublishedModel {
    /// Digest of its file.
    pub(super) digest: Digest,
    /// Its file.
    pub(super) path: PathBuf,
}

/// What became of one client in a round.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct ClientOutcome {
    /// Its name.
    pub(super) client: String,
    /// `accepted`, `rejected`, `declined` or `silent`.
    pub(super) outcome: String,
    /// Why it did not count.
    #[serde(default)]
    pub(super) reason: String,
    /// Size of an update that counts, encoded.
    #[serde(default)]
    pub(super) bytes: u64,
    /// Bytes of updates that came from it since the round before, as they were on the wire.
    #[serde(default)]
    pub(super) up_bytes: u64,
    /// Bytes of models that were sent to it since then, likewise.
    #[serde(default)]
    pub(super) down_bytes: u64,
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_the_server_are_understood() {
        let listening = r#"{"event":"listening","address":"127.0.0.1:7600"}"#;
        assert_eq!(
            serde_json::from_str::<ServerEvent>(listening).unwrap(),
            ServerEvent::Listening {
                address: "127.0.0.1:7600".into()
            }
        );
        let closed = r#"{"event":"round-closed","round":3,"outcome":"abandoned","reason":"quorum","accepted":1,
            "rejected":1,"declined":0,"silent":0,"merge_ms":0,"wall_ms":410,"new_field":true,"clients":[
            {"client":"client-1","outcome":"accepted","num_examples":7},
            {"client":"client-2","outcome":"rejected","reason":"non-finite: tensor w"}]}"#;
        let ServerEvent::RoundClosed(closed) = serde_json::from_str(closed).unwrap() else {
            panic!("another event");
        };
        assert_eq!(
            (closed.round, closed.clients.len(), closed.model),
            (3, 2, None)
        );
    }

    #[test]
    fn an_event_of_a_later_version_is_skipped() {
        let event =
            serde_json::from_str::<ServerEvent>(r#"{"event":"phase-of-the-moon","full":true}"#);
        assert_eq!(event.unwrap(), ServerEvent::Other);
    }
}
