//! When a residual is kept, and whose it must be to be used.

#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use fedmerge_common::checkpoint::CheckpointWriter;
use fedmerge_common::digest::Digest;
use fedmerge_common::schema::TensorSpec;
use fedmerge_common::task_vector::Encoding;

use super::*;

struct Desk {
    root: tempfile::TempDir,
    residual: Residual,
    place: Workplace,
}

fn settings(federation: &str, client: &str) -> Settings {
    Settings {
        server: "localhost:7600".parse().unwrap(),
        federation: federation.parse().unwrap(),
        client: client.parse().unwrap(),
        certificate: None,
    }
}

fn base() -> Schema {
    let spec = |name, dtype| TensorSpec::new(name, dtype, vec![3]).unwrap();
    Schema::new(vec![spec("w", Dtype::Bf16), spec("steps", Dtype::I64)]).unwrap()
}

fn header(round: u64, content: &[u8]) -> UpdateHeader {
    UpdateHeader {
        round: RoundNumber::new(round),
        base: Digest::of(b"base"),
        encoding: Encoding::Sign,
        payload: Digest::of(content),
        payload_bytes: content.len() as u64,
        num_examples: 1,
        metrics: BTreeMap::new(),
    }
}

impl Desk {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let directory = ClientDirectory::new(root.path());
        let residual = Residual::of(&directory, &settings("digits", "ward-3"));
        let round = RoundNumber::new(3);
        let place = Workplace::of(&directory.work(), round, PathBuf::new());
        fs::create_dir_all(place.residual.parent().unwrap()).unwrap();
        Self {
            root,
            residual,
            place,
        }
    }

    /// Leaves a residual beside an update, as `whose` does.
    fn write(&self, whose: &Residual, header: &UpdateHeader) {
        let schema = expected_schema(&base(), Dtype::F32);
        let metadata = whose.metadata(header);
        let writer = CheckpointWriter::create(&self.place.residual, &schema, &metadata).unwrap();
        writer.write_f32(0, 0, &[1.0, 2.0, 3.0]).unwrap();
        writer.finish().unwrap();
    }

    fn recall(&self, round: u64) -> Recalled {
        self.residual.recall(RoundNumber::new(round), &base())
    }

    #[track_caller]
    fn dropped(&self, round: u64, expected: &str) {
        match self.recall(round) {
            Recalled::Dropped(reason) => assert_eq!(reason, expected),
            other @ (Recalled::Nothing | Recalled::Kept(_)) => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_an_accepted_update_lost_is_there_for_the_next_round_alone() {
    let desk = Desk::new();
    assert!(matches!(desk.recall(4), Recalled::Nothing));
    let header = header(3, b"update");
    desk.write(&desk.residual, &header);
    // Nothing counts before the server said so.
    assert!(matches!(desk.recall(4), Recalled::Nothing));
    desk.residual.settle(&desk.place, &header).unwrap();
    let Recalled::Kept(kept) = desk.recall(4) else {
        panic!("it is the round after");
    };
    let mut values = [0.0; 3];
    kept.read_f32(0, 0, &mut values).unwrap();
    assert!(
        values
            .iter()
            .zip([1.0, 2.0, 3.0])
            .all(|(value, expected)| (value - expected).abs() < f32::EPSILON)
    );
    for round in [1, 2, 3, 5, 6] {
        desk.dropped(round, "no update of the round before counted");
    }
}

#[test]
fn what_is_settled_twice_is_settled_once() {
    let desk = Desk::new();
    let header = header(3, b"update");
    desk.write(&desk.residual, &header);
    desk.residual.settle(&desk.place, &header).unwrap();
    desk.residual.settle(&desk.place, &header).unwrap();
    assert!(matches!(desk.recall(4), Recalled::Kept(_)));
}

#[test]
fn the_residual_of_another_update_is_not_kept() {
    let desk = Desk::new();
    desk.write(&desk.residual, &header(3, b"an earlier try"));
    desk.residual
        .settle(&desk.place, &header(3, b"update"))
        .unwrap();
    assert!(matches!(desk.recall(4), Recalled::Nothing));
    // A file that was cut by a crash of its writer is none.
    fs::write(&desk.place.residual, b"half").unwrap();
    desk.residual
        .settle(&desk.place, &header(3, b"update"))
        .unwrap();
    assert!(matches!(desk.recall(4), Recalled::Nothing));
}

#[test]
fn a_residual_that_is_foreign_damaged_or_of_other_tensors_is_dropped() {
    let desk = Desk::new();
    let header = header(3, b"update");
    let directory = ClientDirectory::new(desk.root.path());
    for (federation, client) in [("digits", "ward-4"), ("letters", "ward-3")] {
        let other = Residual::of(&directory, &settings(federation, client));
        desk.write(&other, &header);
        desk.residual.settle(&desk.place, &header).unwrap();
        desk.dropped(4, "it is not this client's");
    }
    desk.write(&desk.residual, &header);
    desk.residual.settle(&desk.place, &header).unwrap();
    let spec = TensorSpec::new("w", Dtype::F32, vec![4]).unwrap();
    let grown = Schema::new(vec![spec]).unwrap();
    let recalled = desk.residual.recall(RoundNumber::new(4), &grown);
    assert!(matches!(
        recalled,
        Recalled::Dropped("the base has other tensors now")
    ));
    fs::write(directory.residual(), b"half").unwrap();
    desk.dropped(4, "its file cannot be read");
}
