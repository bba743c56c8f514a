//! Published models in the ledger. A version that was published never changes.

use std::collections::BTreeMap;

use fedmerge_common::digest::Digest;
use fedmerge_common::ids::{ModelVersion, RoundNumber};
use fedmerge_common::rollback::Rollback;
use fedmerge_common::units::Timestamp;
use fedmerge_common::update::ModelRef;
use fedmerge_coordinator::Score;
use sqlx::sqlite::SqliteRow;

use crate::audit::AuditEvent;
use crate::store::ledger::audit;
use crate::store::ledger::row::{self, DecodeRowError, damaged, integer, moment, to_json};
use crate::store::ledger::{Ledger, LedgerError};

const TABLE: &str = "models";

/// A published model.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredModel {
    /// Which one.
    pub model: ModelRef,
    /// The base it was merged from; absent for the one that the federation began with.
    pub parent: Option<Digest>,
    /// The round that produced it; absent for the one that the federation began with.
    pub round: Option<RoundNumber>,
    /// When.
    pub published: Timestamp,
    /// That it is an older model again, where it is one.
    pub rollback: Option<Rollback>,
    /// How good it is, where clients measured it.
    pub score: Option<Score>,
    /// When its files were removed; absent while they are there.
    pub removed: Option<Timestamp>,
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
        rollback: row::optional_json(row, "rollback")?,
        score: row::optional_json(row, "score")?,
        removed: row::optional_number(row, "removed")?.map(Timestamp::new),
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
            "INSERT INTO models (version, digest, size_bytes, parent, round, published, rollback, score) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )
        .bind(version)
        .bind(model.digest.to_string())
        .bind(integer("model size", model.size_bytes)?)
        .bind(stored.parent.map(|parent| parent.to_string()))
        .bind(round.transpose()?)
        .bind(moment("time", stored.published)?)
        .bind(stored.rollback.as_ref().map(to_json))
        .bind(stored.score.as_ref().map(to_json))
        .execute(&mut *transaction)
        .await?;
        let event = match &stored.rollback {
            Some(rollback) => AuditEvent::ModelRolledBack {
                model: *model,
                of: rollback.of,
                reason: rollback.reason.clone(),
            },
            None => AuditEvent::ModelPublished {
                model: *model,
                parent: stored.parent,
            },
        };
        audit::append(&mut transaction, stored.published, event).await?;
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

    /// The rollbacks that were published, by the version that each made.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn rollbacks(&self) -> Result<BTreeMap<ModelVersion, Rollback>, LedgerError> {
        let rows = sqlx::query("SELECT * FROM models WHERE rollback IS NOT NULL")
            .fetch_all(&self.readers)
            .await?;
        let mut rollbacks = BTreeMap::new();
        for row in &rows {
            let stored = decode(row).map_err(damaged(TABLE))?;
            rollbacks.extend(stored.rollback.map(|found| (stored.model.version, found)));
        }
        Ok(rollbacks)
    }

    /// Notes that the files of these models are gone, or about to be.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn note_removed(
        &self,
        versions: impl IntoIterator<Item = ModelVersion>,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let mut transaction = self.begin().await?;
        for version in versions {
            sqlx::query("UPDATE models SET removed = ?2 WHERE version = ?1 AND removed IS NULL")
                .bind(integer("version", version.get())?)
                .bind(moment("time", now)?)
                .execute(&mut *transaction)
                .await?;
        }
        Ok(transaction.commit().await?)
    }

    /// The newest model with this content whose files are there.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn model_by_digest(
        &self,
        digest: &Digest,
    ) -> Result<Option<StoredModel>, LedgerError> {
        let row =
            sqlx::query("SELECT * FROM models WHERE digest = ?1 AND removed IS NULL ORDER BY version DESC LIMIT 1")
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
