//! Admitting a client: the token is checked, its use counted and the client entered in one transaction, so that a token
//! of five uses admits five whatever happens at once.

use std::fmt;

use fedmerge_common::hex;
use fedmerge_common::ids::{ClientId, TokenId};
use fedmerge_common::units::Timestamp;
use fedmerge_proto::status::{Refusal, RefusalReason};
use sqlx::SqliteConnection;
use subtle::ConstantTimeEq;

use crate::audit::AuditEvent;
use crate::store::ledger::audit;
use crate::store::ledger::clients::{self, ClientState, EnrolledClient};
use crate::store::ledger::member_refusal::MemberRefusal;
use crate::store::ledger::members;
use crate::store::ledger::tokens::{self, TokenRow};
use crate::store::ledger::{Ledger, LedgerError};

/// The wish of a machine to become a client.
#[derive(Clone, PartialEq, Eq)]
pub struct Admission {
    /// Public part of the token it shows.
    pub token: TokenId,
    /// SHA-256 of the secret it shows.
    pub secret_hash: [u8; 32],
    /// The name it wants.
    pub client: ClientId,
    /// SHA-256 of its public key.
    pub key: [u8; 32],
    /// The time of the wish.
    pub now: Timestamp,
    /// When the certificate that it gets will end.
    pub until: Timestamp,
    /// Most clients that the federation takes.
    pub max_clients: usize,
}

impl fmt::Debug for Admission {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Admission")
            .field("token", &self.token)
            .field("client", &self.client)
            .field("now", &self.now)
            .field("max_clients", &self.max_clients)
            .finish_non_exhaustive()
    }
}

/// Why a machine is not admitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionRefusal {
    /// No such token, or another secret: which of them is not told.
    #[error("there is no such token, or its secret is wrong")]
    TokenUnknown,
    /// A person took the token back.
    #[error("token `{token}` was revoked")]
    TokenRevoked {
        /// The token.
        token: TokenId,
    },
    /// The token's life is over.
    #[error("token `{token}` expired at {expired}")]
    TokenExpired {
        /// The token.
        token: TokenId,
        /// When.
        expired: Timestamp,
    },
    /// The token admitted as many as it may.
    #[error("token `{token}` is used {used} of {uses} times")]
    TokenUsedUp {
        /// The token.
        token: TokenId,
        /// Clients admitted.
        used: u32,
        /// Clients that it admits.
        uses: u32,
    },
    /// Another machine has the name.
    #[error("another machine is enrolled as `{client}`")]
    NameTaken {
        /// The name.
        client: ClientId,
    },
    /// The federation takes no more clients.
    #[error("the federation has {clients} clients, its limit is {limit}")]
    TooManyClients {
        /// Clients enrolled.
        clients: usize,
        /// Clients allowed.
        limit: usize,
    },
    /// The client's standing speaks against it, whatever its token.
    #[error(transparent)]
    Member(#[from] MemberRefusal),
}

impl From<AdmissionRefusal> for Refusal {
    fn from(refusal: AdmissionRefusal) -> Self {
        let reason = match &refusal {
            AdmissionRefusal::Member(refusal) => return refusal.clone().into(),
            AdmissionRefusal::TokenUnknown => RefusalReason::TokenUnknown,
            AdmissionRefusal::TokenRevoked { .. } => RefusalReason::TokenRevoked,
            AdmissionRefusal::TokenExpired { .. } => RefusalReason::TokenExpired,
            AdmissionRefusal::TokenUsedUp { .. } => RefusalReason::TokenUsedUp,
            AdmissionRefusal::NameTaken { .. } => RefusalReason::NameTaken,
            AdmissionRefusal::TooManyClients { .. } => RefusalReason::TooLarge,
        };
        Self::new(reason, refusal)
    }
}

enum Verdict {
    /// A new client.
    Admit(TokenRow),
    /// The same machine again: its answer was lost, or it has waited for a person.
    Known(EnrolledClient),
    Refuse(AdmissionRefusal),
}

impl Ledger {
    /// Checks the token, counts a use of it and enters the client: all of it, or nothing.
    ///
    /// A machine that comes again with its name, its key and the right secret is admitted without another use, also when
    /// the token is used up or expired meanwhile; not when it was revoked. Where a person has to approve it, it is entered and
    /// told to come again.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn admit(
        &self,
        admission: &Admission,
    ) -> Result<Result<EnrolledClient, AdmissionRefusal>, LedgerError> {
        let mut transaction = self.begin().await?;
        clients::remove_ephemeral(&mut transaction, admission.now).await?;
        let client = match judge(&mut transaction, admission).await? {
            Verdict::Admit(token) => {
                count_use(&mut transaction, &token).await?;
                let client = new_client(admission, token);
                let enrolled = AuditEvent::ClientEnrolled {
                    client: client.id.clone(),
                    token: client.token.clone(),
                    key_sha256: hex::encode(&client.key),
                    state: client.state.to_string(),
                };
                audit::append(&mut transaction, admission.now, enrolled).await?;
                client
            }
            Verdict::Known(client) => client,
            Verdict::Refuse(refusal) => return Ok(Err(refusal)),
        };
        let admitted = client.admitted();
        let client = EnrolledClient {
            until: match admitted {
                Ok(()) => client.until.max(Some(admission.until)),
                Err(_) => client.until,
            },
            ..client
        };
        clients::put(&mut transaction, &client).await?;
        transaction.commit().await?;
        Ok(admitted.map(|()| client).map_err(AdmissionRefusal::from))
    }
}

/// Judges the token before anything else: who has none learns nothing about names.
async fn judge(
    connection: &mut SqliteConnection,
    admission: &Admission,
) -> Result<Verdict, LedgerError> {
    let token = tokens::find(connection, &admission.token).await?;
    let shown = &admission.secret_hash;
    let Some(token) = token.filter(|token| token.secret_hash.ct_eq(shown).into()) else {
        return Ok(Verdict::Refuse(AdmissionRefusal::TokenUnknown));
    };
    if token.is_revoked {
        let token = token.id;
        return Ok(Verdict::Refuse(AdmissionRefusal::TokenRevoked { token }));
    }
    let namesake = clients::find(connection, &admission.client).await?;
    if let Some(client) = &namesake
        && client.key == admission.key
        && client.token.is_some()
    {
        return Ok(Verdict::Known(client.clone()));
    }
    let (client, key) = (&admission.client, &admission.key);
    if let Some(refusal) = members::refuse_retired(connection, client, key).await? {
        return Ok(Verdict::Refuse(refusal.into()));
    }
    if token.expires <= admission.now {
        return Ok(Verdict::Refuse(AdmissionRefusal::TokenExpired {
            token: token.id,
            expired: token.expires,
        }));
    }
    if token.used >= token.uses {
        return Ok(Verdict::Refuse(AdmissionRefusal::TokenUsedUp {
            token: token.id,
            used: token.used,
            uses: token.uses,
        }));
    }
    if let Some(client) = namesake {
        let client = client.id;
        return Ok(Verdict::Refuse(AdmissionRefusal::NameTaken { client }));
    }
    let clients = clients::count(connection).await?;
    if clients >= admission.max_clients {
        let limit = admission.max_clients;
        return Ok(Verdict::Refuse(AdmissionRefusal::TooManyClients {
            clients,
            limit,
        }));
    }
    Ok(Verdict::Admit(token))
}

async fn count_use(connection: &mut SqliteConnection, token: &TokenRow) -> Result<(), LedgerError> {
    sqlx::query("UPDATE tokens SET used = used + 1 WHERE id = ?1")
        .bind(token.id.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

fn new_client(admission: &Admission, token: TokenRow) -> EnrolledClient {
    EnrolledClient {
        id: admission.client.clone(),
        key: admission.key,
        next_key: None,
        enrolled: admission.now,
        labels: token.labels,
        token: Some(token.id),
        state: if token.needs_approval {
            ClientState::Waiting
        } else {
            ClientState::Admitted
        },
        is_ephemeral: token.is_ephemeral,
        renewals: 0,
        rejections: 0,
        counted_round: 0,
        until: None,
    }
}
