//! Published models in the ledger. A version that was published never changes.

use fedmerge_common::digest::Digest;
use fedmerge_common::ids::{ModelVersion, RoundNumber};
use fedmerge_common::units::Timestamp;
use fedmerge_common::update::ModelRef;
use sqlx::sqlite::SqliteRow;

use crate::store::ledger::row::{self, DecodeRowError, damaged, integer, moment};
use crate::store::ledger::{Ledger, LedgerError};

const TABLE: &str = "models";

/// A published model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredModel {
    /// Which one.
    pub model: ModelRef,
    /// The base it was merged from; absent for the one that the federation began with.
    pub parent: Option<Digest>,
    /// The round that produced it; absent for the one that the federation began with.
    pub round: Option<RoundNumber>,
    /// When.
    pub published: Timestamp,
}

fn decode(row: &SqliteRow) -> Result<StoredModel, DecodeRowError> {
    Ok(StoredModel {
        model: ModelRef {
            version: ModelVersion::new(row::number(row, "version")?),
            digest: row::text(row, "digest")?,
            size_bytes: row::number(row, "size_bytes")?,
        },
        parent: row::optional_text(row, "parent")?,
        round: row::optional_number(row, "round")?.map(RoundNumber::new),
        published: row::timestamp(row, "published")?,
    })
}

impl Ledger {
    /// Makes a model a fact. Publishing the same content again changes nothing.
    ///
    /// # Errors
    /// When the version has other content already, or the ledger cannot be written.
    pub async fn publish(&self, stored: &StoredModel) -> Result<(), LedgerError> {
        let model = &stored.model;
        let version = integer("version", model.version.get())?;
        let mut transaction = self.begin().await?;
        let before = sqlx::query("SELECT * FROM models WHERE version = ?1")
            .bind(version)
            .fetch_optional(&mut *transaction)
            .await?;
        if let Some(row) = before {
            let before = decode(&row).map_err(damaged(TABLE))?;
            transaction.rollback().await?;
            return same_content(&before.model, model);
        }
        let round = stored.round.map(|round| integer("round", round.get()));
        sqlx::query(
            "INSERT INTO models (version, digest, size_bytes, parent, round, published) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )
        .bind(version)
        .bind(model.digest.to_string())
        .bind(integer("model size", model.size_bytes)?)
        .bind(stored.parent.map(|parent| parent.to_string()))
        .bind(round.transpose()?)
        .bind(moment("time", stored.published)?)
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// The model of this version.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn model(&self, version: ModelVersion) -> Result<Option<StoredModel>, LedgerError> {
        let row = sqlx::query("SELECT * FROM models WHERE version = ?1")
            .bind(integer("version", version.get())?)
            .fetch_optional(&self.readers)
            .await?;
        let model = row.map(|row| decode(&row)).transpose();
        model.map_err(damaged(TABLE))
    }

    /// Every published model, in the order of versions.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn models(&self) -> Result<Vec<StoredModel>, LedgerError> {
        let rows = sqlx::query("SELECT * FROM models ORDER BY version")
            .fetch_all(&self.readers)
            .await?;
        let models: Result<_, _> = rows.iter().map(decode).collect();
        models.map_err(damaged(TABLE))
    }

    /// The newest model with this content.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn model_by_digest(
        &self,
        digest: &Digest,
    ) -> Result<Option<StoredModel>, LedgerError> {
        let row =
            sqlx::query("SELECT * FROM models WHERE digest = ?1 ORDER BY version DESC LIMIT 1")
                .bind(digest.to_string())
                .fetch_optional(&self.readers)
                .await?;
        let model = row.map(|row| decode(&row)).transpose();
        model.map_err(damaged(TABLE))
    }

    /// The model with the highest version.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn newest_model(&self) -> Result<Option<StoredModel>, LedgerError> {
        let row = sqlx::query("SELECT * FROM models ORDER BY version DESC LIMIT 1")
            .fetch_optional(&self.readers)
            .await?;
        let model = row.map(|row| decode(&row)).transpose();
        model.map_err(damaged(TABLE))
    }
}

fn same_content(published: &ModelRef, model: &ModelRef) -> Result<(), LedgerError> {
    if published == model {
        return Ok(());
    }
    Err(LedgerError::Conflict {
        what: format!(
            "model {} is published as {} of {} bytes, and cannot become {} of {} bytes",
            model.version, published.digest, published.size_bytes, model.digest, model.size_bytes
        ),
    })
}
