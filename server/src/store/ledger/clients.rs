//! Enrolled clients in the ledger. Only an admission enters one.

use std::collections::BTreeMap;

use fedmerge_common::ids::{ClientId, TokenId};
use fedmerge_common::units::Timestamp;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use crate::store::ledger::row::{self, DecodeRowError, damaged, moment, to_json};
use crate::store::ledger::{Ledger, LedgerError};

const TABLE: &str = "clients";

/// A client that was admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolledClient {
    /// Its name.
    pub id: ClientId,
    /// SHA-256 of its public key.
    pub key: [u8; 32],
    /// When it was admitted.
    pub enrolled: Timestamp,
    /// Labels of the token that admitted it.
    pub labels: BTreeMap<String, String>,
    /// The token that admitted it.
    pub token: TokenId,
}

fn decode(row: &SqliteRow) -> Result<EnrolledClient, DecodeRowError> {
    Ok(EnrolledClient {
        id: row::text(row, "id")?,
        key: row::bytes(row, "key")?,
        enrolled: row::timestamp(row, "enrolled")?,
        labels: row::json(row, "labels")?,
        token: row::text(row, "token")?,
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

/// How many clients there are.
pub(super) async fn count(connection: &mut SqliteConnection) -> Result<usize, LedgerError> {
    let row = sqlx::query("SELECT count(*) AS clients FROM clients")
        .fetch_one(connection)
        .await?;
    row::number(&row, "clients").map_err(damaged(TABLE))
}

/// Enters a client that is not there.
pub(super) async fn enter(
    connection: &mut SqliteConnection,
    client: &EnrolledClient,
) -> Result<(), LedgerError> {
    sqlx::query(
        "INSERT INTO clients (id, key, enrolled, labels, token) VALUES (?1, ?2, ?3, ?4, ?5)",
    )
    .bind(client.id.as_str())
    .bind(client.key.as_slice())
    .bind(moment("time", client.enrolled)?)
    .bind(to_json(&client.labels))
    .bind(client.token.as_str())
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
