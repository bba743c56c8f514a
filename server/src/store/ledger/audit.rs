//! The audit log in the ledger: each line is written in the transaction of the deed that it tells of.

use fedmerge_common::digest::Digest;
use fedmerge_common::units::Timestamp;
use sqlx::{Row, SqliteConnection};

use crate::audit::{AuditEvent, AuditHead};
use crate::store::ledger::row::{self, DecodeRowError, damaged, integer, wrong};
use crate::store::ledger::{Ledger, LedgerError};

const TABLE: &str = "audit";
/// Lines that are read at once.
const PAGE: u64 = 1000;

/// Adds a line.
pub(super) async fn append(
    connection: &mut SqliteConnection,
    now: Timestamp,
    event: AuditEvent,
) -> Result<(), LedgerError> {
    let head = head(connection).await?;
    let line = head.next(now.to_string(), event);
    sqlx::query("INSERT INTO audit (seq, line) VALUES (?1, ?2)")
        .bind(integer("line", head.lines + 1)?)
        .bind(line)
        .execute(connection)
        .await?;
    Ok(())
}

async fn head(connection: &mut SqliteConnection) -> Result<AuditHead, LedgerError> {
    let last = sqlx::query("SELECT seq, line FROM audit ORDER BY seq DESC LIMIT 1")
        .fetch_optional(connection)
        .await?;
    let Some(row) = last else {
        return Ok(AuditHead::EMPTY);
    };
    let head = || {
        let line: &str = row.try_get("line").map_err(wrong("line"))?;
        Ok::<_, DecodeRowError>(AuditHead {
            lines: row::number(&row, "seq")?,
            digest: Some(Digest::of(line.as_bytes())),
        })
    };
    head().map_err(damaged(TABLE))
}

impl Ledger {
    /// Writes down what was done to files of the server.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn note(&self, now: Timestamp, event: AuditEvent) -> Result<(), LedgerError> {
        let mut transaction = self.begin().await?;
        append(&mut transaction, now, event).await?;
        Ok(transaction.commit().await?)
    }

    /// The texts of some lines that follow on line `after`, in order; none where there are no more.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn audit_lines(&self, after: u64) -> Result<Vec<String>, LedgerError> {
        let rows = sqlx::query("SELECT line FROM audit WHERE seq > ?1 ORDER BY seq LIMIT ?2")
            .bind(integer("line", after)?)
            .bind(integer("lines", PAGE)?)
            .fetch_all(&self.readers)
            .await?;
        let line = |row: &sqlx::sqlite::SqliteRow| row.try_get("line").map_err(wrong("line"));
        let lines: Result<_, _> = rows.iter().map(line).collect();
        lines.map_err(damaged(TABLE))
    }

    /// The number of the last line; 0 where there is none.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn audit_count(&self) -> Result<u64, LedgerError> {
        let mut connection = self.readers.acquire().await?;
        Ok(head(&mut connection).await?.lines)
    }
}
