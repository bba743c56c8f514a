//! Tokens in the ledger: who may enrol how often and until when. Secrets are here as hashes alone.

use std::collections::BTreeMap;
use std::fmt;

use fedmerge_common::ids::TokenId;
use fedmerge_common::units::Timestamp;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use crate::audit::AuditEvent;
use crate::store::ledger::audit;
use crate::store::ledger::row::{self, DecodeRowError, damaged, moment, to_json};
use crate::store::ledger::{Ledger, LedgerError};

const TABLE: &str = "tokens";

/// A token.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// Its public part.
    pub id: TokenId,
    /// SHA-256 of its secret part.
    pub secret_hash: [u8; 32],
    /// How many clients it admits.
    pub uses: u32,
    /// How many it has admitted.
    pub used: u32,
    /// When it was made.
    pub created: Timestamp,
    /// When its life is over.
    pub expires: Timestamp,
    /// Whether a person took it back.
    pub is_revoked: bool,
    /// What its clients are labelled with.
    pub labels: BTreeMap<String, String>,
    /// Whether a person has to approve each client.
    pub needs_approval: bool,
    /// Whether its clients are struck off when their certificates end.
    pub is_ephemeral: bool,
}

impl fmt::Debug for TokenRow {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TokenRow")
            .field("id", &self.id)
            .field("uses", &self.uses)
            .field("used", &self.used)
            .field("created", &self.created)
            .field("expires", &self.expires)
            .field("is_revoked", &self.is_revoked)
            .field("labels", &self.labels)
            .field("needs_approval", &self.needs_approval)
            .field("is_ephemeral", &self.is_ephemeral)
            .finish_non_exhaustive()
    }
}

/// What became of the wish to revoke a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// It admits nobody any more.
    Revoked,
    /// It was revoked before.
    AlreadyRevoked,
    /// There is no such token.
    Unknown,
}

fn decode(row: &SqliteRow) -> Result<TokenRow, DecodeRowError> {
    Ok(TokenRow {
        id: row::text(row, "id")?,
        secret_hash: row::bytes(row, "secret_hash")?,
        uses: row::number(row, "uses")?,
        used: row::number(row, "used")?,
        created: row::timestamp(row, "created")?,
        expires: row::timestamp(row, "expires")?,
        is_revoked: row::flag(row, "is_revoked")?,
        labels: row::json(row, "labels")?,
        needs_approval: row::flag(row, "needs_approval")?,
        is_ephemeral: row::flag(row, "is_ephemeral")?,
    })
}

/// The token with this public part.
pub(super) async fn find(
    connection: &mut SqliteConnection,
    id: &TokenId,
) -> Result<Option<TokenRow>, LedgerError> {
    let row = sqlx::query("SELECT * FROM tokens WHERE id = ?1")
        .bind(id.as_str())
        .fetch_optional(connection)
        .await?;
    let token = row.map(|row| decode(&row)).transpose();
    token.map_err(damaged(TABLE))
}

impl Ledger {
    /// Adds a token.
    ///
    /// # Errors
    /// When one with the same public part is there, or the ledger cannot be written.
    pub async fn add_token(&self, token: &TokenRow) -> Result<(), LedgerError> {
        let mut transaction = self.begin().await?;
        if find(&mut transaction, &token.id).await?.is_some() {
            return Err(LedgerError::Conflict {
                what: format!("token `{}` is there already", token.id),
            });
        }
        sqlx::query(
            "INSERT INTO tokens (id, secret_hash, uses, used, created, expires, is_revoked, labels, \
             needs_approval, is_ephemeral) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )
        .bind(token.id.as_str())
        .bind(token.secret_hash.as_slice())
        .bind(token.uses)
        .bind(token.used)
        .bind(moment("time", token.created)?)
        .bind(moment("time", token.expires)?)
        .bind(token.is_revoked)
        .bind(to_json(&token.labels))
        .bind(token.needs_approval)
        .bind(token.is_ephemeral)
        .execute(&mut *transaction)
        .await?;
        let created = AuditEvent::TokenCreated {
            token: token.id.clone(),
            uses: token.uses,
            expires: token.expires.to_string(),
            labels: token.labels.clone(),
        };
        audit::append(&mut transaction, token.created, created).await?;
        Ok(transaction.commit().await?)
    }

    /// Every token, the oldest first.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn tokens(&self) -> Result<Vec<TokenRow>, LedgerError> {
        let rows = sqlx::query("SELECT * FROM tokens ORDER BY created, id")
            .fetch_all(&self.readers)
            .await?;
        let tokens: Result<_, _> = rows.iter().map(decode).collect();
        tokens.map_err(damaged(TABLE))
    }

    /// Takes a token back: it admits nobody any more. Clients that it admitted stay.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn revoke_token(
        &self,
        id: &TokenId,
        now: Timestamp,
    ) -> Result<Revocation, LedgerError> {
        let mut transaction = self.begin().await?;
        let Some(token) = find(&mut transaction, id).await? else {
            return Ok(Revocation::Unknown);
        };
        if token.is_revoked {
            return Ok(Revocation::AlreadyRevoked);
        }
        sqlx::query("UPDATE tokens SET is_revoked = 1 WHERE id = ?1")
            .bind(id.as_str())
            .execute(&mut *transaction)
            .await?;
        let token = id.clone();
        audit::append(&mut transaction, now, AuditEvent::TokenRevoked { token }).await?;
        transaction.commit().await?;
        Ok(Revocation::Revoked)
    }
}
