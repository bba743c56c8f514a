//! Enrolled clients in the ledger. An admission enters one, or a certificate of a site's authority; `members` says what becomes of it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use fedmerge_common::ids::{ClientId, TokenId};
use fedmerge_common::units::Timestamp;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use crate::store::ledger::row::{self, DecodeRowError, damaged, integer, moment, to_json};
use crate::store::ledger::{Ledger, LedgerError};

const TABLE: &str = "clients";

/// How far a client is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientState {
    /// A person has yet to approve it.
    Waiting,
    /// It takes part.
    Admitted,
    /// Two machines showed its identity: a person has to look.
    Locked,
    /// Its updates were rejected in too many rounds in a row: a person has to look.
    Quarantined,
    /// A person evicted it, and its name with it: its certificates are a site's own authority's, which may give it others.
    Evicted,
}

impl ClientState {
    /// The state as people and the ledger see it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Admitted => "admitted",
            Self::Locked => "locked",
            Self::Quarantined => "quarantined",
            Self::Evicted => "evicted",
        }
    }
}

impl fmt::Display for ClientState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// A word that is no state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no state of a client")]
pub struct ParseClientStateError(String);

impl FromStr for ClientState {
    type Err = ParseClientStateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [
            Self::Waiting,
            Self::Admitted,
            Self::Locked,
            Self::Quarantined,
            Self::Evicted,
        ]
        .into_iter()
        .find(|state| state.as_str() == text)
        .ok_or_else(|| ParseClientStateError(text.to_owned()))
    }
}

/// A client that has enrolled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolledClient {
    /// Its name.
    pub id: ClientId,
    /// SHA-256 of its public key.
    pub key: [u8; 32],
    /// That of the key of a certificate that it was given and has not shown yet.
    pub next_key: Option<[u8; 32]>,
    /// When it enrolled.
    pub enrolled: Timestamp,
    /// Labels of the token that admitted it, or of its certificate.
    pub labels: BTreeMap<String, String>,
    /// The token that admitted it; none where it came with a certificate of a site's own authority.
    pub token: Option<TokenId>,
    /// How far it is in.
    pub state: ClientState,
    /// Whether it is struck off when its certificate ends.
    pub is_ephemeral: bool,
    /// How often a newer key has taken the place of an older one.
    pub renewals: u64,
    /// Rounds in a row in which its update was rejected.
    pub rejections: u32,
    /// The last round that is in that number; 0 before the first.
    pub counted_round: u64,
    /// End of its newest certificate; none where it has had none, or enrolled before ends were written down.
    pub until: Option<Timestamp>,
}

fn decode(row: &SqliteRow) -> Result<EnrolledClient, DecodeRowError> {
    Ok(EnrolledClient {
        id: row::text(row, "id")?,
        key: row::bytes(row, "key")?,
        next_key: row::optional_bytes(row, "next_key")?,
        enrolled: row::timestamp(row, "enrolled")?,
        labels: row::json(row, "labels")?,
        token: row::optional_text(row, "token")?,
        state: row::text(row, "state")?,
        is_ephemeral: row::flag(row, "is_ephemeral")?,
        renewals: row::number(row, "renewals")?,
        rejections: row::number(row, "rejections")?,
        counted_round: row::number(row, "counted_round")?,
        until: row::optional_number(row, "until")?.map(Timestamp::new),
    })
}

/// The client with this name.
pub(super) async fn find(
    connection: &mut SqliteConnection,
    id: &ClientId,
) -> Result<Option<EnrolledClient>, LedgerError> {
    let row = sqlx::query("SELECT * FROM clients WHERE id = ?1")
        .bind(id.as_str())
        .fetch_optional(connection)
        .await?;
    let client = row.map(|row| decode(&row)).transpose();
    client.map_err(damaged(TABLE))
}

/// How many clients there are, those left out that were evicted.
pub(super) async fn count(connection: &mut SqliteConnection) -> Result<usize, LedgerError> {
    let row = sqlx::query("SELECT count(*) AS clients FROM clients WHERE state != 'evicted'")
        .fetch_one(connection)
        .await?;
    row::number(&row, "clients").map_err(damaged(TABLE))
}

/// Writes a client down, in the place of what was known of it.
pub(super) async fn put(
    connection: &mut SqliteConnection,
    client: &EnrolledClient,
) -> Result<(), LedgerError> {
    let until = client.until.map(|until| moment("time", until));
    sqlx::query(
        "INSERT OR REPLACE INTO clients \
         (id, key, next_key, enrolled, labels, token, state, is_ephemeral, renewals, until, rejections, counted_round) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )
    .bind(client.id.as_str())
    .bind(client.key.as_slice())
    .bind(client.next_key.as_ref().map(<[u8; 32]>::as_slice))
    .bind(moment("time", client.enrolled)?)
    .bind(to_json(&client.labels))
    .bind(client.token.as_ref().map(TokenId::as_str))
    .bind(client.state.as_str())
    .bind(client.is_ephemeral)
    .bind(integer("renewals", client.renewals)?)
    .bind(until.transpose()?)
    .bind(client.rejections)
    .bind(integer("round", client.counted_round)?)
    .execute(connection)
    .await?;
    Ok(())
}

/// Strikes a client off.
pub(super) async fn remove(
    connection: &mut SqliteConnection,
    id: &ClientId,
) -> Result<(), LedgerError> {
    sqlx::query("DELETE FROM clients WHERE id = ?1")
        .bind(id.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

/// Strikes those off that were to stay no longer than their certificates.
pub(super) async fn remove_ephemeral(
    connection: &mut SqliteConnection,
    now: Timestamp,
) -> Result<(), LedgerError> {
    sqlx::query("DELETE FROM clients WHERE is_ephemeral = 1 AND until <= ?1")
        .bind(moment("time", now)?)
        .execute(connection)
        .await?;
    Ok(())
}

impl Ledger {
    /// The client with this name.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn client(&self, id: &ClientId) -> Result<Option<EnrolledClient>, LedgerError> {
        let mut connection = self.readers.acquire().await?;
        find(&mut connection, id).await
    }

    /// Every client, in the order of names.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn clients(&self) -> Result<Vec<EnrolledClient>, LedgerError> {
        let rows = sqlx::query("SELECT * FROM clients ORDER BY id")
            .fetch_all(&self.readers)
            .await?;
        let clients: Result<_, _> = rows.iter().map(decode).collect();
        clients.map_err(damaged(TABLE))
    }
}
