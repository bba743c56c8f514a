//! The server's own ledger on real files, whose process a seed kills in the middle of a write.
//!
//! Invariant: a crash leaves copies of the files, made as a power cut would leave them, and the next server opens these as a start does:
//! it opens, it looks through the whole, it reads.

use std::path::Path;

use fedmerge_common::ids::RoundNumber;
use fedmerge_common::rollback::Rollback;
use fedmerge_common::units::Timestamp;
use fedmerge_common::update::ModelRef;
use fedmerge_server::store::ledger::{Ledger, LedgerError, Rounds, StoredModel};
use tempfile::TempDir;
use tokio::runtime::{self, Runtime};

use super::crash::{Files, Index, Rest, Tear, ledger_in};
use super::disk::{Kept, Write};
use super::random::Random;

/// Where files are memory, on machines that have it.
const MEMORY: &str = "/dev/shm";

/// A directory for a ledger, in memory where that can be had: what is synced here need not outlive this machine.
pub(crate) fn directory() -> TempDir {
    tempfile::tempdir_in(MEMORY).unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// A runtime for the ledger's calls, each of which is waited for.
pub(crate) fn runtime() -> Runtime {
    runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
}

/// A model as the ledger has it, but for what a simulation does not know of it.
pub(crate) fn stored(model: ModelRef, rollback: Option<Rollback>) -> StoredModel {
    StoredModel {
        model,
        parent: None,
        round: None,
        published: Timestamp::new(0),
        rollback,
        score: None,
        removed: None,
    }
}

/// Opens a ledger as the start of a server does, and reads all that a simulation writes.
pub(crate) async fn start(directory: &Path) -> (Ledger, Kept) {
    let ledger = Ledger::open(&ledger_in(directory)).await.unwrap();
    ledger.check().await.unwrap();
    let record = ledger.record().await.unwrap();
    let stories = ledger
        .rounds(Rounds::From(RoundNumber::new(0)))
        .await
        .unwrap();
    let models = ledger.models().await.unwrap();
    let kept = Kept {
        record: record.map(|record| serde_json::to_string(&record).unwrap()),
        stories: stories
            .into_iter()
            .map(|story| (story.summary.round, story.summary))
            .collect(),
        published: models
            .iter()
            .map(|stored| (stored.model.version, stored.model))
            .collect(),
        rolled_back: models
            .into_iter()
            .filter_map(|stored| Some((stored.model.version, stored.rollback?.of)))
            .collect(),
    };
    (ledger, kept)
}

/// A ledger over all lives of its server.
#[derive(Debug)]
pub(crate) struct LedgerFiles {
    runtime: Runtime,
    ledger: Ledger,
    directory: TempDir,
    random: Random,
    /// The files before the write that is torn.
    torn: Option<Files>,
    tears: u64,
}

impl LedgerFiles {
    pub(crate) fn new(seed: u64) -> Self {
        let (runtime, directory) = (runtime(), directory());
        let (ledger, _) = runtime.block_on(start(directory.path()));
        Self {
            runtime,
            ledger,
            directory,
            random: Random::new(seed),
            torn: None,
            tears: 0,
        }
    }

    pub(crate) fn tears(&self) -> u64 {
        self.tears
    }

    /// Writes, as well as it goes.
    pub(crate) fn write(
        &mut self,
        write: Write,
        deed: impl AsyncFnOnce(&Ledger) -> Result<(), LedgerError>,
    ) {
        if write == Write::Nothing {
            return;
        }
        if write == Write::Torn {
            self.torn = Some(Files::read(self.directory.path()));
        }
        self.runtime.block_on(deed(&self.ledger)).unwrap();
    }

    /// Kills the process that has the ledger, and starts another one on what is left.
    pub(crate) fn recover(&mut self) -> Kept {
        let left = self.left();
        let index = *self.random.pick(&Index::ALL);
        let directory = directory();
        left.write(directory.path(), index);
        let (ledger, kept) = self.runtime.block_on(async {
            self.ledger.close().await;
            start(directory.path()).await
        });
        self.ledger = ledger;
        self.directory = directory;
        kept
    }

    fn left(&mut self) -> Files {
        let now = Files::read(self.directory.path());
        let Some(before) = self.torn.take() else {
            return now;
        };
        self.tears += 1;
        let tear = Tear::new(before, now);
        let bytes = tear.bytes();
        let cut = self.random.between(bytes.start as u64, bytes.end as u64);
        let rest = *self.random.pick(&Rest::ALL);
        let (files, _) = tear.at(usize::try_from(cut).unwrap(), rest);
        files
    }
}
