//! Checkpoints that trainers write, good and bad.

#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use std::collections::BTreeMap;
use std::fs;

use fedmerge_common::checkpoint::CheckpointWriter;
use fedmerge_common::digest::Digest;
use fedmerge_common::dtype::Dtype;
use fedmerge_common::ids::{ModelVersion, RoundNumber};
use fedmerge_common::schema::{Schema, TensorSpec};
use fedmerge_common::task_vector::encoding::Density;
use fedmerge_common::units::{ByteSize, Millis, Timestamp};
use fedmerge_common::update::ModelRef;

use super::*;
use crate::settings::{ClientDirectory, Settings};

mod feedback;

struct Bench {
    root: tempfile::TempDir,
    place: Workplace,
    task: Task,
    residual: Residual,
    policy: Policy,
}

/// One tensor of a checkpoint: its values are `start`, `start + 1`, …
type Tensor<'a> = (&'a str, Dtype, &'a [usize], f32);

const BASE: [Tensor<'static>; 2] = [
    ("bias", Dtype::F32, &[2], 0.5),
    ("weight", Dtype::F32, &[2, 3], 1.0),
];

fn write(path: &Path, tensors: &[Tensor<'_>]) {
    let specs = tensors
        .iter()
        .map(|(name, dtype, shape, _)| TensorSpec::new(*name, *dtype, shape.to_vec()).unwrap());
    let schema = Schema::new(specs.collect()).unwrap();
    let writer = CheckpointWriter::create(path, &schema, &BTreeMap::new()).unwrap();
    for (name, dtype, _, start) in tensors {
        let index = schema.index_of(name).unwrap();
        let elements = schema.tensors()[index].elements();
        if dtype.is_mergeable() {
            let values: Vec<f32> = (0..elements).map(|step| start + step as f32).collect();
            writer.write_f32(index, 0, &values).unwrap();
        }
    }
    writer.finish().unwrap();
}

fn residual(root: &Path) -> Residual {
    let settings = Settings {
        server: "localhost:7600".parse().unwrap(),
        federation: "digits".parse().unwrap(),
        client: "ward-3".parse().unwrap(),
        certificate: None,
    };
    Residual::of(&ClientDirectory::new(root), &settings)
}

fn bench() -> Bench {
    let root = tempfile::tempdir().unwrap();
    let base = root.path().join("base.safetensors");
    write(&base, &BASE);
    let round = RoundNumber::new(3);
    let place = Workplace::of(&root.path().join("work"), round, base.clone());
    fs::create_dir_all(place.out.parent().unwrap()).unwrap();
    let task = Task {
        round,
        base: ModelRef {
            version: ModelVersion::new(2),
            digest: Digest::of_file(&base).unwrap(),
            size_bytes: base.metadata().unwrap().len(),
        },
        deadline: Timestamp::new(0),
        encodings: vec![Encoding::F32, Encoding::Bf16],
        density: Density::default(),
        max_update_bytes: ByteSize::new(1 << 20),
        step_back: None,
        doubt: None,
        noise: None,
    };
    Bench {
        residual: residual(root.path()),
        policy: Policy::default(),
        root,
        place,
        task,
    }
}

fn trained() -> Trained {
    Trained {
        num_examples: Some(180),
        metrics: BTreeMap::new(),
        elapsed: Millis::new(1),
    }
}

fn submit(bench: &Bench) -> Result<UpdateHeader, Decline> {
    let prepared = prepare(
        &bench.place,
        &bench.task,
        &trained(),
        &bench.residual,
        &bench.policy,
    )?;
    Ok(prepared.header)
}

fn declined(tensors: &[Tensor<'_>]) -> Decline {
    let bench = bench();
    write(&bench.place.out, tensors);
    let decline = submit(&bench).unwrap_err();
    assert_eq!(decline.kind, DeclineKind::BadCheckpoint);
    decline
}

#[test]
fn a_trainer_that_wrote_over_its_base_declines_and_is_told() {
    let bench = bench();
    let changed = [
        ("bias", Dtype::F32, [2].as_slice(), 1.5),
        ("weight", Dtype::F32, &[2, 3], 3.0),
    ];
    write(&bench.place.out, &changed);
    write(&bench.place.base, &changed);
    let decline = submit(&bench).unwrap_err();
    assert_eq!(decline.kind, DeclineKind::BadCheckpoint);
    assert!(decline.detail.contains("FEDMERGE_BASE"), "{decline:?}");
    assert!(!bench.place.update.exists());
}

#[test]
fn an_update_is_the_difference_with_its_description() {
    let bench = bench();
    write(
        &bench.place.out,
        &[
            ("bias", Dtype::F32, &[2], 1.5),
            ("weight", Dtype::F32, &[2, 3], 3.0),
        ],
    );
    let header = submit(&bench).unwrap();
    assert_eq!(header.round, bench.task.round);
    assert_eq!(header.base, bench.task.base.digest);
    assert_eq!(header.encoding, Encoding::F32);
    assert_eq!(header.num_examples, 180);
    assert_eq!(
        header.payload,
        Digest::of_file(&bench.place.update).unwrap()
    );
    assert_eq!(
        header.payload_bytes,
        bench.place.update.metadata().unwrap().len()
    );
    let update = Checkpoint::open(&bench.place.update).unwrap();
    for (name, difference) in [("bias", [1.0; 2].as_slice()), ("weight", &[2.0; 6])] {
        let index = update.schema().index_of(name).unwrap();
        let mut values = vec![0.0; difference.len()];
        update.read_f32(index, 0, &mut values).unwrap();
        assert_eq!(values, difference, "{name}");
    }
}

#[test]
fn a_checkpoint_in_another_float_type_is_taken() {
    let bench = bench();
    write(
        &bench.place.out,
        &[
            ("bias", Dtype::Bf16, &[2], 1.5),
            ("weight", Dtype::F16, &[2, 3], 3.0),
        ],
    );
    submit(&bench).unwrap();
}

#[test]
fn an_unsaid_example_count_is_one() {
    let bench = bench();
    write(&bench.place.out, &BASE);
    let silent = Trained {
        num_examples: None,
        ..trained()
    };
    assert_eq!(
        prepare(
            &bench.place,
            &bench.task,
            &silent,
            &bench.residual,
            &bench.policy
        )
        .unwrap()
        .header
        .num_examples,
        1
    );
}

#[test]
fn a_trainer_that_wrote_nothing_declines() {
    let decline = submit(&bench()).unwrap_err();
    assert_eq!(decline.kind, DeclineKind::BadCheckpoint);
    assert!(
        decline
            .detail
            .contains("wrote no checkpoint to FEDMERGE_OUT"),
        "{decline:?}"
    );
}

#[test]
fn a_file_that_is_no_checkpoint_declines() {
    for content in [
        b"".as_slice(),
        b"\x10\0\0\0\0\0\0\0{}",
        b"PK\x03\x04 a pickle of a state dict",
    ] {
        let bench = bench();
        fs::write(&bench.place.out, content).unwrap();
        let decline = submit(&bench).unwrap_err();
        assert_eq!(decline.kind, DeclineKind::BadCheckpoint);
        assert!(decline.detail.contains("cannot be read"), "{decline:?}");
        assert!(
            !decline.detail.contains(".safetensors"),
            "a path left the site: {decline:?}"
        );
    }
}

#[test]
fn a_truncated_checkpoint_declines() {
    let bench = bench();
    write(&bench.place.out, &BASE);
    let whole = fs::read(&bench.place.out).unwrap();
    fs::write(&bench.place.out, &whole[..whole.len() - 4]).unwrap();
    assert_eq!(submit(&bench).unwrap_err().kind, DeclineKind::BadCheckpoint);
}

#[test]
fn the_first_difference_from_the_base_is_named() {
    let other_shape = declined(&[
        ("bias", Dtype::F32, &[2], 0.0),
        ("weight", Dtype::F32, &[3, 2], 0.0),
    ]);
    assert!(other_shape.detail.contains("weight"), "{other_shape:?}");
    let missing = declined(&[("bias", Dtype::F32, &[2], 0.0)]);
    assert!(missing.detail.contains("weight"), "{missing:?}");
    let unexpected = declined(&[BASE[0], BASE[1], ("extra", Dtype::F32, &[1], 0.0)]);
    assert!(unexpected.detail.contains("extra"), "{unexpected:?}");
    let not_float = declined(&[("bias", Dtype::I64, &[2], 0.0), BASE[1]]);
    assert!(not_float.detail.contains("bias"), "{not_float:?}");
}

#[test]
fn a_plan_without_an_encoding_we_know_declines_by_policy() {
    let mut bench = bench();
    bench.task.encodings.clear();
    write(&bench.place.out, &BASE);
    assert_eq!(submit(&bench).unwrap_err().kind, DeclineKind::Policy);
}
