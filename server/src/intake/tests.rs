//! Each lie that an update can tell, and updates that are true.
#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use std::collections::BTreeMap;
use std::fs;

use fedmerge_common::checkpoint::{CheckpointWriter, HeaderLimits};
use fedmerge_common::dtype::Dtype;
use fedmerge_common::ids::RoundNumber;
use fedmerge_common::reason::RejectionCode;
use fedmerge_common::schema::{Schema, TensorSpec};
use fedmerge_common::task_vector::encoding::{Density, Sparsity};
use fedmerge_common::task_vector::header::{FORMAT, FORMAT_KEY};
use tempfile::TempDir;

use super::*;

mod coded;
mod lineage;

type Tensor<'a> = (&'a str, Dtype, &'a [usize], &'a [f32]);

/// A payload in a file, and the true header for it.
struct Upload {
    _directory: TempDir,
    path: PathBuf,
    header: UpdateHeader,
}

fn base_schema() -> Schema {
    let spec = |name, dtype, shape| TensorSpec::new(name, dtype, shape).unwrap();
    Schema::new(vec![
        spec("bias", Dtype::F32, vec![2]),
        spec("steps", Dtype::I64, vec![1]),
        spec("weight", Dtype::F16, vec![2, 2]),
    ])
    .unwrap()
}

/// A base whose weights are 0.
fn base() -> Checkpoint {
    zeros(&base_schema())
}

fn zeros(schema: &Schema) -> Checkpoint {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("base.safetensors");
    let writer = CheckpointWriter::create(&path, schema, &BTreeMap::new()).unwrap();
    for (index, tensor) in schema.iter().enumerate() {
        let zeros = vec![0; usize::try_from(tensor.byte_len()).unwrap()];
        writer.write_bytes(index, 0, &zeros).unwrap();
    }
    writer.finish().unwrap();
    // An open file outlives its name.
    Checkpoint::open(&path).unwrap()
}

fn terms() -> Terms {
    Terms {
        base: Digest::of(b"base"),
        encodings: vec![Encoding::F32, Encoding::Bf16],
        sparsity: Sparsity::of_update(
            Density::WHOLE,
            &Digest::of(b"base"),
            RoundNumber::new(1),
            &"ward-1".parse().unwrap(),
        ),
        max_update: ByteSize::from_mebibytes(1),
        max_examples: 1000,
        header: HeaderLimits::default(),
        max_magnitude: 100.0,
        length: None,
        max_replaced: 0.1,
    }
}

fn upload_of(encoding: Encoding, bytes: &[u8]) -> Upload {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("upload.part");
    fs::write(&path, bytes).unwrap();
    let header = UpdateHeader {
        round: RoundNumber::new(1),
        base: terms().base,
        encoding,
        payload: Digest::of(bytes),
        payload_bytes: bytes.len() as u64,
        num_examples: 10,
        metrics: BTreeMap::new(),
    };
    Upload {
        _directory: directory,
        path,
        header,
    }
}

fn payload(tensors: &[Tensor<'_>], metadata: &[(&str, &str)]) -> Vec<u8> {
    let directory = TempDir::new().unwrap();
    let specs = tensors
        .iter()
        .map(|(name, dtype, shape, _)| TensorSpec::new(*name, *dtype, shape.to_vec()).unwrap());
    let schema = Schema::new(specs.collect()).unwrap();
    let metadata = metadata
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let path = directory.path().join("payload");
    let writer = CheckpointWriter::create(&path, &schema, &metadata).unwrap();
    for (name, _, _, values) in tensors {
        let index = schema.index_of(name).unwrap();
        writer.write_f32(index, 0, values).unwrap();
    }
    writer.finish().unwrap();
    fs::read(path).unwrap()
}

fn true_tensors(dtype: Dtype) -> [Tensor<'static>; 2] {
    [
        ("bias", dtype, &[2], &[1.0, -2.0]),
        ("weight", dtype, &[2, 2], &[0.0, 4.0, 0.0, -2.0]),
    ]
}

fn true_bytes() -> Vec<u8> {
    payload(&true_tensors(Dtype::F32), &[(FORMAT_KEY, FORMAT)])
}

fn with_values(bias: &[f32], weight: &[f32]) -> Vec<u8> {
    let tensors: [Tensor<'_>; 2] = [
        ("bias", Dtype::F32, &[2], bias),
        ("weight", Dtype::F32, &[2, 2], weight),
    ];
    payload(&tensors, &[])
}

fn verdict(upload: &Upload) -> Result<ValidUpdate, Rejection> {
    verdict_within(upload, &terms())
}

fn verdict_within(upload: &Upload, terms: &Terms) -> Result<ValidUpdate, Rejection> {
    let cancelled = AtomicBool::new(false);
    validate(
        &upload.path,
        &upload.header,
        None,
        &base(),
        terms,
        &cancelled,
    )
    .unwrap()
}

#[track_caller]
fn expect(upload: &Upload, code: RejectionCode, detail: &str) {
    let rejection = verdict(upload).unwrap_err();
    assert_eq!(rejection.code, code, "{rejection}");
    assert!(rejection.detail.contains(detail), "{rejection}");
    assert!(!rejection.detail.contains("upload.part"), "{rejection}");
}

#[track_caller]
fn expect_claim(change: impl FnOnce(&mut UpdateHeader), code: RejectionCode, detail: &str) {
    let mut upload = upload_of(Encoding::F32, &true_bytes());
    change(&mut upload.header);
    let early = prejudge(&upload.header, &terms()).unwrap_err();
    assert_eq!(early.code, code, "{early}");
    // Whoever did not ask before the transfer gets the same answer after it.
    assert_eq!(verdict(&upload).unwrap_err(), early);
    assert!(early.detail.contains(detail), "{early}");
}

#[test]
fn a_true_update_is_valid_in_both_kinds_of_floats() {
    for (encoding, dtype) in [(Encoding::F32, Dtype::F32), (Encoding::Bf16, Dtype::Bf16)] {
        let bytes = payload(&true_tensors(dtype), &[(FORMAT_KEY, FORMAT)]);
        let upload = upload_of(encoding, &bytes);
        prejudge(&upload.header, &terms()).unwrap();
        let valid = verdict(&upload).unwrap();
        assert_eq!(valid.header(), &upload.header);
        let expected = UpdateRef {
            payload: Digest::of(&bytes),
            num_examples: 10,
            bytes: bytes.len() as u64,
        };
        assert_eq!(valid.update(), expected);
        // 1 + 4 + 16 + 4 = 25.
        assert!(
            (valid.norm() - 5.0).abs() < f64::EPSILON,
            "{}",
            valid.norm()
        );
    }
}

#[test]
fn a_digest_that_is_known_decides_without_a_look_at_the_bytes() {
    let upload = upload_of(Encoding::F32, &true_bytes());
    let cancelled = AtomicBool::new(false);
    let with = |known| {
        let (base, terms) = (base(), terms());
        validate(
            &upload.path,
            &upload.header,
            Some(known),
            &base,
            &terms,
            &cancelled,
        )
        .unwrap()
    };
    assert!(with(upload.header.payload).is_ok());
    let rejection = with(Digest::of(b"other")).unwrap_err();
    assert_eq!(rejection.code, RejectionCode::DigestMismatch);
}

#[test]
fn a_payload_without_our_mark_is_valid_and_one_with_another_is_not() {
    let tensors = true_tensors(Dtype::F32);
    let foreign = upload_of(Encoding::F32, &payload(&tensors, &[("format", "pt")]));
    assert!(verdict(&foreign).is_ok());
    let other = upload_of(
        Encoding::F32,
        &payload(&tensors, &[(FORMAT_KEY, "checkpoint/\u{1b}[2J")]),
    );
    expect(
        &other,
        RejectionCode::Malformed,
        r"marked as `checkpoint/\u{1b}[2J`, expected `task-vector/1`",
    );
}

#[test]
fn a_wrong_digest_is_a_lie() {
    let mut upload = upload_of(Encoding::F32, &true_bytes());
    let found = upload.header.payload;
    upload.header.payload = Digest::of(b"something else");
    expect(&upload, RejectionCode::DigestMismatch, &found.to_string());
}

#[test]
fn bytes_that_are_missing_or_too_many_are_a_lie() {
    for change in [-1_i64, 1] {
        let mut upload = upload_of(Encoding::F32, &true_bytes());
        let true_size = upload.header.payload_bytes;
        upload.header.payload_bytes = true_size.checked_add_signed(change).unwrap();
        let detail = format!("the payload has {true_size} bytes, announced were");
        expect(&upload, RejectionCode::Malformed, &detail);
    }
}

#[test]
fn a_truncated_payload_is_malformed_even_when_its_digest_is_true() {
    let bytes = true_bytes();
    for length in [7, 8, 20, bytes.len() - 1] {
        let upload = upload_of(Encoding::F32, &bytes[..length]);
        expect(&upload, RejectionCode::Malformed, "truncated");
    }
}

#[test]
fn what_is_no_safetensors_file_is_malformed_with_the_cause() {
    let mut bytes = 8_u64.to_le_bytes().to_vec();
    bytes.extend_from_slice(b"{\"a\": 1}");
    let upload = upload_of(Encoding::F32, &bytes);
    expect(
        &upload,
        RejectionCode::Malformed,
        "the header is not valid: `a`: invalid type",
    );
}

#[test]
fn a_header_over_a_limit_is_refused_before_it_is_believed() {
    let upload = upload_of(Encoding::F32, &true_bytes());
    let usual = HeaderLimits::default();
    for (header, words) in [
        (HeaderLimits { bytes: 64, ..usual }, "the limit is 64"),
        (
            HeaderLimits {
                tensors: 1,
                ..usual
            },
            "there are 2 tensors, the limit is 1",
        ),
        (
            HeaderLimits {
                name_bytes: 4,
                ..usual
            },
            "over 4 bytes",
        ),
    ] {
        let terms = Terms { header, ..terms() };
        let rejection = verdict_within(&upload, &terms).unwrap_err();
        assert_eq!(rejection.code, RejectionCode::Malformed);
        assert!(rejection.detail.contains(words), "{rejection}");
    }
}

#[test]
fn another_schema_is_a_lie_that_names_the_tensor() {
    let [bias, weight] = true_tensors(Dtype::F32);
    let extra: Tensor<'_> = ("extra", Dtype::F32, &[1], &[0.0]);
    let steps: Tensor<'_> = ("steps", Dtype::F32, &[1], &[0.0]);
    let flat: Tensor<'_> = ("weight", Dtype::F32, &[4], &[0.0; 4]);
    let half: Tensor<'_> = ("weight", Dtype::Bf16, &[2, 2], &[0.0; 4]);
    let cases: [(&[Tensor<'_>], &str); 4] = [
        (&[bias, weight, extra], "tensor `extra` is unexpected"),
        (&[bias, weight, steps], "tensor `steps` is unexpected"),
        (
            &[bias, flat],
            "tensor `weight` has shape [4], expected [2, 2]",
        ),
        (&[bias, half], "tensor `weight` is BF16, expected F32"),
    ];
    for (tensors, detail) in cases {
        let upload = upload_of(Encoding::F32, &payload(tensors, &[]));
        expect(&upload, RejectionCode::SchemaMismatch, detail);
    }
}

#[test]
fn a_tensor_that_is_left_out_is_0() {
    let [bias, weight] = true_tensors(Dtype::F32);
    // √(1 + 4), √(16 + 4), and 0.
    for (tensors, norm) in [
        (&[bias][..], 5_f64.sqrt()),
        (&[weight], 20_f64.sqrt()),
        (&[], 0.0),
    ] {
        let upload = upload_of(Encoding::F32, &payload(tensors, &[]));
        let found = verdict(&upload).unwrap().norm();
        assert!((found - norm).abs() < 1e-12, "{found}, expected {norm}");
    }
}

#[test]
fn the_elements_must_have_the_type_of_the_announced_encoding() {
    let upload = upload_of(Encoding::Bf16, &true_bytes());
    expect(
        &upload,
        RejectionCode::SchemaMismatch,
        "tensor `bias` is F32, expected BF16",
    );
}

#[test]
fn a_value_that_is_not_finite_is_named_with_its_place() {
    for (value, text) in [
        (f32::NAN, "NaN"),
        (f32::INFINITY, "inf"),
        (f32::NEG_INFINITY, "-inf"),
    ] {
        let bytes = with_values(&[0.0; 2], &[0.0, 0.0, 0.0, value]);
        let upload = upload_of(Encoding::F32, &bytes);
        let detail = format!("tensor `weight` has {text} at index 3");
        expect(&upload, RejectionCode::NonFinite, &detail);
    }
}

#[test]
fn a_value_over_the_limit_is_named_and_one_at_the_limit_is_valid() {
    let at_limit = upload_of(Encoding::F32, &with_values(&[100.0, -100.0], &[0.0; 4]));
    assert!(verdict(&at_limit).is_ok());
    let over = upload_of(Encoding::F32, &with_values(&[0.0, -100.5], &[0.0; 4]));
    expect(
        &over,
        RejectionCode::Magnitude,
        "tensor `bias` has -100.5 at index 1, the limit is ±100",
    );
}

#[test]
fn a_value_beyond_the_first_block_is_found_at_its_index() {
    let elements = 200_000;
    let spec = TensorSpec::new("w", Dtype::F32, vec![elements]).unwrap();
    let base = zeros(&Schema::new(vec![spec]).unwrap());
    let mut values = vec![0.5; elements];
    values[199_999] = f32::NAN;
    let upload = upload_of(
        Encoding::F32,
        &payload(&[("w", Dtype::F32, &[elements], &values)], &[]),
    );
    let cancelled = AtomicBool::new(false);
    let verdict = validate(
        &upload.path,
        &upload.header,
        None,
        &base,
        &terms(),
        &cancelled,
    );
    assert_eq!(
        verdict.unwrap().unwrap_err(),
        Rejection::non_finite("w", 199_999, f32::NAN)
    );
}

#[test]
fn too_few_and_too_many_examples_are_a_lie() {
    for num_examples in [0, 1001, u64::MAX] {
        expect_claim(
            |header| header.num_examples = num_examples,
            RejectionCode::Examples,
            "allowed are 1 to 1000",
        );
    }
    let mut upload = upload_of(Encoding::F32, &true_bytes());
    for num_examples in [1, 1000] {
        upload.header.num_examples = num_examples;
        assert!(verdict(&upload).is_ok());
    }
}

#[test]
fn another_base_is_refused() {
    expect_claim(
        |header| header.base = Digest::of(b"older"),
        RejectionCode::BaseMismatch,
        &Digest::of(b"older").short(),
    );
}

#[test]
fn an_encoding_that_the_plan_lacks_is_refused() {
    let upload = upload_of(Encoding::F32, &true_bytes());
    let terms = Terms {
        encodings: vec![Encoding::Bf16],
        ..terms()
    };
    let rejection = prejudge(&upload.header, &terms).unwrap_err();
    assert_eq!(rejection.code, RejectionCode::EncodingNotAllowed);
    let cancelled = AtomicBool::new(false);
    let verdict = validate(
        &upload.path,
        &upload.header,
        None,
        &base(),
        &terms,
        &cancelled,
    );
    assert_eq!(verdict.unwrap().unwrap_err(), rejection);
}

#[test]
fn an_update_of_no_bytes_is_refused_without_a_file() {
    expect_claim(
        |header| header.payload_bytes = 0,
        RejectionCode::Malformed,
        "the payload has no bytes",
    );
}

#[test]
fn a_payload_over_the_limit_is_refused_before_it_is_read() {
    expect_claim(
        |header| header.payload_bytes = (1 << 20) + 1,
        RejectionCode::TooLarge,
        "the limit is 1048576 bytes",
    );
    let mut upload = upload_of(Encoding::F32, &true_bytes());
    upload.header.payload_bytes = 1 << 20;
    prejudge(&upload.header, &terms()).unwrap();
}

#[test]
fn a_file_that_is_gone_is_our_fault_and_no_rejection() {
    let upload = upload_of(Encoding::F32, &true_bytes());
    fs::remove_file(&upload.path).unwrap();
    let cancelled = AtomicBool::new(false);
    let error = validate(
        &upload.path,
        &upload.header,
        None,
        &base(),
        &terms(),
        &cancelled,
    );
    assert!(matches!(error.unwrap_err(), IntakeError::Read { .. }));
}

#[test]
fn a_cancelled_intake_has_no_verdict() {
    let upload = upload_of(Encoding::F32, &true_bytes());
    let cancelled = AtomicBool::new(true);
    let error = validate(
        &upload.path,
        &upload.header,
        None,
        &base(),
        &terms(),
        &cancelled,
    );
    assert!(matches!(error.unwrap_err(), IntakeError::Cancelled));
}
