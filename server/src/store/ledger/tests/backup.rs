//! Backups: whole, of one moment, and never in the place of something.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use fedmerge_common::failure::{ExitCode, Failure};

use super::*;
use crate::store::ledger::BackUpError;

#[tokio::test]
async fn a_backup_says_what_the_ledger_says_and_is_its_owners_alone() {
    let (directory, ledger) = new_ledger().await;
    ledger.commit(&record(1), &[summary(1)]).await.unwrap();
    ledger.note_merge(&note(1)).await.unwrap();
    ledger.add_token(&token("t1", 1)).await.unwrap();
    let copy = directory.path().join("copy.sqlite");
    let bytes = ledger.back_up(&copy).await.unwrap();
    // What comes later is not in it.
    ledger.commit(&record(2), &[summary(2)]).await.unwrap();

    let metadata = fs::metadata(&copy).unwrap();
    assert_eq!(metadata.len(), bytes);
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let restored = Ledger::open(&copy).await.unwrap();
    restored.check().await.unwrap();
    assert_eq!(restored.record().await.unwrap(), Some(record(1)));
    assert_eq!(restored.round_count().await.unwrap(), 1);
    let merged = restored.merge_note(RoundNumber::new(1)).await.unwrap();
    assert_eq!(merged, Some(note(1)));
    assert_eq!(restored.tokens().await.unwrap(), [token("t1", 1)]);
}

#[tokio::test]
async fn a_backup_is_made_while_the_ledger_is_written() {
    let (directory, ledger) = new_ledger().await;
    let command = Ledger::open(&path(&directory)).await.unwrap();
    let writing = ledger.begin().await.unwrap();
    let copy = directory.path().join("copy.sqlite");
    command.back_up(&copy).await.unwrap();
    writing.rollback().await.unwrap();
    ledger.commit(&record(1), &[summary(1)]).await.unwrap();
}

#[tokio::test]
async fn a_backup_replaces_nothing_and_leaves_nothing_where_it_fails() {
    let (directory, ledger) = new_ledger().await;
    let taken = directory.path().join("precious");
    fs::write(&taken, "words").unwrap();
    let error = ledger.back_up(&taken).await.unwrap_err();
    assert!(matches!(error, BackUpError::Exists { .. }), "{error:?}");
    let failure = Failure::from(error);
    assert_eq!(failure.exit, ExitCode::Usage);
    assert!(failure.hint.is_some());
    assert_eq!(fs::read(&taken).unwrap(), b"words");

    let nowhere = directory.path().join("nowhere/copy.sqlite");
    let error = ledger.back_up(&nowhere).await.unwrap_err();
    assert!(matches!(error, BackUpError::File { .. }), "{error:?}");

    // What a crash left of an earlier one is in nobody's way.
    let copy = directory.path().join("copy.sqlite");
    fs::write(copy.with_added_extension("part"), "half").unwrap();
    ledger.back_up(&copy).await.unwrap();
    let names = fs::read_dir(directory.path()).unwrap();
    let parts = names.filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().contains(".part")
    });
    assert_eq!(parts.count(), 0);
}
