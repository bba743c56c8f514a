//! One test for each way in which a file can lie: named for the attack, checked for the message.

#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use std::error::Error;
use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use tempfile::TempDir;

use super::*;

/// A safetensors file with this header and data.
fn file(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

fn open(bytes: &[u8]) -> Result<Checkpoint, ReadCheckpointError> {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("x.safetensors");
    fs::write(&path, bytes).unwrap();
    Checkpoint::open(&path)
}

/// The whole chain of an error, as a person reads it, without the directory.
fn message(error: &ReadCheckpointError) -> String {
    let mut text = error
        .invalid_content()
        .map_or_else(|| error.to_string(), ToString::to_string);
    let mut source = error
        .invalid_content()
        .map_or_else(|| error.source(), Error::source);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Opens a file that must be refused, and answers why.
fn refusal(bytes: &[u8]) -> String {
    message(&open(bytes).unwrap_err())
}

fn refusal_of_header(header: &str, data: &[u8]) -> String {
    refusal(&file(header, data))
}

#[test]
fn an_honest_file_is_read() {
    let header =
        r#"{"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    let checkpoint = open(&file(header, &[0; 8])).unwrap();
    assert_eq!(checkpoint.schema().get("a").unwrap().shape(), [2]);
    assert_eq!(checkpoint.metadata()["k"], "v");
}

#[test]
fn an_empty_file() {
    assert_eq!(
        refusal(b""),
        "the file is truncated: 8 bytes expected, 0 found"
    );
}

#[test]
fn a_header_length_past_the_end() {
    assert_eq!(
        refusal(&1000_u64.to_le_bytes()),
        "the file is truncated: 1008 bytes expected, 8 found"
    );
}

#[test]
fn a_header_length_that_would_exhaust_memory() {
    for length in [100_000_001, u64::MAX] {
        let expected = format!("the header has {length} bytes, the limit is 100000000");
        assert_eq!(refusal(&length.to_le_bytes()), expected);
    }
}

#[test]
fn a_header_that_is_no_json() {
    assert_eq!(
        refusal_of_header("PK\u{3}\u{4} a zip of pickles", b""),
        "the header does not begin with an opening brace: this is not a safetensors file"
    );
    assert!(refusal_of_header("{", b"").starts_with("the header is not valid: EOF"));
    assert!(
        refusal(&[2, 0, 0, 0, 0, 0, 0, 0, b'{', 0xff]).starts_with("the header is not valid: ")
    );
}

#[test]
fn json_nested_to_overflow_the_stack() {
    for begin in [
        r#"{"a":"#,
        r#"{"a":{"x":"#,
        r#"{"__metadata__":"#,
        r#"{"a":{"shape":"#,
    ] {
        let header = format!("{begin}{}", "[".repeat(200_000));
        let message = refusal_of_header(&header, b"");
        assert!(
            message.starts_with("the header is not valid: "),
            "{message}"
        );
    }
}

#[test]
fn data_that_is_cut_off() {
    let header = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    let expected = 8 + header.len() + 8;
    assert_eq!(
        refusal_of_header(header, &[0; 5]),
        format!(
            "the file is truncated: {expected} bytes expected, {} found",
            expected - 3
        )
    );
}

#[test]
fn bytes_hidden_after_the_last_tensor() {
    let header = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    let message = refusal_of_header(header, &[0; 9]);
    assert!(
        message.starts_with("the file has bytes after the last tensor: "),
        "{message}"
    );
}

#[test]
fn bytes_hidden_between_tensors() {
    let header = r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}"#;
    let expected = "tensor `b` leaves a gap: it begins at byte 2, expected 1";
    assert_eq!(refusal_of_header(header, &[0; 3]), expected);
}

#[test]
fn bytes_hidden_before_the_first_tensor() {
    let header = r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#;
    assert_eq!(
        refusal_of_header(header, &[0; 2]),
        "tensor `a` leaves a gap: it begins at byte 1, expected 0"
    );
}

#[test]
fn tensors_that_share_bytes() {
    let header = r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}"#;
    let expected = "tensor `b` overlaps the tensor before: it begins at byte 1, expected 2";
    assert_eq!(refusal_of_header(header, &[0; 3]), expected);
}

#[test]
fn two_tensors_on_the_same_bytes() {
    let header = r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#;
    assert!(refusal_of_header(header, &[0; 2]).starts_with("tensor `b` overlaps"));
}

#[test]
fn one_name_for_two_tensors() {
    let header = r#"{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#;
    let message = refusal_of_header(header, &[0]);
    assert!(
        message.starts_with("the header is not valid: `a` is there twice"),
        "{message}"
    );
    // The reference reader takes the last of the two: two readers, two models.
    assert!(SafeTensors::deserialize(&file(header, &[0])).is_ok());
}

#[test]
fn metadata_that_comes_twice() {
    for header in [
        r#"{"__metadata__":{"a":"1","a":"2"}}"#,
        r#"{"__metadata__":{},"__metadata__":{}}"#,
    ] {
        assert!(
            refusal_of_header(header, b"").contains("is there twice"),
            "{header}"
        );
    }
}

#[test]
fn a_size_that_does_not_match_the_shape() {
    for offsets in ["[0,4]", "[8,0]", "[0,18446744073709551615]"] {
        let header = format!(r#"{{"a":{{"dtype":"F32","shape":[2],"data_offsets":{offsets}}}}}"#);
        let message = refusal_of_header(&header, &[0; 8]);
        assert!(
            message.starts_with("tensor `a` is at bytes ") && message.ends_with("has 8 bytes"),
            "{message}"
        );
    }
}

#[test]
fn a_shape_whose_product_overflows() {
    for shape in [
        "[4294967296,4294967296]",
        "[18446744073709551615]",
        "[0,9223372036854775807,16]",
    ] {
        let header = format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":[0,0]}}}}"#);
        let message = refusal_of_header(&header, b"");
        assert!(
            message.starts_with("the tensors do not fit together: tensor `a`: shape "),
            "{message}"
        );
    }
}

#[test]
fn numbers_that_are_no_sizes() {
    for entry in [
        r#"{"dtype":"F32","shape":[-1],"data_offsets":[0,0]}"#,
        r#"{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}"#,
        r#"{"dtype":"F32","shape":[1],"data_offsets":[0]}"#,
        r#"{"dtype":"F32","shape":[1],"data_offsets":[0,1e99]}"#,
        r#"{"dtype":"F32","shape":[1]}"#,
        "7",
    ] {
        let message = refusal_of_header(&format!(r#"{{"a":{entry}}}"#), &[0; 4]);
        assert!(
            message.starts_with("the header is not valid: `a`: "),
            "{message}"
        );
    }
}

#[test]
fn lists_that_take_many_times_the_memory_of_their_text() {
    let header = format!(
        r#"{{"a":{{"dtype":"U8","shape":[{}0],"data_offsets":[0,0]}}}}"#,
        "0,".repeat(16)
    );
    let message = refusal_of_header(&header, b"");
    assert!(
        message.contains("`a`: more than 16 dimensions"),
        "{message}"
    );

    let entry = r#"{"dtype":"U8","shape":[0],"data_offsets":[0,0]}"#;
    let entries: Vec<_> = (0..=200_000)
        .map(|number| format!(r#""{number}":{entry}"#))
        .collect();
    let message = refusal_of_header(&format!("{{{}}}", entries.join(",")), b"");
    assert!(message.contains("more than 200000 entries"), "{message}");
}

#[test]
fn an_unknown_element_type() {
    let header = r#"{"a":{"dtype":"F3\n2","shape":[1],"data_offsets":[0,4]}}"#;
    assert_eq!(
        refusal_of_header(header, &[0; 4]),
        r"tensor `a` has the unknown dtype `F3\n2`"
    );
}

#[test]
fn a_name_made_to_break_terminals_and_logs() {
    for name in [
        String::new(),
        r"a\u001b[2J".to_owned(),
        r"a\nERROR".to_owned(),
        "x".repeat(1025),
    ] {
        let header = format!(r#"{{"{name}":{{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}}}"#);
        let message = refusal_of_header(&header, &[0]);
        assert!(
            message.contains("has a name that is empty, over 1024 bytes, or not plain text"),
            "{message}"
        );
        assert!(
            !message.chars().any(char::is_control) && message.len() < 300,
            "{message}"
        );
    }
}

#[test]
fn a_pipe_in_place_of_a_file() {
    // A named pipe would block the reader for ever; a device stands for it here.
    let error = Checkpoint::open(Path::new("/dev/null")).unwrap_err();
    assert_eq!(
        message(&error),
        "cannot read `/dev/null`: not a regular file"
    );
}

#[test]
fn a_path_that_is_not_there() {
    let error = Checkpoint::open(Path::new("/nonexistent/base.safetensors")).unwrap_err();
    assert!(message(&error).starts_with("cannot read `/nonexistent/base.safetensors`: "));
}

#[test]
fn a_directory_without_a_checkpoint() {
    let directory = TempDir::new().unwrap();
    let error = Checkpoint::open(directory.path()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("has neither model.safetensors nor"),
        "{error}"
    );
}

fn refusal_of_index(index: &str) -> String {
    let directory = TempDir::new().unwrap();
    let shard =
        |name: &str| format!(r#"{{"{name}":{{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}}}"#);
    fs::write(
        directory.path().join("1.safetensors"),
        file(&shard("a"), &[1]),
    )
    .unwrap();
    fs::write(
        directory.path().join("2.safetensors"),
        file(&shard("b"), &[2]),
    )
    .unwrap();
    fs::write(
        directory.path().join("3.safetensors"),
        file(&shard("a"), &[3]),
    )
    .unwrap();
    fs::write(directory.path().join("model.safetensors.index.json"), index).unwrap();
    message(&Checkpoint::open(directory.path()).unwrap_err())
}

#[test]
fn an_index_that_leaves_its_directory() {
    for name in [
        "../1.safetensors",
        "/etc/passwd",
        "a/b",
        "",
        ".",
        "..",
        r"a\u0000b",
    ] {
        let message = refusal_of_index(&format!(r#"{{"weight_map":{{"a":"{name}"}}}}"#));
        assert!(
            message.ends_with("which is not a plain file name"),
            "{message}"
        );
    }
}

#[test]
fn an_index_that_disagrees_with_its_shards() {
    for (index, expected) in [
        (r#"{"weight_map":{}}"#, "the index names no shard"),
        (
            r#"{"weight_map":{"a":"1.safetensors","b":"1.safetensors"}}"#,
            "the index says that tensor `b` is in `1.safetensors`, which lacks it",
        ),
        (
            r#"{"weight_map":{"c":"1.safetensors"}}"#,
            "the index does not say that tensor `a` is in `1.safetensors`",
        ),
        (
            r#"{"weight_map":{"a":"1.safetensors","c":"3.safetensors"}}"#,
            "the index does not say that tensor `a` is in `3.safetensors`",
        ),
    ] {
        assert_eq!(refusal_of_index(index), expected);
    }
}

#[test]
fn an_index_with_one_name_twice() {
    let message = refusal_of_index(r#"{"weight_map":{"a":"1.safetensors","a":"3.safetensors"}}"#);
    assert!(message.contains("`a` is there twice"), "{message}");
}

#[test]
fn a_read_past_the_end_of_a_tensor() {
    let header = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"I64","shape":[1],"data_offsets":[8,16]}}"#;
    let checkpoint = open(&file(header, &[0; 16])).unwrap();
    for (offset, length) in [(0, 3), (2, 1), (usize::MAX, 1), (usize::MAX / 4, 1)] {
        let error = checkpoint
            .read_f32(0, offset, &mut vec![0.0; length])
            .unwrap_err();
        assert!(
            matches!(error, ReadCheckpointError::OutOfRange { available: 8, .. }),
            "{error}"
        );
    }
    let error = checkpoint.read_f32(1, 0, &mut [0.0]).unwrap_err();
    assert!(
        matches!(error, ReadCheckpointError::Convert { ref tensor, .. } if tensor == "b"),
        "{error}"
    );
}

#[test]
fn a_file_that_shrinks_while_it_is_open() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("x.safetensors");
    let header = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    fs::write(&path, file(header, &[0; 8])).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    fs::write(&path, b"").unwrap();
    assert!(matches!(
        checkpoint.read_f32(0, 0, &mut [0.0; 2]),
        Err(ReadCheckpointError::Io { .. })
    ));
}
