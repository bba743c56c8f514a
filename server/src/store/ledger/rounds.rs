//! The round protocol in the ledger: the coordinator's record, the stories of rounds, and notes on their merges.

use std::collections::BTreeMap;

use fedmerge_common::ids::RoundNumber;
use fedmerge_common::update::ModelRef;
use fedmerge_coordinator::{Record, RoundSummary};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use crate::audit::AuditEvent;
use crate::closed_round::ClosedClient;
use crate::store::ledger::audit;
use crate::store::ledger::row::{self, DecodeRowError, damaged, integer, to_json};
use crate::store::ledger::{Ledger, LedgerError};

/// What a merge left to tell.
#[derive(Clone, Debug, PartialEq)]
pub struct MergeNote {
    /// The round.
    pub round: RoundNumber,
    /// The model that the merge made.
    pub candidate: ModelRef,
    /// How long it took, milliseconds.
    pub elapsed_ms: u64,
    /// Its report.
    pub report: serde_json::Value,
}

/// A round that is over.
#[derive(Clone, Debug, PartialEq)]
pub struct RoundStory {
    /// What became of the round and its clients.
    pub summary: RoundSummary,
    /// How long the merge took, milliseconds; absent where it was not reached.
    pub merge_ms: Option<u64>,
}

/// Which rounds are asked for; all in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounds {
    /// From this one on.
    From(RoundNumber),
    /// So many, the newest.
    Newest(u32),
    /// This one alone.
    Only(RoundNumber),
}

impl Rounds {
    /// The first and the last number, and how many rounds at most, as SQLite understands them.
    fn bounds(self) -> Option<(i64, i64, i64)> {
        const ALL: i64 = -1;
        let sqlite = |round: RoundNumber| i64::try_from(round.get()).ok();
        match self {
            Self::From(first) => Some((sqlite(first)?, i64::MAX, ALL)),
            Self::Newest(count) => Some((0, i64::MAX, i64::from(count))),
            Self::Only(round) => Some((sqlite(round)?, sqlite(round)?, ALL)),
        }
    }
}

fn decode_story(row: &SqliteRow) -> Result<RoundStory, DecodeRowError> {
    Ok(RoundStory {
        summary: row::json(row, "summary")?,
        merge_ms: row::optional_number(row, "elapsed_ms")?,
    })
}

fn decode_merge(row: &SqliteRow) -> Result<MergeNote, DecodeRowError> {
    Ok(MergeNote {
        round: RoundNumber::new(row::number(row, "round")?),
        candidate: row::json(row, "candidate")?,
        elapsed_ms: row::number(row, "elapsed_ms")?,
        report: row::json(row, "report")?,
    })
}

/// Writes down how a round ended, the first time that this is stored.
async fn tell_closed(
    connection: &mut SqliteConnection,
    summary: &RoundSummary,
) -> Result<(), LedgerError> {
    let stored = sqlx::query("SELECT 1 FROM rounds WHERE round = ?1")
        .bind(integer("round", summary.round.get())?)
        .fetch_optional(&mut *connection)
        .await?;
    if stored.is_some() {
        return Ok(());
    }
    let mut accepted = Vec::new();
    let mut others = BTreeMap::new();
    for part in ClosedClient::of(summary) {
        match part.outcome {
            "accepted" => accepted.push(part.client),
            outcome if part.reason.is_empty() => {
                others.insert(part.client, outcome.to_owned());
            }
            outcome => {
                let words = format!("{outcome}: {}", part.reason);
                others.insert(part.client, words);
            }
        }
    }
    let event = AuditEvent::RoundClosed {
        round: summary.round,
        outcome: summary.outcome.to_string(),
        accepted,
        others,
    };
    audit::append(connection, summary.closed, event).await
}

impl Ledger {
    /// The coordinator's state as it was last stored; nothing before the first [`Ledger::commit`].
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn record(&self) -> Result<Option<Record>, LedgerError> {
        let row = sqlx::query("SELECT record FROM coordinator")
            .fetch_optional(&self.readers)
            .await?;
        row.map(|row| row::json(&row, "record"))
            .transpose()
            .map_err(damaged("coordinator"))
    }

    /// Stores the coordinator's state and the stories of rounds that closed: all of it, or nothing.
    ///
    /// # Errors
    /// When the ledger cannot be written; then it is as it was.
    pub async fn commit(
        &self,
        record: &Record,
        closed: &[RoundSummary],
    ) -> Result<(), LedgerError> {
        let mut transaction = self.begin().await?;
        sqlx::query("INSERT OR REPLACE INTO coordinator (only_row, record) VALUES (1, ?1)")
            .bind(to_json(record))
            .execute(&mut *transaction)
            .await?;
        for summary in closed {
            tell_closed(&mut transaction, summary).await?;
            sqlx::query("INSERT OR REPLACE INTO rounds (round, summary) VALUES (?1, ?2)")
                .bind(integer("round", summary.round.get())?)
                .bind(to_json(summary))
                .execute(&mut *transaction)
                .await?;
        }
        Ok(transaction.commit().await?)
    }

    /// The rounds that are over, in order. What their merges report is left unread.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn rounds(&self, wanted: Rounds) -> Result<Vec<RoundStory>, LedgerError> {
        let Some((first, last, most)) = wanted.bounds() else {
            return Ok(Vec::new());
        };
        let rows = sqlx::query(
            "SELECT summary, elapsed_ms FROM rounds LEFT JOIN merges USING (round) \
             WHERE round BETWEEN ?1 AND ?2 ORDER BY round DESC LIMIT ?3",
        )
        .bind(first)
        .bind(last)
        .bind(most)
        .fetch_all(&self.readers)
        .await?;
        let stories: Result<_, _> = rows.iter().rev().map(decode_story).collect();
        stories.map_err(damaged("rounds"))
    }

    /// How many rounds are over.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn round_count(&self) -> Result<u64, LedgerError> {
        let row = sqlx::query("SELECT count(*) AS rounds FROM rounds")
            .fetch_one(&self.readers)
            .await?;
        row::number(&row, "rounds").map_err(damaged("rounds"))
    }

    /// The last round that is over.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn last_round(&self) -> Result<Option<RoundNumber>, LedgerError> {
        let row = sqlx::query("SELECT MAX(round) AS round FROM rounds")
            .fetch_one(&self.readers)
            .await?;
        let last: Option<i64> = row.try_get("round")?;
        Ok(last
            .and_then(|last| u64::try_from(last).ok())
            .map(RoundNumber::new))
    }

    /// Keeps what a merge left to tell; a merge that was repeated replaces its note.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn note_merge(&self, note: &MergeNote) -> Result<(), LedgerError> {
        let mut transaction = self.begin().await?;
        sqlx::query(
            "INSERT OR REPLACE INTO merges (round, candidate, elapsed_ms, report) \
             VALUES (?1, ?2, ?3, ?4)",
        )
        .bind(integer("round", note.round.get())?)
        .bind(to_json(&note.candidate))
        .bind(integer("merge time", note.elapsed_ms)?)
        .bind(to_json(&note.report))
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// Σ 1/z² of the private merges of rounds before `round`: what their promises cost, whether or not their models were published.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn privacy_spent_before(&self, round: RoundNumber) -> Result<f64, LedgerError> {
        let row = sqlx::query(
            "SELECT json_extract(report, '$.privacy.spent') AS spent FROM merges \
             WHERE round < ?1 AND spent IS NOT NULL ORDER BY round DESC LIMIT 1",
        )
        .bind(i64::try_from(round.get()).unwrap_or(i64::MAX))
        .fetch_optional(&self.readers)
        .await?;
        let spent = row.map(|row| row.try_get::<f64, _>("spent"));
        Ok(spent.transpose()?.unwrap_or(0.0))
    }

    /// What the merge of `round` left to tell.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn merge_note(&self, round: RoundNumber) -> Result<Option<MergeNote>, LedgerError> {
        let Ok(round) = i64::try_from(round.get()) else {
            return Ok(None);
        };
        let row = sqlx::query("SELECT * FROM merges WHERE round = ?1")
            .bind(round)
            .fetch_optional(&self.readers)
            .await?;
        row.map(|row| decode_merge(&row))
            .transpose()
            .map_err(damaged("merges"))
    }
}
