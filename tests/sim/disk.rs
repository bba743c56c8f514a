//! What survives the server: its record, the stories of rounds, and models whose content shows which updates are in them.
//!
//! Invariant: whatever was acknowledged is there when a server starts; what was torn by a crash is there whole or not at all. Without
//! a ledger this is assumed; with one it is what the ledger's files are asked at each start.

use std::collections::{BTreeMap, BTreeSet};

use fedmerge_common::digest::Digest;
use fedmerge_common::ids::{ClientId, ModelVersion, RoundNumber};
use fedmerge_common::rollback::Rollback;
use fedmerge_common::update::ModelRef;
use fedmerge_coordinator::{Counted, Record, RoundSummary};

use super::ledger::LedgerFiles;

/// What stands for the signature of the federation's authority.
pub(crate) const SIGNATURE: &[u8] = b"signed";

fn signed(of: ModelVersion) -> Rollback {
    Rollback {
        of,
        reason: "as it was".to_owned(),
        signature: SIGNATURE.to_vec(),
    }
}

/// One update, by whose it is and which task it answers.
pub(crate) type Contribution = (ClientId, RoundNumber);

/// The updates in a model, those of its ancestors too.
pub(crate) type Content = BTreeSet<Contribution>;

/// How a write ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    /// It is durable.
    Whole,
    /// The process dies in the middle, and nobody was told.
    Torn,
    /// The process dies before.
    Nothing,
}

impl Write {
    pub(crate) const ALL: [Self; 3] = [Self::Nothing, Self::Torn, Self::Whole];
}

/// What a server that starts goes on from.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Kept {
    /// The record as it is stored; none before the first.
    pub(crate) record: Option<String>,
    pub(crate) stories: BTreeMap<RoundNumber, RoundSummary>,
    pub(crate) published: BTreeMap<ModelVersion, ModelRef>,
    /// The older version that a published one is again.
    pub(crate) rolled_back: BTreeMap<ModelVersion, ModelVersion>,
}

impl Kept {
    fn commit(&mut self, record: String, closed: &[RoundSummary]) {
        self.record = Some(record);
        for summary in closed {
            let before = self.stories.insert(summary.round, summary.clone());
            assert!(before.is_none_or(|before| before == *summary));
        }
    }

    fn publish(&mut self, model: ModelRef, of: Option<ModelVersion>) {
        self.rolled_back.extend(of.map(|of| (model.version, of)));
        let before = self.published.insert(model.version, model);
        assert!(
            before.is_none_or(|before| before == model),
            "one base per version: {before:?}, then {model:?}"
        );
    }
}

/// A disk.
#[derive(Debug)]
pub(crate) struct Disk {
    kept: Kept,
    /// What is kept if the write that a crash has torn is there all the same.
    undecided: Option<Kept>,
    /// Complete models, published or not.
    contents: BTreeMap<Digest, Content>,
    ledger: Option<LedgerFiles>,
}

impl Disk {
    /// A disk on which everything simply survives, or one with a ledger that has to see to it.
    pub(crate) fn new(base: ModelRef, ledger: Option<LedgerFiles>) -> Self {
        let mut disk = Self {
            kept: Kept::default(),
            undecided: None,
            contents: BTreeMap::from([(base.digest, Content::new())]),
            ledger,
        };
        disk.publish(base, None, Write::Whole);
        disk
    }

    /// Stores a record and the stories of closed rounds: all of it, or nothing. What has not changed is not written, as in the driver.
    pub(crate) fn commit(&mut self, record: &Record, closed: &[RoundSummary], write: Write) {
        let text = serde_json::to_string(record).unwrap();
        if closed.is_empty() && self.kept.record.as_ref() == Some(&text) {
            return;
        }
        self.write(write, |kept| kept.commit(text, closed));
        if let Some(ledger) = &mut self.ledger {
            ledger.write(write, async |ledger| ledger.commit(record, closed).await);
        }
    }

    /// Makes a model a fact: a candidate, or an older model again.
    pub(crate) fn publish(&mut self, model: ModelRef, of: Option<ModelVersion>, write: Write) {
        self.write(write, |kept| kept.publish(model, of));
        if let Some(ledger) = &mut self.ledger {
            let stored = super::ledger::stored(model, of.map(signed));
            ledger.write(write, async |ledger| ledger.publish(&stored).await);
        }
    }

    fn write(&mut self, write: Write, change: impl FnOnce(&mut Kept)) {
        match write {
            Write::Whole => change(&mut self.kept),
            Write::Torn => change(self.undecided.insert(self.kept.clone())),
            Write::Nothing => {}
        }
    }

    /// What a server that starts finds: the last record.
    pub(crate) fn recover(&mut self) -> Option<Record> {
        let undecided = self.undecided.take();
        if let Some(ledger) = &mut self.ledger {
            let found = ledger.recover();
            if undecided.is_some_and(|undecided| undecided == found) {
                self.kept = found;
            } else {
                assert_eq!(found, self.kept, "what was acknowledged is there");
            }
        }
        let text = self.kept.record.as_ref();
        text.map(|text| serde_json::from_str(text).unwrap())
    }

    pub(crate) fn stories(&self) -> &BTreeMap<RoundNumber, RoundSummary> {
        &self.kept.stories
    }

    /// How often a crash tore a write of the ledger.
    pub(crate) fn tears(&self) -> u64 {
        self.ledger.as_ref().map_or(0, LedgerFiles::tears)
    }

    /// Merges updates into a candidate; the same ones give the same candidate.
    pub(crate) fn merge(
        &mut self,
        base: &ModelRef,
        updates: &BTreeMap<ClientId, Counted>,
    ) -> ModelRef {
        let mut content = self.contents[&base.digest].clone();
        for (client, counted) in updates {
            let is_new = content.insert((client.clone(), counted.round));
            assert!(
                is_new,
                "{client}'s update of {} is counted twice",
                counted.round
            );
        }
        let candidate = ModelRef {
            version: base.version.next(),
            digest: Digest::of(format!("{base:?} {updates:?}").as_bytes()),
            size_bytes: 1,
        };
        self.contents.insert(candidate.digest, content);
        candidate
    }

    pub(crate) fn has(&self, model: &ModelRef) -> bool {
        self.kept.published.get(&model.version) == Some(model)
    }

    /// A model that was published, if the version was.
    pub(crate) fn model(&self, version: ModelVersion) -> Option<ModelRef> {
        self.kept.published.get(&version).copied()
    }

    /// What the authority signed, by the version that it is about.
    pub(crate) fn rollbacks(&self) -> BTreeMap<ModelVersion, Rollback> {
        let rolled_back = self.kept.rolled_back.iter();
        rolled_back
            .map(|(version, of)| (*version, signed(*of)))
            .collect()
    }

    /// The newest model and those that it came from.
    pub(crate) fn line(&self) -> BTreeSet<ModelVersion> {
        let mut line = BTreeSet::new();
        let mut next = self.kept.published.keys().next_back().copied();
        while let Some(version) = next {
            line.insert(version);
            let before = version.get().checked_sub(1).map(ModelVersion::new);
            next = self.kept.rolled_back.get(&version).copied().or(before);
        }
        line
    }

    /// What is in the newest model.
    pub(crate) fn content(&self) -> &Content {
        let (_, newest) = self.kept.published.last_key_value().unwrap();
        &self.contents[&newest.digest]
    }
}
