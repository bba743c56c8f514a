//! Whole task vectors: written, read back, lied about, and what of them was lost.
#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::digest::Digest;
use crate::ids::RoundNumber;
use crate::task_vector::coded::{InvalidTaskVector, ReadTaskVectorError, TaskVector};
use crate::task_vector::encoding::Density;

const CODED: [Encoding; 5] = [
    Encoding::Int8,
    Encoding::TopK,
    Encoding::Ternary,
    Encoding::Sign,
    Encoding::SeededMask,
];

fn sparsity() -> Sparsity {
    let client = "ward-1".parse().unwrap();
    Sparsity::of_update(
        Density::default(),
        &Digest::of(b"base"),
        RoundNumber::new(3),
        &client,
    )
}

struct Bench {
    directory: TempDir,
    base: Checkpoint,
}

fn schema() -> Schema {
    let spec = |name, dtype, shape| TensorSpec::new(name, dtype, shape).unwrap();
    Schema::new(vec![
        spec("bias", Dtype::F32, vec![3]),
        spec("frozen", Dtype::F32, vec![70_000]),
        spec("steps", Dtype::I64, vec![1]),
        spec("weight", Dtype::F32, vec![40, 5000]),
    ])
    .unwrap()
}

impl Bench {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("base");
        let base = checkpoint(&path, |_, _| 0.5);
        Self { directory, base }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A model that was trained: all but its frozen tensor differs.
    fn tuned(&self, name: &str, shift: f32) -> Checkpoint {
        checkpoint(&self.path(name), |tensor, index| {
            let wave = ((index * 37 % 101) as f32 - 50.0) / 4096.0;
            if tensor == "frozen" {
                0.5
            } else {
                0.5 + wave * wave * wave + shift
            }
        })
    }

    fn open(&self, name: &str) -> TaskVector {
        TaskVector::open(&self.path(name), self.base.schema()).unwrap()
    }

    fn refusal(&self, name: &str) -> InvalidTaskVector {
        match TaskVector::open(&self.path(name), self.base.schema()).unwrap_err() {
            ReadTaskVectorError::Invalid(error) => error,
            ReadTaskVectorError::Checkpoint(error) => panic!("{error}"),
        }
    }
}

fn checkpoint(path: &Path, value: impl Fn(&str, usize) -> f32) -> Checkpoint {
    let schema = schema();
    let writer = CheckpointWriter::create(path, &schema, &BTreeMap::new()).unwrap();
    for (position, tensor) in schema.iter().enumerate() {
        let values: Vec<f32> = (0..tensor.elements())
            .map(|index| value(tensor.name(), index))
            .collect();
        if tensor.is_mergeable() {
            writer.write_f32(position, 0, &values).unwrap();
        }
    }
    writer.finish().unwrap();
    Checkpoint::open(path).unwrap()
}

fn codec(encoding: Encoding) -> Codec {
    match encoding.content() {
        Content::Coded(codec) => codec,
        Content::Floats(dtype) => panic!("{dtype} is plain"),
    }
}

fn coded(vector: TaskVector) -> CodedTaskVector {
    match vector {
        TaskVector::Coded(coded) => *coded,
        TaskVector::Floats(checkpoint) => panic!("{checkpoint:?} is plain"),
    }
}

fn values(vector: &TaskVector, name: &str) -> Vec<f32> {
    let index = vector.schema().index_of(name).unwrap();
    let mut values = vec![f32::NAN; vector.schema().tensors()[index].elements()];
    vector.read_f32(index, 0, &mut values).unwrap();
    values
}

fn floats(checkpoint: Checkpoint) -> TaskVector {
    TaskVector::Floats(checkpoint)
}

/// A file with these tensors of bytes and this mark.
fn forge(path: &Path, tensors: &[(&str, Vec<usize>, &[u8])], metadata: &[(&str, &str)]) {
    let specs = tensors
        .iter()
        .map(|(name, shape, _)| TensorSpec::new(*name, Dtype::U8, shape.clone()).unwrap());
    let schema = Schema::new(specs.collect()).unwrap();
    let metadata = metadata
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let writer = CheckpointWriter::create(path, &schema, &metadata).unwrap();
    for (name, _, bytes) in tensors {
        let position = schema.index_of(name).unwrap();
        writer.write_bytes(position, 0, bytes).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn a_task_vector_is_read_back_in_the_shapes_of_the_base() {
    let bench = Bench::new();
    let tuned = bench.tuned("tuned", 0.0);
    let difference = Difference::new(&bench.base, &tuned).unwrap();
    for encoding in CODED {
        let out = bench.path("update");
        let written = difference
            .write(codec(encoding), &sparsity(), &out)
            .unwrap();
        let again = bench.path("again");
        let twice = difference.write(codec(encoding), &sparsity(), &again);
        assert_eq!(written, twice.unwrap(), "{encoding}");
        let vector = bench.open("update");
        vector.check_encoding(encoding).unwrap();
        assert_eq!(*vector.schema(), expected_schema(&schema(), Dtype::F32));
        assert_eq!(values(&vector, "frozen"), vec![0.0; 70_000]);
        let coded = coded(vector);
        coded.verify(&|| true).unwrap();
        assert_eq!(coded.encoding(), encoding);
        // All zero, so it is not even named.
        assert_eq!(coded.checkpoint().schema().index_of("frozen"), None);
        assert_eq!(coded.checkpoint().schema().len(), 2);
    }
}

#[test]
fn what_is_told_and_what_is_lost_are_together_what_there_was() {
    let bench = Bench::new();
    let tuned = bench.tuned("tuned", 0.0);
    for encoding in CODED {
        let difference = Difference::new(&bench.base, &tuned).unwrap();
        let write = |difference: &Difference<'_>, name| {
            let out = bench.path(name);
            difference
                .write(codec(encoding), &sparsity(), &out)
                .unwrap();
        };
        write(&difference, "first");
        let first = coded(bench.open("first"));
        let lost = bench.path("lost");
        difference
            .write_residual(&first, &BTreeMap::new(), &lost)
            .unwrap();
        let lost = Checkpoint::open(&lost).unwrap();
        let second = Difference::new(&bench.base, &tuned)
            .unwrap()
            .with_residual(&lost);
        assert!(second.has_residual());
        write(&second, "second");
        let second_coded = coded(bench.open("second"));
        let rest = bench.path("rest");
        second
            .write_residual(&second_coded, &BTreeMap::new(), &rest)
            .unwrap();
        let rest = floats(Checkpoint::open(&rest).unwrap());
        let told = [bench.open("first"), bench.open("second")];
        for name in ["bias", "weight"] {
            let [first, second] = [0, 1].map(|number: usize| values(&told[number], name));
            let rest = values(&rest, name);
            let (before, after) = (0.5, values(&floats(bench.tuned("again", 0.0)), name));
            for index in 0..first.len() {
                // Twice the task vector was told in two rounds, but for what is kept for the third.
                let twice = 2.0 * (after[index] - before);
                let sum = first[index] + second[index] + rest[index];
                assert!(
                    (twice - sum).abs() < 1e-7,
                    "{encoding} {name} {index}: {twice} {sum}"
                );
            }
        }
    }
}

#[test]
fn a_residual_of_other_tensors_is_not_taken() {
    let bench = Bench::new();
    let tuned = bench.tuned("tuned", 0.0);
    let difference = Difference::new(&bench.base, &tuned).unwrap();
    assert!(!difference.with_residual(&bench.base).has_residual());
}

#[test]
fn a_value_that_is_not_finite_is_named_and_nothing_is_written() {
    let bench = Bench::new();
    for (bad, words) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "-inf")] {
        let tuned = checkpoint(&bench.path("tuned"), |tensor, index| {
            if (tensor, index) == ("weight", 190_001) {
                bad
            } else {
                0.75
            }
        });
        let difference = Difference::new(&bench.base, &tuned).unwrap();
        for encoding in CODED {
            let out = bench.path("update");
            let error = difference
                .write(codec(encoding), &sparsity(), &out)
                .unwrap_err();
            let expected =
                format!("tensor `weight` differs from the base by {words} at index 190001");
            assert_eq!(error.to_string(), expected);
            assert!(!out.exists());
        }
    }
}

#[test]
fn a_task_vector_of_nothing_but_zeros_has_no_tensors() {
    let bench = Bench::new();
    let difference = Difference::new(&bench.base, &bench.base).unwrap();
    for encoding in CODED {
        let out = bench.path("update");
        difference
            .write(codec(encoding), &sparsity(), &out)
            .unwrap();
        let vector = bench.open("update");
        assert_eq!(values(&vector, "bias"), [0.0; 3]);
        coded(vector).verify(&|| true).unwrap();
    }
}

#[test]
fn a_mask_is_told_in_one_spelling_and_is_the_one_that_was_to_be() {
    let bench = Bench::new();
    let tuned = bench.tuned("tuned", 0.0);
    let difference = Difference::new(&bench.base, &tuned).unwrap();
    let out = bench.path("update");
    difference.write(Codec::Masked, &sparsity(), &out).unwrap();
    let vector = coded(bench.open("update"));
    vector.check_mask(&sparsity()).unwrap();
    let client = "ward-2".parse().unwrap();
    let base = Digest::of(b"base");
    let [other, denser] = [(3, 50_000), (4, 60_000)].map(|(round, ppm)| {
        let density = Density::from_ppm(ppm).unwrap();
        Sparsity::of_update(density, &base, RoundNumber::new(round), &client)
    });
    let seed = sparsity().seed.to_string();
    for another in [
        other,
        Sparsity {
            seed: sparsity().seed,
            ..denser
        },
    ] {
        let refusal = vector.check_mask(&another).unwrap_err().to_string();
        let expected =
            format!("the payload keeps the values of mask `{seed}` at a density of 50000 ppm");
        assert_eq!(refusal, expected);
    }
    let marks = |seed: &str, ppm: &str| {
        let metadata = [
            (FORMAT_KEY, CODED_FORMAT),
            (ENCODING_KEY, "seeded-mask"),
            (MASK_SEED_KEY, seed),
            (DENSITY_KEY, ppm),
        ];
        forge(&bench.path("forged"), &[], &metadata);
        TaskVector::open(&bench.path("forged"), bench.base.schema())
    };
    marks(&seed, "50000").unwrap();
    for (seed, ppm) in [
        ("", "50000"),
        ("blake3:7", "50000"),
        (&seed[..], ""),
        (&seed, "050000"),
        (&seed, "+5"),
        (&seed, "0"),
        (&seed, "1000001"),
    ] {
        let error = marks(seed, ppm).unwrap_err();
        assert!(
            matches!(
                error,
                ReadTaskVectorError::Invalid(InvalidTaskVector::Mask { .. })
            ),
            "{error}"
        );
    }
}

#[test]
fn a_file_that_lies_about_itself_is_refused() {
    let bench = Bench::new();
    let path = bench.path("update");
    let mark = (FORMAT_KEY, CODED_FORMAT);
    let int8 = [mark, (ENCODING_KEY, "int8")];
    // One scale of 1, and three codes.
    let bias: &[u8] = &[0x80, 0x3f, 127, 0, 1];
    forge(&path, &[("bias", vec![5], bias)], &int8);
    assert_eq!(values(&bench.open("update"), "bias"), [127.0, 0.0, 1.0]);
    for (encoding, words) in [
        ("f32", "the payload is in the encoding `f32`"),
        ("int4", "the payload is in the encoding `int4`"),
        ("", "the payload is in the encoding ``"),
    ] {
        forge(
            &path,
            &[("bias", vec![5], bias)],
            &[mark, (ENCODING_KEY, encoding)],
        );
        assert_eq!(bench.refusal("update").to_string(), words);
    }
    for name in ["steps", "extra"] {
        forge(&path, &[(name, vec![5], bias)], &int8);
        let expected = InvalidTaskVector::Unexpected {
            tensor: name.to_owned(),
        };
        assert_eq!(bench.refusal("update"), expected);
    }
    forge(&path, &[("bias", vec![5, 1], bias)], &int8);
    let refusal = bench.refusal("update").to_string();
    assert_eq!(refusal, "tensor `bias` is U8 [5, 1], expected a row of U8");
    forge(&path, &[("bias", vec![4], &bias[..4])], &int8);
    let refusal = bench.refusal("update");
    assert!(
        matches!(refusal, InvalidTaskVector::Tensor { .. }),
        "{refusal:?}"
    );
    // A bomb: a few bytes that say they are a large tensor.
    forge(&path, &[("weight", vec![5], bias)], &int8);
    let refusal = bench.refusal("update");
    assert!(
        matches!(refusal, InvalidTaskVector::Tensor { .. }),
        "{refusal:?}"
    );
}

#[test]
fn another_encoding_than_was_announced_is_refused() {
    let bench = Bench::new();
    let tuned = bench.tuned("tuned", 0.0);
    let difference = Difference::new(&bench.base, &tuned).unwrap();
    let out = bench.path("update");
    difference.write(Codec::Int8, &sparsity(), &out).unwrap();
    let vector = bench.open("update");
    for announced in [Encoding::F32, Encoding::Sign] {
        let refusal = vector.check_encoding(announced).unwrap_err().to_string();
        let words = if announced == Encoding::F32 {
            "the payload is marked as `encoded-task-vector/1`, expected `task-vector/1`"
        } else {
            "the payload is in the encoding `int8`"
        };
        assert_eq!(refusal, words);
    }
    let plain = floats(tuned);
    plain.check_encoding(Encoding::F32).unwrap();
    let refusal = plain
        .check_encoding(Encoding::Int8)
        .unwrap_err()
        .to_string();
    assert_eq!(
        refusal,
        "the payload is marked as ``, expected `encoded-task-vector/1`"
    );
}
