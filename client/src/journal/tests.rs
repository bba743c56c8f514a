//! Journals that are whole, damaged, of another time and of another owner.

#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use std::collections::BTreeMap;

use fedmerge_common::task_vector::Encoding;
use fedmerge_common::units::Millis;
use fedmerge_common::update::UpdateHeader;

use super::*;
use crate::testbed::{client_id, federation};
use crate::trainer::Trained;

const PAYLOAD: &[u8] = b"payload";

struct Desk {
    root: tempfile::TempDir,
    journal: Journal,
}

fn desk() -> Desk {
    let root = tempfile::tempdir().unwrap();
    let directory = ClientDirectory::new(root.path());
    let settings = Settings {
        server: "localhost:7600".parse().unwrap(),
        federation: federation(),
        client: client_id(),
        certificate: None,
    };
    let journal = Journal::of(&directory, &settings);
    let place = Workplace::of(&directory.work(), RoundNumber::new(3), PathBuf::new());
    place.clear_update().unwrap();
    fs::write(&place.update, PAYLOAD).unwrap();
    fs::write(&place.out, "checkpoint").unwrap();
    Desk { root, journal }
}

/// Values that lose their last bit, or their sign, where they are written carelessly.
fn metrics() -> BTreeMap<String, f64> {
    let values = [0.1 + 0.2, -0.0, f64::MIN_POSITIVE, 1e300, 0.0];
    let named = values.iter().zip('a'..);
    named
        .map(|(value, name)| (name.to_string(), *value))
        .collect()
}

fn trained() -> Memory {
    Memory::Trained {
        round: RoundNumber::new(3),
        base: Digest::of(b"base"),
        trained: Trained {
            num_examples: None,
            metrics: metrics(),
            elapsed: Millis::new(1_234_567),
        },
    }
}

fn prepared() -> Memory {
    Memory::Prepared(UpdateHeader {
        round: RoundNumber::new(3),
        base: Digest::of(b"base"),
        encoding: Encoding::Bf16,
        payload: Digest::of(PAYLOAD),
        payload_bytes: PAYLOAD.len() as u64,
        num_examples: u64::MAX,
        metrics: metrics(),
    })
}

impl Desk {
    /// What a next process recalls, and why it does not.
    fn recalled(&self) -> Result<Option<Memory>, String> {
        let recalled = self.journal.recall().unwrap();
        recalled.map_err(|unusable| fedmerge_common::failure::explain(&unusable))
    }

    fn page(&self) -> PathBuf {
        self.root.path().join("journal.json")
    }
}

#[test]
fn a_memory_is_recalled_to_the_last_bit_until_it_is_forgotten() {
    let desk = desk();
    assert_eq!(desk.recalled(), Ok(None));
    for memory in [trained(), prepared()] {
        desk.journal.keep(Some(&memory)).unwrap();
        assert_eq!(desk.recalled(), Ok(Some(memory)));
    }
    for _ in 0..2 {
        desk.journal.keep(None).unwrap();
        assert_eq!(desk.recalled(), Ok(None));
    }
    assert!(!desk.page().exists());
}

#[test]
fn a_damaged_journal_is_told_and_not_believed() {
    let desk = desk();
    desk.journal.keep(Some(&prepared())).unwrap();
    let whole = fs::read_to_string(desk.page()).unwrap();
    let digest = Digest::of(PAYLOAD).to_string();
    let damaged = [
        String::new(),
        "\0".repeat(whole.len()),
        whole[..whole.len() / 2].to_owned(),
        "[]".to_owned(),
        "[".repeat(100_000),
        "{\"version\": 1}".to_owned(),
        whole.replacen("\"version\": 1", "\"version\": 0", 1),
        whole.replacen("\"version\": 1", "\"version\": -1", 1),
        whole.replacen("\"round\": 3", "\"round\": \"3\"", 1),
        whole.replacen("\"round\": 3", "\"round\": 3, \"more\": 1", 1),
        whole.replacen("0.30000000000000004", "many", 1),
        whole.replacen(&digest, "md5:0", 1),
        whole + &" ".repeat(1024 * 1024),
    ];
    for text in damaged {
        fs::write(desk.page(), &text).unwrap();
        let told = desk.recalled().unwrap_err();
        assert!(told.starts_with("the journal is damaged: "), "{told}");
    }
}

#[test]
fn a_page_with_any_byte_changed_or_cut_off_is_refused_or_reads_as_what_it_says() {
    for memory in [trained(), prepared()] {
        let page = Page {
            federation: federation(),
            client: client_id(),
            memory,
        };
        let whole = page.to_json();
        for place in 0..whole.len() {
            let mut damaged = whole.clone();
            for byte in *b"\0 09\"aZ{}[],:-e\x7f\xc3\xff" {
                damaged[place] = byte;
                if let Ok(read) = Page::read(&damaged) {
                    assert_eq!(Page::read(&read.to_json()).unwrap(), read);
                }
            }
            // Without its last newline a page is as whole as with it.
            let cut = Page::read(&whole[..place]);
            assert_eq!(cut.is_ok(), place + 1 == whole.len(), "{place}: {cut:?}");
        }
    }
}

#[test]
fn a_journal_of_a_newer_version_is_refused_and_stays() {
    let desk = desk();
    let newer = r#"{"version": 2, "anything": "else"}"#;
    fs::write(desk.page(), newer).unwrap();
    let failure = Failure::from(desk.journal.recall().unwrap_err());
    assert_eq!(failure.exit, ExitCode::BadData);
    assert!(failure.message.contains("has version 2"), "{failure}");
    assert!(failure.hint.unwrap().contains("remove the file"));
    assert_eq!(fs::read_to_string(desk.page()).unwrap(), newer);
}

#[test]
fn the_journal_of_another_client_or_federation_is_not_believed() {
    let desk = desk();
    for (federation, client) in [("digits", "ward-4"), ("letters", "ward-3")] {
        let stranger = Journal {
            federation: federation.parse().unwrap(),
            client: client.parse().unwrap(),
            ..desk.journal.clone()
        };
        stranger.keep(Some(&prepared())).unwrap();
        let told = format!("the journal is that of client {client} of federation {federation}");
        assert_eq!(desk.recalled(), Err(told));
    }
}

#[test]
fn a_memory_of_files_that_are_gone_or_others_is_not_believed() {
    let desk = desk();
    let round = desk.root.path().join("work/round-3");
    desk.journal.keep(Some(&prepared())).unwrap();
    for content in ["", "payloa", "Payload", "payload and more"] {
        fs::write(round.join("update/update.safetensors"), content).unwrap();
        assert!(
            desk.recalled()
                .is_err_and(|why| why.starts_with("round 3: ")),
            "{content}"
        );
    }
    fs::remove_dir_all(round.join("update")).unwrap();
    assert!(desk.recalled().is_err());
    desk.journal.keep(Some(&trained())).unwrap();
    assert_eq!(desk.recalled(), Ok(Some(trained())));
    fs::remove_file(round.join("out.safetensors")).unwrap();
    assert!(
        desk.recalled()
            .is_err_and(|why| why.contains("out.safetensors"))
    );
}

#[test]
fn a_memory_that_cannot_be_written_leaves_no_older_one_behind() {
    let desk = desk();
    desk.journal.keep(Some(&trained())).unwrap();
    // Where the new page would grow, there is something that cannot be written.
    fs::create_dir(desk.root.path().join("journal.json.part")).unwrap();
    desk.journal.keep(Some(&prepared())).unwrap_err();
    assert_eq!(desk.recalled(), Ok(None));
}

#[test]
fn what_a_crash_left_of_a_page_is_overwritten() {
    let desk = desk();
    fs::write(desk.root.path().join("journal.json.part"), "half a pa").unwrap();
    assert_eq!(desk.recalled(), Ok(None));
    desk.journal.keep(Some(&trained())).unwrap();
    assert_eq!(desk.recalled(), Ok(Some(trained())));
    assert!(!desk.root.path().join("journal.json.part").exists());
}
