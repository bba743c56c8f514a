//! The ledger: one SQLite file that a restart rebuilds everything from.
//!
//! Every write is one `BEGIN IMMEDIATE` transaction on the one writing connection, and on disk when its method answers
//! (WAL, `synchronous = FULL`). Other processes open the same file while the server runs: `fedmerge server token
//! create` does. It decides nothing about rounds.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fedmerge_common::units::ByteSize;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, Sqlite, SqliteConnection, Transaction};
use tokio::time::Instant;

mod admission;
mod audit;
mod backup;
mod clients;
mod error;
mod member_refusal;
mod members;
mod migrations;
mod models;
mod plans;
mod quarantine;
mod rounds;
mod row;
mod site_clients;
mod tokens;
mod uploads;

pub use admission::{Admission, AdmissionRefusal};
pub use backup::BackUpError;
pub use clients::{ClientState, EnrolledClient};
pub(crate) use error::RESTORE;
pub use error::{LedgerError, OpenLedgerError};
pub use member_refusal::MemberRefusal;
pub use members::{Approval, Renewal, ShownKey};
pub use models::StoredModel;
pub use plans::PlanRow;
pub use rounds::{MergeNote, RoundStory, Rounds};
pub use row::DecodeRowError;
pub use site_clients::SiteCertificate;
pub use tokens::{Revocation, TokenRow};
pub use uploads::UploadRow;

/// How long a write waits for another process's.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two attempts at what SQLite does not wait for by itself.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// Connections that only read: commands and the dashboard never stand in a write's way.
const READERS: u32 = 3;
/// The most that SQLite can count.
const MOST_PAGES: u64 = 4_294_967_294;
/// The ledger holds hashes of secrets: the file is its owner's alone.
const FILE_MODE: u32 = 0o600;

/// An open ledger. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// One connection: writers of this process queue here in order, instead of in SQLite's busy loop.
    writer: SqlitePool,
    readers: SqlitePool,
    path: PathBuf,
}

impl Ledger {
    /// Opens the ledger at `path`, making the file and its tables where they are missing.
    ///
    /// # Errors
    /// When the file cannot be made or opened, is no ledger, is damaged, or was written by a newer program.
    pub async fn open(path: &Path) -> Result<Self, OpenLedgerError> {
        Self::open_within(path, ByteSize::new(u64::MAX)).await
    }

    /// The same, for a file that this process lets grow to so many bytes: what would make it larger fails as it does on a full disk.
    ///
    /// # Errors
    /// As [`Ledger::open`].
    pub async fn open_within(path: &Path, most: ByteSize) -> Result<Self, OpenLedgerError> {
        create_file(path).map_err(|source| OpenLedgerError::Create {
            path: path.to_owned(),
            source,
        })?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .foreign_keys(true)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .disable_statement_logging();
        let failed = |source| OpenLedgerError::from_database(path, source);
        let mut first = connect(&options).await.map_err(failed)?;
        migrations::run(&mut first, path).await?;
        let page_bytes: i64 = sqlx::query_scalar("PRAGMA page_size")
            .fetch_one(&mut first)
            .await
            .map_err(failed)?;
        let pages = most.get() / u64::try_from(page_bytes).unwrap_or(1).max(1);
        let pages = pages.clamp(1, MOST_PAGES);
        let bounded = options.clone().pragma("max_page_count", pages.to_string());
        let ledger = Self {
            writer: pool(1).connect_lazy_with(bounded),
            readers: pool(READERS).connect_lazy_with(options.pragma("query_only", "ON")),
            path: path.to_owned(),
        };
        first.close().await.map_err(failed)?;
        Ok(ledger)
    }

    /// Makes sure that the ledger can be written, and looks through the whole file for pages that do not fit together, reading each
    /// once. A value that was changed within a page
    /// does not show here: a row that makes no sense is an error of whoever reads it.
    ///
    /// # Errors
    /// The first thing that is found.
    pub async fn check(&self) -> Result<(), OpenLedgerError> {
        let finding = match self.first_finding().await {
            Ok(None) => return Ok(()),
            Ok(Some(finding)) => finding,
            Err(source) => return Err(OpenLedgerError::from_database(&self.path, source)),
        };
        Err(OpenLedgerError::Unsound {
            path: self.path.clone(),
            finding,
        })
    }

    async fn first_finding(&self) -> Result<Option<String>, sqlx::Error> {
        // SQLite opens a file that it cannot write as one to read, and says so at the first statement that would write.
        sqlx::query("UPDATE coordinator SET record = record WHERE FALSE")
            .execute(&self.writer)
            .await?;
        // Once the log is taken in, the file has whole pages, or lacks the end of the last: SQLite would read zeros there.
        let is_busy: bool = sqlx::query_scalar("PRAGMA wal_checkpoint(TRUNCATE)")
            .fetch_one(&self.writer)
            .await?;
        let page_bytes: u32 = sqlx::query_scalar("PRAGMA page_size")
            .fetch_one(&self.readers)
            .await?;
        let bytes = std::fs::metadata(&self.path)?.len();
        if !is_busy && !bytes.is_multiple_of(page_bytes.into()) {
            return Ok(Some("its last page is cut off".to_owned()));
        }
        let found: String = sqlx::query_scalar("PRAGMA quick_check(1)")
            .fetch_one(&self.readers)
            .await?;
        // Before what is wrong, a line of asterisks names the database.
        let last = found.lines().last().unwrap_or_default();
        Ok(Some(last.to_owned()).filter(|found| found != "ok"))
    }

    /// Closes every connection. What is called afterwards fails.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, LedgerError> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }
}

fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(BUSY_TIMEOUT)
        // A shorter wait is nothing to warn of: each client of a crowd that connects has one.
        .acquire_slow_threshold(BUSY_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
}

/// Makes an empty file that only its owner reads; one that is there stays closed, because closing it again would drop
/// the locks of this process's other connections.
fn create_file(path: &Path) -> io::Result<()> {
    let made = File::options()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path);
    match made {
        Ok(file) => {
            file.sync_all()?;
            let directory = path.parent().filter(|parent| *parent != Path::new(""));
            File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Connects and turns the file to WAL, which it then keeps. SQLite does not wait for the lock this needs.
async fn connect(options: &SqliteConnectOptions) -> Result<SqliteConnection, sqlx::Error> {
    let options = options.clone().journal_mode(SqliteJournalMode::Wal);
    let deadline = Instant::now() + BUSY_TIMEOUT;
    loop {
        match options.connect().await {
            Err(error) if error::is_busy(&error) && Instant::now() < deadline => {
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests;
