//! Damaged files: found, named, and left as they are.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use fedmerge_common::failure::{ExitCode, Failure};
use sqlx::{ConnectOptions, Connection};

use super::*;
use crate::store::ledger::{OpenLedgerError, Rounds};

/// What SQLite calls a page unless told otherwise.
const PAGE: usize = 4096;

/// A closed ledger of some rounds: a few dozen pages, with inner and overflow ones among them.
async fn closed_ledger() -> TempDir {
    let (directory, ledger) = new_ledger().await;
    let rounds: Vec<RoundSummary> = (1..=400).map(summary).collect();
    ledger.commit(&record(400), &rounds).await.unwrap();
    let long = MergeNote {
        report: serde_json::json!({ "norms": vec![0.5; 5000] }),
        ..note(1)
    };
    ledger.note_merge(&long).await.unwrap();
    ledger.add_token(&token("t1", 1)).await.unwrap();
    ledger.close().await;
    directory
}

/// What a server's start makes of a file: opens it, and looks through it.
async fn start(path: &Path) -> Result<(), OpenLedgerError> {
    let ledger = Ledger::open(path).await?;
    let checked = ledger.check().await;
    ledger.close().await;
    checked
}

#[tokio::test]
async fn a_page_that_was_overwritten_is_found_wherever_it_is() {
    let directory = closed_ledger().await;
    let sound = fs::read(path(&directory)).unwrap();
    let pages = sound.len() / PAGE;
    assert!(pages > 20, "{pages} pages are too few to show anything");
    start(&path(&directory)).await.unwrap();
    for page in 0..pages {
        let file = directory.path().join(format!("page-{page}.sqlite"));
        fs::write(&file, &sound).unwrap();
        let whole = File::options().write(true).open(&file).unwrap();
        let at = (page * PAGE).try_into().unwrap();
        whole.write_all_at(&[0xa5; PAGE], at).unwrap();
        let error = start(&file).await.unwrap_err();
        assert!(
            matches!(
                error,
                OpenLedgerError::Damaged { .. } | OpenLedgerError::Unsound { .. }
            ),
            "page {page}: {error:?}"
        );
        let failure = Failure::from(error);
        let name = format!("page-{page}.sqlite is damaged");
        assert!(failure.message.contains(&name), "{failure}");
        assert_eq!(failure.exit, ExitCode::BadData);
        assert!(failure.hint.unwrap().contains("fedmerge server backup"));
    }
}

#[tokio::test]
async fn a_file_that_was_cut_off_is_found_wherever_the_cut_is() {
    let directory = closed_ledger().await;
    let sound = fs::read(path(&directory)).unwrap();
    let cuts = (1..sound.len() / PAGE).map(|page| page * PAGE);
    for length in cuts.chain([100, PAGE + 1, sound.len() - 1]) {
        let file = directory.path().join(format!("cut-{length}.sqlite"));
        fs::write(&file, &sound[..length]).unwrap();
        let error = start(&file).await.unwrap_err();
        let failure = Failure::from(error);
        assert!(
            failure.message.contains("is damaged"),
            "{length}: {failure}"
        );
        assert_eq!(failure.exit, ExitCode::BadData);
    }
}

#[tokio::test]
async fn damage_that_comes_while_the_ledger_is_open_is_told_by_whoever_meets_it() {
    let directory = closed_ledger().await;
    let ledger = Ledger::open(&path(&directory)).await.unwrap();
    let bytes = fs::metadata(path(&directory)).unwrap().len();
    let file = File::options().write(true).open(path(&directory)).unwrap();
    let garbage = vec![0xa5; usize::try_from(bytes).unwrap() - PAGE];
    file.write_all_at(&garbage, PAGE as u64).unwrap();
    let error = ledger.rounds(Rounds::Newest(400)).await.unwrap_err();
    assert!(matches!(error, LedgerError::Corrupt(_)), "{error:?}");
    assert!(!error.passes());
    let failure = Failure::from(error);
    assert!(failure.message.contains("state/ledger.sqlite"), "{failure}");
    assert!(failure.hint.unwrap().contains("backup"));
}

#[tokio::test]
async fn a_ledger_that_cannot_be_written_is_refused_with_what_to_do() {
    let directory = closed_ledger().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(path(&directory))
        .read_only(true);
    let mut connection = options.connect().await.unwrap();
    let refused = sqlx::query("DELETE FROM tokens")
        .execute(&mut connection)
        .await
        .unwrap_err();
    connection.close().await.unwrap();
    let error = OpenLedgerError::from_database(&path(&directory), refused);
    assert!(
        matches!(error, OpenLedgerError::ReadOnly { .. }),
        "{error:?}"
    );
    let failure = Failure::from(error);
    assert!(failure.message.contains("ledger.sqlite cannot be written"));
    assert!(failure.hint.unwrap().contains("mounted for writing"));
}
