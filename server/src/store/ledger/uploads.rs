//! Uploads in the ledger: what each client announced, so that it can go on after a restart of either end.
//!
//! A client has at most one: whoever announces another update gave the one before up. The rows, and what staging holds
//! for them, are bounded by the number of clients.

use std::collections::BTreeMap;
use std::num::ParseFloatError;

use fedmerge_common::digest::Digest;
use fedmerge_common::ids::{ClientId, RoundNumber, UploadId};
use fedmerge_common::task_vector::Encoding;
use fedmerge_common::units::Timestamp;
use fedmerge_common::update::UpdateHeader;
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;

use crate::store::ledger::row::{self, DecodeRowError, damaged, integer, moment, to_json};
use crate::store::ledger::{Ledger, LedgerError};

const TABLE: &str = "uploads";

/// An upload that began.
#[derive(Clone, Debug, PartialEq)]
pub struct UploadRow {
    /// Its name.
    pub id: UploadId,
    /// Who sends it.
    pub client: ClientId,
    /// What was announced.
    pub header: UpdateHeader,
    /// When.
    pub begun: Timestamp,
}

/// A header as it is stored. Metrics are text, because JSON's numbers have no NaN and lose a last bit.
#[derive(Serialize, Deserialize)]
struct StoredHeader {
    round: RoundNumber,
    base: Digest,
    encoding: Encoding,
    payload: Digest,
    payload_bytes: u64,
    num_examples: u64,
    metrics: BTreeMap<String, String>,
}

impl From<&UpdateHeader> for StoredHeader {
    fn from(header: &UpdateHeader) -> Self {
        let metrics = header.metrics.iter();
        Self {
            round: header.round,
            base: header.base,
            encoding: header.encoding,
            payload: header.payload,
            payload_bytes: header.payload_bytes,
            num_examples: header.num_examples,
            metrics: metrics
                .map(|(name, value)| (name.clone(), value.to_string()))
                .collect(),
        }
    }
}

impl TryFrom<StoredHeader> for UpdateHeader {
    type Error = ParseFloatError;

    fn try_from(stored: StoredHeader) -> Result<Self, Self::Error> {
        let metrics = stored.metrics.into_iter();
        Ok(Self {
            round: stored.round,
            base: stored.base,
            encoding: stored.encoding,
            payload: stored.payload,
            payload_bytes: stored.payload_bytes,
            num_examples: stored.num_examples,
            metrics: metrics
                .map(|(name, value)| Ok((name, value.parse()?)))
                .collect::<Result<_, _>>()?,
        })
    }
}

fn decode(row: &SqliteRow) -> Result<UploadRow, DecodeRowError> {
    let header: StoredHeader = row::json(row, "header")?;
    Ok(UploadRow {
        id: row::text(row, "id")?,
        client: row::text(row, "client")?,
        header: header
            .try_into()
            .map_err(row::wrong::<ParseFloatError>("header"))?,
        begun: row::timestamp(row, "begun")?,
    })
}

fn decode_id(row: &SqliteRow) -> Result<UploadId, DecodeRowError> {
    row::text(row, "id")
}

impl Ledger {
    /// Keeps what a client announced. Answers the uploads that it gave up by that: their bytes are garbage. Announcing
    /// the same again changes nothing.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn begin_upload(&self, upload: &UploadRow) -> Result<Vec<UploadId>, LedgerError> {
        let mut transaction = self.begin().await?;
        let given_up =
            sqlx::query("DELETE FROM uploads WHERE client = ?1 AND id <> ?2 RETURNING id")
                .bind(upload.client.as_str())
                .bind(upload.id.as_str())
                .fetch_all(&mut *transaction)
                .await?;
        sqlx::query(
            "INSERT INTO uploads (id, client, round, header, begun) VALUES (?1, ?2, ?3, ?4, ?5) \
             ON CONFLICT (id) DO NOTHING",
        )
        .bind(upload.id.as_str())
        .bind(upload.client.as_str())
        .bind(integer("round", upload.header.round.get())?)
        .bind(to_json(&StoredHeader::from(&upload.header)))
        .bind(moment("time", upload.begun)?)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        let given_up: Result<_, _> = given_up.iter().map(decode_id).collect();
        given_up.map_err(damaged(TABLE))
    }

    /// The upload with this name.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn upload(&self, id: &UploadId) -> Result<Option<UploadRow>, LedgerError> {
        let row = sqlx::query("SELECT * FROM uploads WHERE id = ?1")
            .bind(id.as_str())
            .fetch_optional(&self.readers)
            .await?;
        let upload = row.map(|row| decode(&row)).transpose();
        upload.map_err(damaged(TABLE))
    }

    /// Every upload, in the order of names.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn uploads(&self) -> Result<Vec<UploadRow>, LedgerError> {
        let rows = sqlx::query("SELECT * FROM uploads ORDER BY id")
            .fetch_all(&self.readers)
            .await?;
        let uploads: Result<_, _> = rows.iter().map(decode).collect();
        uploads.map_err(damaged(TABLE))
    }

    /// Forgets the uploads for `round` and those before it. Answers which they were: their bytes are garbage.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn forget_uploads_through(
        &self,
        round: RoundNumber,
    ) -> Result<Vec<UploadId>, LedgerError> {
        let mut transaction = self.begin().await?;
        let rows = sqlx::query("DELETE FROM uploads WHERE round <= ?1 RETURNING id")
            .bind(integer("round", round.get())?)
            .fetch_all(&mut *transaction)
            .await?;
        transaction.commit().await?;
        let forgotten: Result<_, _> = rows.iter().map(decode_id).collect();
        forgotten.map_err(damaged(TABLE))
    }
}
