//! What survives the server: its record, the stories of rounds, and models whose content shows which updates are in them.

use std::collections::{BTreeMap, BTreeSet};

use fedmerge_common::digest::Digest;
use fedmerge_common::ids::{ClientId, ModelVersion, RoundNumber};
use fedmerge_common::update::ModelRef;
use fedmerge_coordinator::{Counted, Record, RoundSummary};

/// One update, by whose it is and which task it answers.
pub(crate) type Contribution = (ClientId, RoundNumber);

/// The updates in a model, those of its ancestors too.
pub(crate) type Content = BTreeSet<Contribution>;

/// How a write of the record ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    /// It is durable.
    Whole,
    /// The process dies in the middle: what is there is garbage, and the record before is what counts.
    Torn,
    /// The process dies before.
    Nothing,
}

/// A disk. Of two copies of the record one is always whole, as in a journal.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    copies: [String; 2],
    newest: usize,
    stories: BTreeMap<RoundNumber, RoundSummary>,
    /// Complete models, published or not.
    contents: BTreeMap<Digest, Content>,
    published: BTreeMap<ModelVersion, ModelRef>,
}

impl Disk {
    pub(crate) fn new(record: &Record, base: ModelRef) -> Self {
        let text = serde_json::to_string(record).unwrap();
        Self {
            copies: [text.clone(), text],
            newest: 0,
            stories: BTreeMap::new(),
            contents: BTreeMap::from([(base.digest, Content::new())]),
            published: BTreeMap::from([(base.version, base)]),
        }
    }

    /// Stores a record and the stories of closed rounds: all of it, or nothing.
    pub(crate) fn commit(&mut self, record: &Record, closed: &[RoundSummary], write: Write) {
        let text = serde_json::to_string(record).unwrap();
        let other = 1 - self.newest;
        match write {
            Write::Nothing => {}
            Write::Torn => self.copies[other] = text[..text.len() / 2].to_owned(),
            Write::Whole => {
                self.copies[other] = text;
                self.newest = other;
                for summary in closed {
                    let before = self.stories.insert(summary.round, summary.clone());
                    assert!(before.is_none_or(|before| before == *summary));
                }
            }
        }
    }

    /// The last record that is whole.
    pub(crate) fn record(&self) -> Record {
        serde_json::from_str(&self.copies[self.newest]).unwrap()
    }

    pub(crate) fn stories(&self) -> &BTreeMap<RoundNumber, RoundSummary> {
        &self.stories
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

    /// Makes a candidate a fact.
    pub(crate) fn publish(&mut self, candidate: ModelRef) {
        let before = self.published.insert(candidate.version, candidate);
        assert!(
            before.is_none_or(|before| before == candidate),
            "one base per version: {before:?}, then {candidate:?}"
        );
    }

    pub(crate) fn has(&self, model: &ModelRef) -> bool {
        self.published.get(&model.version) == Some(model)
    }

    /// What is in the newest model.
    pub(crate) fn content(&self) -> &Content {
        let (_, newest) = self.published.last_key_value().unwrap();
        &self.contents[&newest.digest]
    }
}
