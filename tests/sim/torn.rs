//! The server's ledger, torn at chosen bytes: what is read then is what the last commit left or the one before, never anything else.
//!
//! The simulations tear it at random ones, among everything else that goes wrong.

use std::collections::{BTreeMap, BTreeSet};

use fedmerge_common::digest::Digest;
use fedmerge_common::ids::{ClientId, ModelVersion, RoundNumber};
use fedmerge_common::reason::AbandonReason;
use fedmerge_common::units::Timestamp;
use fedmerge_common::update::ModelRef;
use fedmerge_coordinator::{ClientOutcome, Coordinator, Record, RoundOutcome, RoundSummary};
use fedmerge_server::store::ledger::Ledger;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::crash::{Files, Index, Rest, Tear};
use super::disk::Kept;
use super::ledger::{directory, runtime, start};
use super::random::Random;
use super::scenarios::{number, setting};

/// Commits in a row whose bytes are cut.
const COMMITS: u64 = 8;
/// Bytes of each at which it is cut, beside those at the ends of its parts, unless `FEDMERGE_SIM_CUTS` says another number.
const CUTS: u64 = 40;
/// More commits than it takes until the database takes in the log: that happens when the log has a thousand pages.
const MANY_COMMITS: u64 = 1000;

fn base(version: u64) -> ModelRef {
    ModelRef {
        version: ModelVersion::new(version),
        digest: Digest::of(&version.to_be_bytes()),
        size_bytes: version,
    }
}

/// A record that differs from those of other numbers, and the story of a round of more clients or fewer.
fn entry(number: u64) -> (Record, RoundSummary) {
    let carried = |client| {
        let client: ClientId = format!("client-{client}").parse().unwrap();
        (client, ClientOutcome::CarriedOver)
    };
    let summary = RoundSummary {
        round: RoundNumber::new(number),
        base: base(number),
        outcome: RoundOutcome::Abandoned(AbandonReason::Interrupted),
        clients: (0..(number * 97) % 400).map(carried).collect(),
        origins: BTreeMap::new(),
        evaluations: BTreeMap::new(),
        opened: Timestamp::new(number),
        collected: None,
        closed: Timestamp::new(number),
    };
    let record = Coordinator::new(setting(1).plan, base(number)).record();
    (record, summary)
}

/// A ledger that is written, and what is in it.
struct Writer {
    runtime: Runtime,
    ledger: Ledger,
    kept: Kept,
    written: u64,
    directory: TempDir,
}

impl Writer {
    fn new() -> Self {
        let (runtime, directory) = (runtime(), directory());
        let (ledger, kept) = runtime.block_on(start(directory.path()));
        Self {
            runtime,
            ledger,
            kept,
            written: 0,
            directory,
        }
    }

    /// Makes the next commit; answers what it did to the files, and what was kept before it.
    fn commit(&mut self) -> (Tear, Kept) {
        self.written += 1;
        let (record, summary) = entry(self.written);
        let (files, kept) = (Files::read(self.directory.path()), self.kept.clone());
        let closed = [summary];
        let committed = self.ledger.commit(&record, &closed);
        self.runtime.block_on(committed).unwrap();
        self.kept.record = Some(serde_json::to_string(&record).unwrap());
        self.kept.stories.insert(closed[0].round, closed[0].clone());
        (Tear::new(files, Files::read(self.directory.path())), kept)
    }

    /// Fails the test unless a start on these files finds just this.
    fn expect(&self, files: &Files, index: Index, expected: &Kept, what: &str) {
        let directory = directory();
        files.write(directory.path(), index);
        let found = self.runtime.block_on(async {
            let (ledger, found) = start(directory.path()).await;
            ledger.close().await;
            found
        });
        assert!(
            found == *expected,
            "{what}: found {:?}, and stories of {} rounds",
            found.record,
            found.stories.len()
        );
    }

    /// Fails the test unless the last commit, torn at a byte in one way or another, is there whole or not at all.
    fn tear(&self, tear: &Tear, cut: usize, before: &Kept, random: &mut Random) {
        let (rest, index) = (*random.pick(&Rest::ALL), *random.pick(&Index::ALL));
        let (files, is_whole) = tear.at(cut, rest);
        let expected = if is_whole { &self.kept } else { before };
        let what = format!("commit {} cut at {cut}, {rest:?}, {index:?}", self.written);
        self.expect(&files, index, expected, &what);
    }
}

/// All bytes at which a part of what was written begins or ends, those beside them, and so many others.
fn cuts(tear: &Tear, others: u64, random: &mut Random) -> BTreeSet<usize> {
    let bytes = tear.bytes();
    let length = (bytes.end - bytes.start) as u64;
    let seams = tear.seams().into_iter();
    let beside = seams.flat_map(|seam| [seam.saturating_sub(1), seam, seam + 1]);
    let mut cuts: BTreeSet<usize> = beside.collect();
    if others < length {
        let other = |_| bytes.start + usize::try_from(random.below(length)).unwrap();
        cuts.extend((0..others).map(other));
    } else {
        cuts.extend(bytes.clone());
    }
    cuts.retain(|cut| bytes.contains(cut));
    cuts.insert(bytes.end);
    cuts
}

#[test]
fn a_log_that_is_cut_anywhere_holds_the_last_commit_or_ends_with_the_one_before() {
    let others = number("FEDMERGE_SIM_CUTS").unwrap_or(CUTS);
    let mut random = Random::new(1);
    let mut writer = Writer::new();
    for _ in 0..COMMITS {
        let (tear, before) = writer.commit();
        for cut in cuts(&tear, others, &mut random) {
            writer.tear(&tear, cut, &before, &mut random);
        }
    }
}

#[test]
fn a_log_that_is_taken_in_and_begun_anew_loses_nothing_wherever_that_is_cut() {
    let mut random = Random::new(2);
    let mut writer = Writer::new();
    let taken_in = loop {
        let (tear, before) = writer.commit();
        if tear.is_taken_in() {
            break (tear, before);
        }
        assert!(writer.written < MANY_COMMITS, "the log is never taken in");
    };
    let half = taken_in.0.taking_in(&mut random);
    writer.expect(&half, Index::Kept, &writer.kept, "half taken in");
    let begun_anew = {
        let (tear, before) = taken_in;
        for cut in cuts(&tear, 0, &mut random) {
            writer.tear(&tear, cut, &before, &mut random);
        }
        writer.commit()
    };
    let (tear, before) = begun_anew;
    assert!(tear.begins_a_log());
    for cut in cuts(&tear, 0, &mut random) {
        writer.tear(&tear, cut, &before, &mut random);
    }
}
