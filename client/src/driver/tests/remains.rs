//! A client that starts with what an earlier process had finished.

use fedmerge_common::ids::RoundNumber;
use fedmerge_common::task_vector::Encoding;
use fedmerge_common::update::UpdateHeader;

use super::*;
use crate::trainer::Trained;
use crate::trainer::workplace::Workplace;

/// A trainer that must not run: a round in which it does is declined.
const NEVER: &str = "exit 1";

impl Play {
    fn journal(&self) -> Journal {
        let settings = Settings {
            server: "localhost:1".parse().unwrap(),
            federation: federation(),
            client: client_id(),
            certificate: None,
        };
        Journal::of(&ClientDirectory::new(&self.directory), &settings)
    }

    /// The round's directory with a fine-tuned checkpoint and an update.
    fn place(&self) -> Workplace {
        let work = self.directory.join("work");
        let place = Workplace::of(&work, RoundNumber::new(3), PathBuf::new());
        place.clear_update().unwrap();
        checkpoint(&place.out, [2, 3]);
        place
    }

    fn base(&self) -> Digest {
        Digest::of(&self.theatre.base)
    }

    fn trained(&self) -> Memory {
        Memory::Trained {
            round: RoundNumber::new(3),
            base: self.base(),
            trained: Trained {
                num_examples: Some(180),
                metrics: BTreeMap::from([("loss".to_owned(), 0.1 + 0.2)]),
                elapsed: Millis::new(400),
            },
        }
    }

    /// The description of an update that is ready, and its bytes: made with other values than a training would have.
    fn prepared(&self) -> (UpdateHeader, Vec<u8>) {
        let place = self.place();
        checkpoint(&place.update, [5, 7]);
        let payload = fs::read(&place.update).unwrap();
        let header = UpdateHeader {
            round: RoundNumber::new(3),
            base: self.base(),
            encoding: Encoding::F32,
            payload: Digest::of(&payload),
            payload_bytes: payload.len() as u64,
            num_examples: 7,
            metrics: BTreeMap::from([("loss".to_owned(), 0.1 + 0.2)]),
        };
        (header, payload)
    }
}

/// Runs a client until it leaves well, and sees that nothing is remembered then.
async fn perform_and_forget(mut play: Play, command: &str) -> Seen {
    let root = std::mem::replace(&mut play.root, tempfile::tempdir().unwrap());
    let journal = play.directory.join("journal.json");
    let (result, seen) = perform(play, command).await;
    result.unwrap();
    assert!(!journal.exists(), "a round that is over is forgotten");
    drop(root);
    seen
}

#[tokio::test]
async fn a_finished_training_becomes_the_update_without_another_training() {
    let play = play();
    play.place();
    play.journal().keep(Some(&play.trained())).unwrap();
    let seen = perform_and_forget(play, NEVER).await;
    assert!(seen.declined.is_empty());
    let header = &seen.begun[0];
    assert_eq!((header.round, header.num_examples), (3, 180));
    assert_eq!(header.metrics.get("loss"), Some(&(0.1 + 0.2)));
}

#[tokio::test]
async fn a_ready_update_is_sent_byte_for_byte_under_the_same_header() {
    let play = play();
    let (header, payload) = play.prepared();
    let memory = Memory::Prepared(header.clone());
    play.journal().keep(Some(&memory)).unwrap();
    let seen = perform_and_forget(play, NEVER).await;
    assert_eq!(seen.begun, [v1::UpdateHeader::from(header)]);
    assert_eq!(seen.payload, payload);
}

#[tokio::test]
async fn an_update_whose_answer_was_lost_is_asked_for_and_not_trained_again() {
    let mut play = play();
    play.theatre.is_over = true;
    let (header, _) = play.prepared();
    let memory = Memory::Prepared(header.clone());
    play.journal().keep(Some(&memory)).unwrap();
    let seen = perform_and_forget(play, NEVER).await;
    assert_eq!(seen.begun, [v1::UpdateHeader::from(header)]);
}

#[tokio::test]
async fn remains_that_are_of_no_use_are_dropped_and_the_task_begins_again() {
    let spoil: [fn(&Play); 4] = [
        |play| fs::write(play.directory.join("journal.json"), "{").unwrap(),
        |play| fs::write(play.place().update, "another update").unwrap(),
        |play| {
            let base = Digest::of(b"another base");
            let header = UpdateHeader {
                base,
                ..play.prepared().0
            };
            play.journal()
                .keep(Some(&Memory::Prepared(header)))
                .unwrap();
        },
        |play| {
            let settings = Settings {
                server: "localhost:1".parse().unwrap(),
                federation: "letters".parse().unwrap(),
                client: client_id(),
                certificate: None,
            };
            let stranger = Journal::of(&ClientDirectory::new(&play.directory), &settings);
            stranger.keep(Some(&play.trained())).unwrap();
        },
    ];
    for spoil in spoil {
        let play = play();
        let (header, payload) = play.prepared();
        let memory = Memory::Prepared(header);
        play.journal().keep(Some(&memory)).unwrap();
        spoil(&play);
        let seen = perform_and_forget(play, COPY).await;
        assert_eq!((seen.begun.len(), seen.declined.len()), (1, 0));
        assert_ne!(seen.payload, payload);
    }
}

#[tokio::test]
async fn a_client_whose_journal_is_newer_than_its_program_does_not_start() {
    let play = play();
    fs::create_dir_all(&play.directory).unwrap();
    fs::write(play.directory.join("journal.json"), "{\"version\": 9}").unwrap();
    let (result, seen) = perform(play, NEVER).await;
    let failure = result.unwrap_err();
    assert_eq!(failure.exit, ExitCode::BadData);
    assert!(failure.hint.is_some());
    assert_eq!(seen.attended, 0);
}
