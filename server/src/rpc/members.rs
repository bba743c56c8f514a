//! Who is enrolled, as the access table asks it of the ledger.

use fedmerge_common::clock::Clock;
use fedmerge_common::failure::explain;
use fedmerge_common::ids::ClientId;
use fedmerge_proto::status::{Refusal, RefusalReason};

use super::access::Members;
use crate::listener::Peer;
use crate::store::ledger::{Ledger, ShownKey};

/// The ledger's clients.
#[derive(Debug, Clone)]
pub struct LedgerMembers {
    /// Where they are.
    pub ledger: Ledger,
    /// The server's clock.
    pub clock: Clock,
}

impl Members for LedgerMembers {
    async fn recognise(
        &self,
        client: &ClientId,
        key: [u8; 32],
        peer: &Peer,
    ) -> Result<(), Refusal> {
        let shown = ShownKey {
            key,
            connected: peer.since,
            now: self.clock.now(),
        };
        let recognised = self.ledger.recognise(client, shown).await;
        let recognised = recognised.map_err(|error| {
            let error = explain(&error);
            tracing::error!(%client, error, "the ledger cannot tell whether a client is enrolled");
            Refusal::new(
                RefusalReason::Internal,
                "the server cannot read its list of clients",
            )
        })?;
        Ok(recognised?)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use fedmerge_common::units::Timestamp;

    use super::*;
    use crate::listener::Door;

    #[tokio::test]
    async fn a_broken_ledger_lets_no_client_through() {
        let root = tempfile::tempdir().unwrap();
        let members = LedgerMembers {
            ledger: Ledger::open(&root.path().join("ledger")).await.unwrap(),
            clock: Clock::with_offset(0),
        };
        let peer = Peer {
            address: "127.0.0.1:1".parse().unwrap(),
            certificate: None,
            since: Timestamp::new(0),
            door: Door::Clients,
        };
        let ward = "ward-3".parse().unwrap();
        let recognised = || async { members.recognise(&ward, [7; 32], &peer).await };
        let unknown = recognised().await.unwrap_err();
        assert_eq!(unknown.reason, RefusalReason::ClientUnknown);
        members.ledger.close().await;
        let broken = recognised().await.unwrap_err();
        assert_eq!(broken.reason, RefusalReason::Internal);
    }
}
