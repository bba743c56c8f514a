//! The tables of the ledger, and the steps from each version to the next.
//!
//! A step that was ever released is never changed; a new one is added at the end. The version is SQLite's
//! `user_version`, changed in the same transaction as the tables, so that two processes that open a new ledger at once
//! make it once.

use std::path::Path;

use sqlx::{Connection, SqliteConnection};

use crate::store::ledger::error::OpenLedgerError;

/// Step `n` leads from version `n` to `n + 1`, and sets it.
const STEPS: &[&str] = &[
    include_str!("../../../migrations/0001_begin.sql"),
    include_str!("../../../migrations/0002_plans.sql"),
    include_str!("../../../migrations/0003_rollbacks.sql"),
    include_str!("../../../migrations/0004_members.sql"),
    include_str!("../../../migrations/0005_site_clients.sql"),
];

/// Marks a SQLite file as a ledger: `fmrg` in ASCII.
const APPLICATION_ID: i64 = 0x666d_7267;

pub(super) async fn run(
    connection: &mut SqliteConnection,
    path: &Path,
) -> Result<(), OpenLedgerError> {
    let failed = |source| OpenLedgerError::from_database(path, source);
    let mut transaction = connection
        .begin_with("BEGIN IMMEDIATE")
        .await
        .map_err(failed)?;
    let state = State::read(&mut transaction).await.map_err(failed)?;
    let steps = state.steps_left(path)?;
    for step in steps {
        sqlx::raw_sql(*step)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)
}

struct State {
    application_id: i64,
    version: i64,
    objects: i64,
}

impl State {
    async fn read(connection: &mut SqliteConnection) -> Result<Self, sqlx::Error> {
        Ok(Self {
            application_id: sqlx::query_scalar("PRAGMA application_id")
                .fetch_one(&mut *connection)
                .await?,
            version: sqlx::query_scalar("PRAGMA user_version")
                .fetch_one(&mut *connection)
                .await?,
            objects: sqlx::query_scalar("SELECT count(*) FROM sqlite_schema")
                .fetch_one(&mut *connection)
                .await?,
        })
    }

    fn steps_left(&self, path: &Path) -> Result<&'static [&'static str], OpenLedgerError> {
        let foreign = || OpenLedgerError::Foreign {
            path: path.to_owned(),
        };
        let is_empty = self.application_id == 0 && self.version == 0 && self.objects == 0;
        if !is_empty && self.application_id != APPLICATION_ID {
            return Err(foreign());
        }
        let done = usize::try_from(self.version).map_err(|_| foreign())?;
        STEPS
            .get(done..)
            .ok_or_else(|| OpenLedgerError::NewerVersion {
                path: path.to_owned(),
                found: self.version,
                known: i64::try_from(STEPS.len()).expect("the steps are few"),
            })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_step_sets_its_version() {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        for (step, number) in STEPS.iter().zip(1..) {
            sqlx::raw_sql(*step).execute(&mut connection).await.unwrap();
            let state = State::read(&mut connection).await.unwrap();
            assert_eq!(state.version, number);
            assert_eq!(state.application_id, APPLICATION_ID);
        }
    }
}
