//! Who is enrolled, as the access table asks it of the ledger.

use fedmerge_common::clock::Clock;
use fedmerge_common::failure::explain;
use fedmerge_common::identity::{Issuer, PeerCertificate};
use fedmerge_common::ids::ClientId;
use fedmerge_proto::status::Refusal;

use super::access::Members;
use crate::listener::Peer;
use crate::store::ledger::{AdmissionRefusal, Ledger, LedgerError, ShownKey, SiteCertificate};

/// The ledger's clients.
#[derive(Debug, Clone)]
pub struct LedgerMembers {
    /// Where they are.
    pub ledger: Ledger,
    /// The server's clock.
    pub clock: Clock,
    /// Most clients that the federation takes.
    pub max_clients: usize,
    /// Whether a person has to approve those who come with certificates of a site's own authority.
    pub needs_approval: bool,
}

impl LedgerMembers {
    async fn standing(
        &self,
        client: &ClientId,
        certificate: &PeerCertificate,
        shown: ShownKey,
    ) -> Result<Result<(), AdmissionRefusal>, LedgerError> {
        match certificate.issuer {
            Issuer::Federation => {
                let recognised = self.ledger.recognise(client, shown).await?;
                Ok(recognised.map_err(AdmissionRefusal::from))
            }
            Issuer::Site => {
                let certificate = SiteCertificate {
                    client: client.clone(),
                    shown,
                    labels: certificate.labels.clone(),
                    until: certificate.not_after,
                    needs_approval: self.needs_approval,
                    max_clients: self.max_clients,
                };
                self.ledger.recognise_of_site(&certificate).await
            }
        }
    }
}

impl Members for LedgerMembers {
    async fn recognise(
        &self,
        client: &ClientId,
        certificate: &PeerCertificate,
        peer: &Peer,
    ) -> Result<(), Refusal> {
        let shown = ShownKey {
            issuer: certificate.issuer,
            key: certificate.public_key_sha256,
            connected: peer.since,
            now: self.clock.now(),
        };
        let recognised = self.standing(client, certificate, shown).await;
        let recognised = recognised.map_err(|error| {
            tracing::error!(%client, error = explain(&error), "the ledger cannot tell whether a client is enrolled");
            Refusal::from(error)
        })?;
        Ok(recognised?)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use fedmerge_common::identity::{Identity, Labels};
    use fedmerge_common::units::Timestamp;

    use fedmerge_proto::status::RefusalReason;

    use super::*;
    use crate::listener::Door;

    #[tokio::test]
    async fn a_broken_ledger_lets_no_client_through() {
        let root = tempfile::tempdir().unwrap();
        let members = LedgerMembers {
            ledger: Ledger::open(&root.path().join("ledger")).await.unwrap(),
            clock: Clock::with_offset(0),
            max_clients: 1,
            needs_approval: false,
        };
        let ward: ClientId = "ward-3".parse().unwrap();
        let certificate = |issuer| PeerCertificate {
            issuer,
            federation: "digits".parse().unwrap(),
            identity: Identity::Client(ward.clone()),
            labels: Labels::new(),
            not_before: Timestamp::new(0),
            not_after: Timestamp::new(1),
            serial: "01".to_owned(),
            public_key_sha256: [7; 32],
        };
        let peer = Peer {
            address: "127.0.0.1:1".parse().unwrap(),
            certificate: None,
            unnamed: None,
            since: Timestamp::new(0),
            door: Door::Clients,
        };
        let (members, peer, ward) = (&members, &peer, &ward);
        let recognised = |issuer| {
            let certificate = certificate(issuer);
            async move { members.recognise(ward, &certificate, peer).await }
        };
        let unknown = recognised(Issuer::Federation).await.unwrap_err();
        assert_eq!(unknown.reason, RefusalReason::ClientUnknown);
        assert_eq!(recognised(Issuer::Site).await, Ok(()));
        members.ledger.close().await;
        for issuer in [Issuer::Federation, Issuer::Site] {
            let broken = recognised(issuer).await.unwrap_err();
            assert_eq!(broken.reason, RefusalReason::Internal);
        }
    }
}
