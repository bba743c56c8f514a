//! The ledger on real files: what is written is read back, by this process and by the next.
#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

mod admission;
mod backup;
mod damage;
mod members;
mod opening;
mod quarantine;
mod round_trips;
mod site_clients;

use std::collections::BTreeMap;
use std::path::PathBuf;

use fedmerge_common::digest::Digest;
use fedmerge_common::ids::{ModelVersion, RoundNumber};
use fedmerge_common::reason::AbandonReason;
use fedmerge_common::task_vector::Encoding;
use fedmerge_common::units::{Millis, Timestamp};
use fedmerge_common::update::{ModelRef, UpdateHeader};
use fedmerge_coordinator::{
    Cohort, Coordinator, LatePolicy, Mode, Record, RoundOutcome, RoundPlan, RoundSummary,
};
use tempfile::TempDir;

use crate::store::ledger::{
    Admission, Ledger, LedgerError, MergeNote, StoredModel, TokenRow, UploadRow,
};

fn path(directory: &TempDir) -> PathBuf {
    directory.path().join("ledger.sqlite")
}

async fn new_ledger() -> (TempDir, Ledger) {
    let directory = TempDir::new().unwrap();
    let ledger = Ledger::open(&path(&directory)).await.unwrap();
    (directory, ledger)
}

fn model(version: u64, content: &[u8]) -> ModelRef {
    ModelRef {
        version: ModelVersion::new(version),
        digest: Digest::of(content),
        size_bytes: content.len() as u64,
    }
}

fn record(version: u64) -> Record {
    let plan = RoundPlan {
        rounds: 3,
        cohort: Cohort {
            target: 2,
            fraction: 1.0,
            over_select: 1.0,
        },
        quorum: 2,
        deadline: Millis::from_secs(60),
        grace: Millis::from_secs(5),
        tolerate: 0,
        seed: 7,
        evaluate: None,
        population: None,
        mode: Mode::Synchronous,
        late: LatePolicy::Reject,
        max_staleness: 0,
        private_rounds: None,
        allow_small_quorum: true,
    };
    Coordinator::new(plan, model(version, b"base")).record()
}

fn summary(round: u64) -> RoundSummary {
    RoundSummary {
        round: RoundNumber::new(round),
        base: model(0, b"base"),
        outcome: RoundOutcome::Abandoned(AbandonReason::Interrupted),
        clients: BTreeMap::new(),
        origins: BTreeMap::new(),
        evaluations: BTreeMap::new(),
        opened: Timestamp::new(10 * round),
        collected: None,
        closed: Timestamp::new(10 * round + 5),
    }
}

fn note(round: u64) -> MergeNote {
    MergeNote {
        round: RoundNumber::new(round),
        candidate: model(round, b"candidate"),
        elapsed_ms: 12,
        report: serde_json::json!({ "method": "median", "norms": [0.5, 1.0] }),
    }
}

fn stored(version: u64, content: &[u8]) -> StoredModel {
    StoredModel {
        model: model(version, content),
        parent: Some(Digest::of(b"parent")),
        round: Some(RoundNumber::new(version)),
        published: Timestamp::new(1000 + version),
        rollback: None,
        score: None,
        removed: None,
    }
}

fn token(id: &str, uses: u32) -> TokenRow {
    TokenRow {
        id: id.parse().unwrap(),
        secret_hash: [7; 32],
        uses,
        used: 0,
        created: Timestamp::new(100),
        expires: Timestamp::new(200),
        is_revoked: false,
        labels: BTreeMap::from([("site".to_owned(), "ward-3".to_owned())]),
        needs_approval: false,
        is_ephemeral: false,
    }
}

/// A wish that a new ledger with `token(token, …)` grants.
fn wish(token: &str, client: &str, key: u8) -> Admission {
    Admission {
        token: token.parse().unwrap(),
        secret_hash: [7; 32],
        client: client.parse().unwrap(),
        key: [key; 32],
        now: Timestamp::new(150),
        until: Timestamp::new(1_000),
        max_clients: 100,
    }
}

fn upload(id: &str, client: &str, round: u64) -> UploadRow {
    UploadRow {
        id: id.parse().unwrap(),
        client: client.parse().unwrap(),
        header: UpdateHeader {
            round: RoundNumber::new(round),
            base: Digest::of(b"base"),
            encoding: Encoding::Bf16,
            payload: Digest::of(id.as_bytes()),
            payload_bytes: u64::MAX,
            num_examples: u64::MAX,
            metrics: BTreeMap::from([
                ("accuracy".to_owned(), 0.1 + 0.2),
                ("loss".to_owned(), f64::INFINITY),
            ]),
        },
        begun: Timestamp::new(40),
    }
}
