//! What is written is read back, by us and by the reference reader, and the bytes depend on the content alone.

#![expect(clippy::unwrap_used, reason = "a failed test should panic")]
#![expect(clippy::float_cmp, reason = "these values are exact")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;
use safetensors::SafeTensors;
use tempfile::TempDir;

use super::*;
use crate::digest::Digest;
use crate::dtype::Dtype;
use crate::schema::{Schema, TensorSpec};

fn schema(tensors: &[(&str, Dtype, &[usize])]) -> Schema {
    let specs = tensors
        .iter()
        .map(|(name, dtype, shape)| TensorSpec::new(*name, *dtype, shape.to_vec()).unwrap());
    Schema::new(specs.collect()).unwrap()
}

fn mixed() -> Schema {
    schema(&[
        ("scale", Dtype::Bf16, &[3]),
        ("weight", Dtype::F32, &[2, 2]),
        ("steps", Dtype::I64, &[]),
        ("mask", Dtype::Bool, &[5]),
        ("empty", Dtype::F32, &[0, 7]),
        ("half", Dtype::F16, &[1]),
    ])
}

fn names_in(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn write_mixed(path: &Path) -> WrittenCheckpoint {
    let schema = mixed();
    let index = |name| schema.index_of(name).unwrap();
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let writer = CheckpointWriter::create(path, &schema, &metadata).unwrap();
    // Out of order and in pieces: places are fixed beforehand.
    writer.write_f32(index("weight"), 2, &[3.0, 4.0]).unwrap();
    writer
        .write_bytes(index("steps"), 0, &7_i64.to_le_bytes())
        .unwrap();
    writer
        .write_f32(index("scale"), 0, &[0.5, -1.0, 2.0])
        .unwrap();
    writer.write_bytes(index("mask"), 1, &[1, 1]).unwrap();
    writer.write_f32(index("weight"), 0, &[1.0, 2.0]).unwrap();
    writer.write_f32(index("half"), 0, &[1.5]).unwrap();
    writer.finish().unwrap()
}

#[test]
fn what_is_written_is_read_back() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("x.safetensors");
    let written = write_mixed(&path);
    assert_eq!(written.digest, Digest::of_file(&path).unwrap());
    assert_eq!(written.bytes, fs::metadata(&path).unwrap().len());
    assert_eq!(names_in(directory.path()), ["x.safetensors"]);

    let checkpoint = Checkpoint::open(&path).unwrap();
    assert_eq!(checkpoint.schema(), &mixed());
    let mut values = [0.0; 2];
    checkpoint
        .read_f32(mixed().index_of("weight").unwrap(), 1, &mut values)
        .unwrap();
    assert_eq!(values, [2.0, 3.0]);
    let mut values = [0.0; 3];
    checkpoint
        .read_f32(mixed().index_of("scale").unwrap(), 0, &mut values)
        .unwrap();
    assert_eq!(values, [0.5, -1.0, 2.0]);
    let mut bytes = [9; 5];
    checkpoint
        .read_bytes(mixed().index_of("mask").unwrap(), 0, &mut bytes)
        .unwrap();
    assert_eq!(bytes, [0, 1, 1, 0, 0]);
    checkpoint
        .read_f32(mixed().index_of("empty").unwrap(), 0, &mut [])
        .unwrap();
}

#[test]
fn the_reference_reader_reads_it_and_lays_it_out_alike() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("x.safetensors");
    write_mixed(&path);
    let ours = fs::read(&path).unwrap();
    let theirs = SafeTensors::deserialize(&ours).unwrap();
    assert_eq!(theirs.len(), mixed().len());
    assert_eq!(theirs.tensor("steps").unwrap().data(), 7_i64.to_le_bytes());
    assert_eq!(theirs.tensor("weight").unwrap().shape(), [2, 2]);
    let header_bytes = u64::from_le_bytes(ours[..8].try_into().unwrap());
    assert_eq!(header_bytes % 8, 0);
    let header =
        String::from_utf8(ours[8..8 + usize::try_from(header_bytes).unwrap()].to_vec()).unwrap();
    assert_eq!(
        header.trim_end(),
        r#"{"__metadata__":{"format":"pt"},"#.to_owned()
            + r#""steps":{"dtype":"I64","shape":[],"data_offsets":[0,8]},"#
            + r#""empty":{"dtype":"F32","shape":[0,7],"data_offsets":[8,8]},"#
            + r#""weight":{"dtype":"F32","shape":[2,2],"data_offsets":[8,24]},"#
            + r#""half":{"dtype":"F16","shape":[1],"data_offsets":[24,26]},"#
            + r#""scale":{"dtype":"BF16","shape":[3],"data_offsets":[26,32]},"#
            + r#""mask":{"dtype":"BOOL","shape":[5],"data_offsets":[32,37]}}"#
    );
}

#[test]
fn what_the_reference_writer_wrote_is_read() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("x.safetensors");
    let data: Vec<u8> = [1.0_f32, 2.0]
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let view =
        safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2], &data).unwrap();
    fs::write(&path, safetensors::serialize([("a", view)], None).unwrap()).unwrap();
    let mut values = [0.0; 2];
    Checkpoint::open(&path)
        .unwrap()
        .read_f32(0, 0, &mut values)
        .unwrap();
    assert_eq!(values, [1.0, 2.0]);
}

#[test]
fn equal_content_makes_equal_bytes() {
    let directory = TempDir::new().unwrap();
    let first = write_mixed(&directory.path().join("a.safetensors"));
    let second = write_mixed(&directory.path().join("b.safetensors"));
    assert_eq!(first, second);
}

#[test]
fn a_checkpoint_that_is_given_up_leaves_nothing() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("x.safetensors");
    let writer = CheckpointWriter::create(&path, &mixed(), &BTreeMap::new()).unwrap();
    assert_eq!(names_in(directory.path()).len(), 1);
    drop(writer);
    assert!(names_in(directory.path()).is_empty());
}

#[test]
fn the_target_is_untouched_until_the_new_checkpoint_is_complete() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("x.safetensors");
    fs::write(&path, b"before").unwrap();
    let writer = CheckpointWriter::create(&path, &mixed(), &BTreeMap::new()).unwrap();
    let other = CheckpointWriter::create(&path, &mixed(), &BTreeMap::new()).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"before");
    drop(other);
    writer.finish().unwrap();
    assert!(Checkpoint::open(&path).is_ok());
}

#[test]
fn a_write_past_the_end_of_a_tensor_is_refused() {
    let directory = TempDir::new().unwrap();
    let schema = schema(&[("a", Dtype::Bf16, &[2]), ("b", Dtype::I64, &[1])]);
    let path = directory.path().join("x.safetensors");
    let writer = CheckpointWriter::create(&path, &schema, &BTreeMap::new()).unwrap();
    for (offset, length) in [(0, 3), (2, 1), (usize::MAX, 1)] {
        let error = writer.write_f32(0, offset, &vec![0.0; length]).unwrap_err();
        assert!(
            matches!(error, WriteCheckpointError::OutOfRange { available: 4, .. }),
            "{error}"
        );
    }
    assert!(matches!(
        writer.write_f32(1, 0, &[0.0]),
        Err(WriteCheckpointError::Convert { .. })
    ));
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let error = CheckpointWriter::create(
        Path::new("/nonexistent/x.safetensors"),
        &mixed(),
        &BTreeMap::new(),
    );
    let error = error.unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot write `/nonexistent/x.safetensors`"
    );
    assert!(!error.is_storage_full());
}

#[test]
fn values_are_read_in_their_own_type_and_widened_over_strips() {
    let directory = TempDir::new().unwrap();
    let elements = 20_000;
    for (dtype, expected) in [
        (Dtype::F32, 20_000.25),
        (Dtype::F16, 20_000.0),
        (Dtype::Bf16, 19_968.0),
    ] {
        let path = directory.path().join("x.safetensors");
        let schema = schema(&[("a", dtype, &[elements]), ("b", Dtype::I64, &[1])]);
        let writer = CheckpointWriter::create(&path, &schema, &BTreeMap::new()).unwrap();
        let values: Vec<f64> = (1_u16..=20_000)
            .map(|value| f64::from(value) + 0.25)
            .collect();
        assert_eq!(writer.write_f64(0, 0, &values).unwrap(), 0);
        assert!(matches!(
            writer.write_f64(1, 0, &[0.0]),
            Err(WriteCheckpointError::Convert { .. })
        ));
        writer.finish().unwrap();
        let checkpoint = Checkpoint::open(&path).unwrap();
        let mut widened = vec![0.0; elements - 1];
        checkpoint.read_f32(0, 1, &mut widened).unwrap();
        assert_eq!(widened.last(), Some(&expected), "{dtype}");
        let mut buffer = vec![0.0; elements];
        let own: Vec<f32> = match checkpoint.read_floats(0, 1, elements - 1, &mut buffer) {
            Ok(Floats::F32(values)) => values.to_vec(),
            Ok(Floats::F16(values)) => values.iter().map(|value| value.to_f32()).collect(),
            Ok(Floats::Bf16(values)) => values.iter().map(|value| value.to_f32()).collect(),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(own, widened, "{dtype}");
        assert!(checkpoint.read_floats(1, 0, 1, &mut buffer).is_err());
        assert_eq!(checkpoint.changed_file(), None);
        fs::write(&path, b"").unwrap();
        assert_eq!(checkpoint.changed_file(), Some(path.as_path()));
    }
}

#[test]
fn a_sharded_directory_is_one_checkpoint() {
    let directory = TempDir::new().unwrap();
    for (file, name, value) in [("2.safetensors", "a", 1.0), ("1.safetensors", "b", 2.0)] {
        let schema = schema(&[(name, Dtype::F32, &[1])]);
        let writer =
            CheckpointWriter::create(&directory.path().join(file), &schema, &BTreeMap::new())
                .unwrap();
        writer.write_f32(0, 0, &[value]).unwrap();
        writer.finish().unwrap();
    }
    let index =
        r#"{"metadata":{"total_size":8},"weight_map":{"a":"2.safetensors","b":"1.safetensors"}}"#;
    fs::write(directory.path().join("model.safetensors.index.json"), index).unwrap();
    let checkpoint = Checkpoint::open(directory.path()).unwrap();
    for (tensor, expected) in [1.0_f32, 2.0].into_iter().enumerate() {
        let mut value = [0.0];
        checkpoint.read_f32(tensor, 0, &mut value).unwrap();
        assert_eq!(value, [expected]);
    }
    let names: Vec<_> = checkpoint
        .files()
        .map(|path| path.file_name().unwrap())
        .collect();
    assert_eq!(names, ["1.safetensors", "2.safetensors"]);
}

fn any_schema() -> impl Strategy<Value = Schema> {
    let dtype = proptest::sample::select(Dtype::ALL);
    let shape = proptest::collection::vec(0_usize..4, 0..4);
    // Any text may be a name, as long as it is plain.
    let tensors = proptest::collection::btree_map("\\PC{1,12}", (dtype, shape), 0..8);
    tensors.prop_map(|tensors| {
        let specs = tensors
            .into_iter()
            .map(|(name, (dtype, shape))| TensorSpec::new(name, dtype, shape).unwrap());
        Schema::new(specs.filter(|spec| spec.name() != "__metadata__").collect()).unwrap()
    })
}

/// The bytes of [`write_mixed`], written once: each writing waits for the disk.
static HONEST: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("x.safetensors");
    write_mixed(&path);
    fs::read(&path).unwrap()
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_schema_is_read_back_by_us_and_by_the_reference(schema in any_schema()) {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("x.safetensors");
        let writer = CheckpointWriter::create(&path, &schema, &BTreeMap::new()).unwrap();
        let written = writer.finish().unwrap();
        let checkpoint = Checkpoint::open(&path).unwrap();
        prop_assert_eq!(checkpoint.schema(), &schema);
        let bytes = fs::read(&path).unwrap();
        prop_assert_eq!(bytes.len() as u64, written.bytes);
        prop_assert_eq!(SafeTensors::deserialize(&bytes).unwrap().len(), schema.len());
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_spoilt_byte_never_panics(position in 0_usize..400, value: u8) {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("x.safetensors");
        let mut bytes = HONEST.clone();
        let position = position % bytes.len();
        bytes[position] = value;
        fs::write(&path, &bytes).unwrap();
        if let Ok(checkpoint) = Checkpoint::open(&path) {
            // What we accept, the reference accepts as the same tensors.
            let theirs = SafeTensors::deserialize(&bytes).unwrap();
            for (index, spec) in checkpoint.schema().iter().enumerate() {
                let mut ours = vec![0; usize::try_from(spec.byte_len()).unwrap()];
                checkpoint.read_bytes(index, 0, &mut ours).unwrap();
                prop_assert_eq!(&ours[..], theirs.tensor(spec.name()).unwrap().data());
            }
        }
    }
}
