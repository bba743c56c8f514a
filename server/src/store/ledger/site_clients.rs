//! Clients that come with certificates of a site's own authority: the first that shows one is entered, without a token.
//!
//! Their keys follow one another as the authority likes, and retire as all keys do: whoever comes back with an older one is another
//! machine.

use fedmerge_common::hex;
use fedmerge_common::identity::Labels;
use fedmerge_common::ids::ClientId;
use fedmerge_common::units::{Millis, Timestamp};
use sqlx::SqliteConnection;

use crate::audit::AuditEvent;
use crate::store::ledger::audit;
use crate::store::ledger::clients::{self, ClientState, EnrolledClient};
use crate::store::ledger::member_refusal::MemberRefusal;
use crate::store::ledger::members::{self, ShownKey};
use crate::store::ledger::{AdmissionRefusal, Ledger, LedgerError};

/// Between two new keys of a client.
const SPACING: Millis = Millis::from_secs(60);

/// A certificate of a site's own authority, shown on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteCertificate {
    /// Whom it names.
    pub client: ClientId,
    /// Its key.
    pub shown: ShownKey,
    /// What its owner is labelled with.
    pub labels: Labels,
    /// When it ends.
    pub until: Timestamp,
    /// Whether a person has to approve whoever comes for the first time.
    pub needs_approval: bool,
    /// Most clients that the federation takes.
    pub max_clients: usize,
}

impl SiteCertificate {
    /// Whether this certificate is the one that was seen last.
    fn is_of(&self, known: &EnrolledClient) -> bool {
        let came_by_it = known.token.is_none() && known.key == self.shown.key;
        came_by_it && known.labels == self.labels && known.until == Some(self.until)
    }
}

impl Ledger {
    /// Whether a client takes part under a certificate of a site's own authority; enters it where it comes for the first time.
    ///
    /// # Errors
    /// When the ledger cannot be read or written.
    pub async fn recognise_of_site(
        &self,
        certificate: &SiteCertificate,
    ) -> Result<Result<(), AdmissionRefusal>, LedgerError> {
        let known = self.client(&certificate.client).await?;
        if let Some(known) = &known
            && known.state != ClientState::Evicted
            && certificate.is_of(known)
        {
            return Ok(known.admitted().map_err(AdmissionRefusal::from));
        }
        let mut transaction = self.begin().await?;
        let standing = stand(&mut transaction, certificate).await?;
        transaction.commit().await?;
        Ok(standing)
    }
}

async fn stand(
    connection: &mut SqliteConnection,
    certificate: &SiteCertificate,
) -> Result<Result<(), AdmissionRefusal>, LedgerError> {
    let client = &certificate.client;
    match clients::find(connection, client).await? {
        None => enter(connection, certificate).await,
        Some(known) if known.token.is_some() => {
            let client = client.clone();
            Ok(Err(AdmissionRefusal::NameTaken { client }))
        }
        Some(known) => {
            let shown = certificate.shown;
            if let Some(wait) = too_soon(connection, &known, shown).await? {
                let client = client.clone();
                return Ok(Err(MemberRefusal::TooSoon { client, wait }.into()));
            }
            seen(connection, certificate).await
        }
    }
}

/// How long a client has to wait whose authority gives it one key after another: each leaves lines in the ledger for ever.
async fn too_soon(
    connection: &mut SqliteConnection,
    known: &EnrolledClient,
    shown: ShownKey,
) -> Result<Option<Millis>, LedgerError> {
    if known.state != ClientState::Admitted || known.key == shown.key {
        return Ok(None);
    }
    // A key that was used up is another machine's, which is told apart from one that comes too soon.
    let (client, key) = (&known.id, &shown.key);
    if members::refuse_retired(connection, client, key)
        .await?
        .is_some()
    {
        return Ok(None);
    }
    let used = members::last_used(connection, &known.id).await?;
    let used = used.filter(|used| shown.connected >= *used && shown.now < *used + SPACING);
    Ok(used.map(|used| used + SPACING - shown.now))
}

/// The client under the key that it shows now.
async fn seen(
    connection: &mut SqliteConnection,
    certificate: &SiteCertificate,
) -> Result<Result<(), AdmissionRefusal>, LedgerError> {
    let client = &certificate.client;
    match members::stand(connection, client, certificate.shown).await? {
        // An older connection of an older key may end in peace, and says nothing new.
        Ok(known) if known.key != certificate.shown.key => Ok(Ok(())),
        Ok(known) => {
            let seen = EnrolledClient {
                labels: certificate.labels.clone(),
                until: Some(certificate.until),
                ..known
            };
            clients::put(connection, &seen).await?;
            Ok(Ok(()))
        }
        Err(refusal) => Ok(Err(refusal.into())),
    }
}

async fn enter(
    connection: &mut SqliteConnection,
    certificate: &SiteCertificate,
) -> Result<Result<(), AdmissionRefusal>, LedgerError> {
    let SiteCertificate {
        client,
        shown: ShownKey { key, now, .. },
        ..
    } = certificate;
    clients::remove_ephemeral(connection, *now).await?;
    if let Some(refusal) = members::refuse_retired(connection, client, key).await? {
        return Ok(Err(refusal.into()));
    }
    let (clients, limit) = (clients::count(connection).await?, certificate.max_clients);
    if clients >= limit {
        return Ok(Err(AdmissionRefusal::TooManyClients { clients, limit }));
    }
    let entered = EnrolledClient {
        id: client.clone(),
        key: *key,
        next_key: None,
        enrolled: *now,
        labels: certificate.labels.clone(),
        token: None,
        state: if certificate.needs_approval {
            ClientState::Waiting
        } else {
            ClientState::Admitted
        },
        is_ephemeral: false,
        renewals: 0,
        rejections: 0,
        counted_round: 0,
        until: Some(certificate.until),
    };
    clients::put(connection, &entered).await?;
    let event = AuditEvent::ClientEnrolled {
        client: client.clone(),
        token: None,
        key_sha256: hex::encode(key),
        state: entered.state.to_string(),
    };
    audit::append(connection, *now, event).await?;
    Ok(entered.admitted().map_err(AdmissionRefusal::from))
}
