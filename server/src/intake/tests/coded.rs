//! Updates whose tensors are encoded: what they say is judged, and so is whether they say it in the only form there is.

use fedmerge_common::task_vector::Content;
use fedmerge_common::task_vector::encode::Difference;
use fedmerge_common::task_vector::header::{
    CODED_FORMAT, DENSITY_KEY, ENCODING_KEY, MASK_SEED_KEY,
};

use super::*;

const CODED: [Encoding; 5] = [
    Encoding::Int8,
    Encoding::TopK,
    Encoding::Ternary,
    Encoding::Sign,
    Encoding::SeededMask,
];

fn coded_terms() -> Terms {
    Terms {
        encodings: Encoding::ALL.to_vec(),
        ..terms()
    }
}

fn judge(upload: &Upload) -> Result<ValidUpdate, Rejection> {
    let go_on = AtomicBool::new(false);
    let terms = coded_terms();
    validate(&upload.path, &upload.header, None, &base(), &terms, &go_on).unwrap()
}

#[track_caller]
fn refused(upload: &Upload, code: RejectionCode, detail: &str) {
    let rejection = judge(upload).unwrap_err();
    assert_eq!(rejection.code, code, "{rejection}");
    assert!(rejection.detail.contains(detail), "{rejection}");
    assert!(!rejection.detail.contains("upload.part"), "{rejection}");
}

fn checkpoint(path: &Path, bias: &[f32], weight: &[f32]) -> Checkpoint {
    let writer = CheckpointWriter::create(path, &base_schema(), &BTreeMap::new()).unwrap();
    writer.write_f32(0, 0, bias).unwrap();
    writer.write_f32(2, 0, weight).unwrap();
    writer.finish().unwrap();
    Checkpoint::open(path).unwrap()
}

/// What a client sends that was trained from zeros to these.
fn sent(encoding: Encoding, bias: &[f32], weight: &[f32]) -> Vec<u8> {
    let directory = TempDir::new().unwrap();
    let path = |name| directory.path().join(name);
    let before = checkpoint(&path("base"), &[0.0; 2], &[0.0; 4]);
    let tuned = checkpoint(&path("tuned"), bias, weight);
    let Content::Coded(codec) = encoding.content() else {
        panic!("{encoding} is plain");
    };
    let difference = Difference::new(&before, &tuned).unwrap();
    difference
        .write(codec, &terms().sparsity, &path("update"))
        .unwrap();
    fs::read(path("update")).unwrap()
}

/// An update of one tensor whose bytes are these.
fn forged(encoding: Encoding, name: &str, bytes: &[u8]) -> Upload {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("payload");
    let spec = TensorSpec::new(name, Dtype::U8, vec![bytes.len()]).unwrap();
    let schema = Schema::new(vec![spec]).unwrap();
    let Sparsity { density, seed } = terms().sparsity;
    let metadata = [
        (FORMAT_KEY, CODED_FORMAT),
        (ENCODING_KEY, encoding.as_str()),
        (DENSITY_KEY, &density.ppm().to_string()),
        (MASK_SEED_KEY, &seed.to_string()),
    ];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let writer = CheckpointWriter::create(&path, &schema, &metadata.into()).unwrap();
    writer.write_bytes(0, 0, bytes).unwrap();
    writer.finish().unwrap();
    upload_of(encoding, &fs::read(path).unwrap())
}

#[test]
fn a_true_update_is_valid_in_every_encoding_and_has_the_norm_of_what_it_says() {
    for encoding in CODED {
        // Magnitudes are the same, so that none of the encodings loses anything.
        let upload = upload_of(
            encoding,
            &sent(encoding, &[2.0, -2.0], &[2.0, 2.0, -2.0, 2.0]),
        );
        prejudge(&upload.header, &coded_terms()).unwrap();
        let valid = judge(&upload).unwrap();
        assert!(
            (valid.norm() - f64::sqrt(24.0)).abs() < 1e-2,
            "{}",
            valid.norm()
        );
    }
}

#[test]
fn a_tensor_that_is_left_out_is_one_of_zeros() {
    for encoding in CODED {
        let upload = upload_of(
            encoding,
            &sent(encoding, &[0.0, 0.0], &[0.0, 3.0, 0.0, 0.0]),
        );
        judge(&upload).unwrap();
    }
}

#[test]
fn a_decoded_value_over_the_limit_is_named() {
    for encoding in CODED {
        let upload = upload_of(
            encoding,
            &sent(encoding, &[0.0; 2], &[0.0, 999.0, 0.0, -999.0]),
        );
        refused(&upload, RejectionCode::Magnitude, "tensor `weight` has");
    }
}

#[test]
fn an_update_in_another_encoding_than_announced_is_malformed() {
    let int8 = sent(Encoding::Int8, &[1.0; 2], &[1.0; 4]);
    for announced in [Encoding::F32, Encoding::TopK, Encoding::Sign] {
        let detail = if announced == Encoding::F32 {
            "marked as `encoded-task-vector/1`"
        } else {
            "in the encoding `int8`"
        };
        refused(
            &upload_of(announced, &int8),
            RejectionCode::Malformed,
            detail,
        );
    }
    let plain = upload_of(Encoding::Int8, &true_bytes());
    refused(
        &plain,
        RejectionCode::Malformed,
        "expected `encoded-task-vector/1`",
    );
}

#[test]
fn a_tensor_that_is_not_merged_has_no_place_in_an_update() {
    for name in ["steps", "extra"] {
        let upload = forged(Encoding::Int8, name, &[0x80, 0x3f, 127]);
        let detail = format!("tensor `{name}` is unexpected");
        refused(&upload, RejectionCode::SchemaMismatch, &detail);
    }
}

#[test]
fn bytes_that_are_not_the_only_form_of_their_values_are_malformed() {
    let one: [u8; 2] = [0x80, 0x3f];
    let int8 = |codes: [u8; 2]| [one, codes].concat();
    let infinite = [&f32::INFINITY.to_le_bytes()[..], &[0b01]].concat();
    let beyond = [&1_u64.to_le_bytes()[..], &[0, 0b1000], &one, &[127]].concat();
    let crowd = [&9_u64.to_le_bytes()[..], &[0, 0xff], &one, &[127]].concat();
    for (encoding, bytes, detail) in [
        (
            Encoding::Int8,
            int8([5, 6]),
            "scale 0 is larger than its values need",
        ),
        (
            Encoding::Int8,
            int8([0x80, 127]),
            "value 0 has the code -128",
        ),
        (Encoding::Int8, vec![0; 4], "all its values are 0"),
        (Encoding::Int8, vec![1; 3], "it has 3 bytes, expected 4"),
        (Encoding::Int8, vec![0; 5], "it has 5 bytes, expected 4"),
        (Encoding::Sign, infinite.clone(), "scale 0 is inf"),
        (Encoding::Ternary, infinite, "scale 0 is inf"),
        (Encoding::TopK, beyond, "gap 0 leads past its 2 values"),
        (Encoding::TopK, crowd, "it keeps 9 of 2 values"),
    ] {
        let upload = forged(encoding, "bias", &bytes);
        refused(&upload, RejectionCode::Malformed, detail);
        refused(
            &upload,
            RejectionCode::Malformed,
            "tensor `bias` is not in the form of its encoding",
        );
    }
}

#[test]
fn a_cancelled_intake_of_an_encoded_update_has_no_verdict() {
    let upload = upload_of(Encoding::Int8, &sent(Encoding::Int8, &[1.0; 2], &[1.0; 4]));
    let (terms, cancelled) = (coded_terms(), AtomicBool::new(true));
    let error = validate(
        &upload.path,
        &upload.header,
        None,
        &base(),
        &terms,
        &cancelled,
    );
    assert!(matches!(error.unwrap_err(), IntakeError::Cancelled));
}

#[test]
fn nobody_chooses_what_a_mask_keeps() {
    let sound = upload_of(
        Encoding::SeededMask,
        &sent(Encoding::SeededMask, &[1.0; 2], &[1.0; 4]),
    );
    judge(&sound).unwrap();
    let go_on = AtomicBool::new(false);
    let others = Sparsity::of_update(
        Density::WHOLE,
        &terms().base,
        RoundNumber::new(1),
        &"ward-2".parse().unwrap(),
    );
    let fewer = Sparsity {
        density: Density::from_ppm(999_999).unwrap(),
        ..terms().sparsity
    };
    for sparsity in [others, fewer] {
        let terms = Terms {
            sparsity,
            ..coded_terms()
        };
        let verdict = validate(&sound.path, &sound.header, None, &base(), &terms, &go_on);
        let rejection = verdict.unwrap().unwrap_err();
        assert_eq!(rejection.code, RejectionCode::Malformed);
        assert!(rejection.detail.contains("mask"), "{rejection}");
    }
}
