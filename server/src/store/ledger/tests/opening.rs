//! Opening: by name, by version, by several processes at once.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::units::ByteSize;
use sqlx::{Connection, SqliteConnection};

use super::*;
use crate::store::ledger::{OpenLedgerError, PlanRow, Rounds};

async fn execute(path: &std::path::Path, sql: &'static str) {
    let url = format!("sqlite://{}?mode=rwc", path.display());
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn a_new_ledger_is_empty_and_its_owners_alone() {
    let (directory, ledger) = new_ledger().await;
    assert_eq!(ledger.record().await.unwrap(), None);
    assert!(ledger.models().await.unwrap().is_empty());
    let mode = fs::metadata(path(&directory)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_commit_is_durable_when_it_is_answered() {
    let (_directory, ledger) = new_ledger().await;
    let mut connection = ledger.writer.acquire().await.unwrap();
    let journal: String = sqlx::query_scalar("PRAGMA journal_mode")
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous")
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    // 2 is FULL: the write-ahead log is synced by every commit.
    assert_eq!((journal.as_str(), synchronous), ("wal", 2));
}

#[tokio::test]
async fn readers_cannot_write() {
    let (_directory, ledger) = new_ledger().await;
    let attempt = sqlx::query("DELETE FROM tokens")
        .execute(&ledger.readers)
        .await;
    assert!(attempt.is_err());
}

#[tokio::test]
async fn several_that_open_a_new_ledger_at_once_make_it_once() {
    let directory = TempDir::new().unwrap();
    let mut openings = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let path = path(&directory);
        openings.spawn(async move { Ledger::open(&path).await });
    }
    let mut ledgers = Vec::new();
    while let Some(opened) = openings.join_next().await {
        ledgers.push(opened.unwrap().unwrap());
    }
    for (ledger, number) in ledgers.iter().zip(0..) {
        let token = token(&format!("t{number}"), 1);
        ledger.add_token(&token).await.unwrap();
    }
    assert_eq!(ledgers[0].tokens().await.unwrap().len(), 8);
}

#[tokio::test]
async fn a_newer_ledger_is_refused_with_both_versions() {
    let (directory, ledger) = new_ledger().await;
    ledger.close().await;
    execute(&path(&directory), "PRAGMA user_version = 99").await;
    let error = Ledger::open(&path(&directory)).await.unwrap_err();
    assert!(
        matches!(
            error,
            OpenLedgerError::NewerVersion {
                found: 99,
                known: 5,
                ..
            }
        ),
        "{error}"
    );
    let failure = Failure::from(error);
    assert_eq!(failure.exit, ExitCode::BadData);
    assert!(failure.hint.unwrap().contains("newer fedmerge"));
}

#[tokio::test]
async fn garbage_is_refused_by_name_and_left_as_it_was() {
    for garbage in [
        &b"garbage"[..],
        &[0xa5; 8192],
        b"SQLite format 3\0 and no more",
    ] {
        let directory = TempDir::new().unwrap();
        fs::write(path(&directory), garbage).unwrap();
        let error = Ledger::open(&path(&directory)).await.unwrap_err();
        let message = error.to_string();
        assert!(
            matches!(error, OpenLedgerError::Damaged { .. }),
            "{error:?}"
        );
        assert!(message.contains("ledger.sqlite"), "{message}");
        assert_eq!(fs::read(path(&directory)).unwrap(), garbage);
    }
}

#[tokio::test]
async fn a_database_of_something_else_is_refused() {
    let directory = TempDir::new().unwrap();
    execute(&path(&directory), "CREATE TABLE songs (title TEXT)").await;
    let error = Ledger::open(&path(&directory)).await.unwrap_err();
    assert!(
        matches!(error, OpenLedgerError::Foreign { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_an_error_with_a_hint() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("nowhere/ledger.sqlite");
    let failure = Failure::from(Ledger::open(&path).await.unwrap_err());
    assert_eq!(failure.exit, ExitCode::Unavailable);
    assert!(failure.message.contains("nowhere/ledger.sqlite"));
    assert!(failure.hint.unwrap().contains("server init"));
}

#[tokio::test]
async fn a_damaged_row_names_its_table_and_column() {
    let (directory, ledger) = new_ledger().await;
    execute(
        &path(&directory),
        "INSERT INTO models VALUES (1, 'blake3:zz', 5, NULL, NULL, 7, NULL, NULL, NULL);
         INSERT INTO rounds VALUES (1, '{}');
         INSERT INTO coordinator VALUES (1, 'no json')",
    )
    .await;
    let error = Failure::from(ledger.models().await.unwrap_err());
    assert_eq!(
        error.message,
        "table `models` of the ledger has a damaged row"
    );
    assert_eq!(error.causes[0], "column `digest` cannot be read");
    assert_eq!(error.exit, ExitCode::BadData);
    let damaged = |error, expected| {
        assert!(
            matches!(error, LedgerError::Damaged { table, .. } if table == expected),
            "{error:?}"
        );
    };
    damaged(
        ledger
            .rounds(Rounds::From(RoundNumber::new(1)))
            .await
            .unwrap_err(),
        "rounds",
    );
    damaged(ledger.record().await.unwrap_err(), "coordinator");
}

#[tokio::test]
async fn a_ledger_of_the_first_version_is_brought_up_to_date_and_keeps_what_it_holds() {
    let directory = TempDir::new().unwrap();
    execute(
        &path(&directory),
        include_str!("../../../../migrations/0001_begin.sql"),
    )
    .await;
    execute(
        &path(&directory),
        "INSERT INTO models VALUES (0, \
         'blake3:0000000000000000000000000000000000000000000000000000000000000000', 5, NULL, NULL, 7)",
    )
    .await;
    let ledger = Ledger::open(&path(&directory)).await.unwrap();
    assert_eq!(ledger.models().await.unwrap().len(), 1);
    assert_eq!(ledger.plan_of(RoundNumber::new(1)).await.unwrap(), None);
}

#[tokio::test]
async fn a_ledger_that_may_not_grow_is_as_one_on_a_full_disk_until_it_may() {
    let directory = TempDir::new().unwrap();
    let most = ByteSize::from_mebibytes(1);
    let ledger = Ledger::open_within(&path(&directory), most).await.unwrap();
    let plan = |number: u64| PlanRow {
        first_round: RoundNumber::new(number),
        text: "x".repeat(200_000),
    };
    let mut kept = 0;
    let error = loop {
        match ledger.keep_plan(&plan(kept + 1)).await {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 6, "1 MiB holds no six times 200 kB");
    };
    assert!(matches!(error, LedgerError::Full(_)), "{error}");
    assert!(kept > 2);
    ledger.close().await;
    let larger = ByteSize::from_mebibytes(2);
    let ledger = Ledger::open_within(&path(&directory), larger)
        .await
        .unwrap();
    ledger.keep_plan(&plan(kept + 1)).await.unwrap();
}
