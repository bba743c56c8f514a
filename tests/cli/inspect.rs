//! What people see of `fedmerge inspect`: a model, an update in each encoding, and what is neither.

use std::fs;
use std::path::Path;

use fedmerge_common::checkpoint::Checkpoint;
use fedmerge_common::digest::Digest;
use fedmerge_common::ids::RoundNumber;
use fedmerge_common::task_vector::encode::Difference;
use fedmerge_common::task_vector::encoding::{Codec, Density, Sparsity};
use insta::assert_snapshot;

use crate::command::{fedmerge, run};
use crate::process::Ended;
use crate::values::Values;

fn inspect(directory: &Path, arguments: &[&str]) -> Ended {
    run(fedmerge(&["inspect"])
        .args(arguments)
        .current_dir(directory))
}

/// A directory with a base and an update of it, whose second tensor is as it was.
fn place(codec: Codec) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let path = |name| dir.path().join(name);
    let base = Values {
        w: vec![0.0; 1000],
        b: vec![0.5, -0.5],
    };
    let mut tuned = base.clone();
    for (index, value) in (0_u16..).zip(&mut tuned.w) {
        *value = f32::from(index * 7 % 1000) / 1000.0 - 0.5;
    }
    base.write(&path("base.safetensors"));
    tuned.write(&path("tuned.safetensors"));
    let open = |name| Checkpoint::open(&path(name)).unwrap();
    let (base, tuned) = (open("base.safetensors"), open("tuned.safetensors"));
    let difference = Difference::new(&base, &tuned).unwrap();
    let out = path("update.safetensors");
    let client = "ward-1".parse().unwrap();
    let (density, round) = (Density::default(), RoundNumber::new(1));
    let sparsity = Sparsity::of_update(density, &Digest::of(b"base"), round, &client);
    difference.write(codec, &sparsity, &out).unwrap();
    dir
}

#[test]
fn a_model_is_told_tensor_by_tensor() {
    let place = place(Codec::Int8);
    let told = inspect(place.path(), &["tuned.safetensors"]).well();
    assert_snapshot!(told.stdout, @"
    file    tuned.safetensors
    kind    checkpoint
    size    4.0 KiB, 103.2 % of the 3.9 KiB of its values as f32
    digest  blake3:432fac04a57134d360e70a2c29fd7816b942acb2b0ed61724848a28d30af4e91

    tensor  type  shape   bytes  norm    largest  not zero
    b       F32   [2]     8      0.7071  0.5000   2
    w       F32   [1000]  4000   9.1287  0.5000   999
    ");
}

#[test]
fn an_update_in_every_encoding_is_told_with_its_share_of_f32() {
    for (codec, name) in [
        (Codec::Int8, "int8"),
        (Codec::TopK, "top-k"),
        (Codec::Ternary, "ternary"),
        (Codec::Sign, "sign"),
        (Codec::Masked, "seeded-mask"),
    ] {
        let place = place(codec);
        let arguments = ["update.safetensors", "--base", "base.safetensors"];
        let told = inspect(place.path(), &arguments).well().stdout;
        assert!(told.contains(&format!("task vector in {name}")), "{told}");
        assert!(told.contains(" of its values as f32"), "{told}");
        let arguments = [&arguments[..], &["--format", "json"]].concat();
        let told = inspect(place.path(), &arguments).well().stdout;
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told["encoding"], name);
        assert_eq!(told["f32_bytes"], 4008);
        assert_eq!(told["tensors"][0]["bytes"], 0, "{told}");
        assert_eq!(told["tensors"][1]["shape"][0], 1000, "{told}");
        let kept = &told["tensors"][1]["values"]["not_zero"];
        let expected = match codec {
            // Values that round to 0 beside the largest of their block.
            Codec::Int8 => 997,
            Codec::Sign => 1000,
            Codec::TopK | Codec::Ternary | Codec::Masked => 50,
        };
        assert_eq!(*kept, expected, "{name}");
    }
}

#[test]
fn without_its_base_an_encoded_update_is_told_by_its_sizes() {
    let place = place(Codec::TopK);
    let told = inspect(place.path(), &["update.safetensors"]).well();
    assert_snapshot!(told.stdout, @"
    file    update.safetensors
    kind    task vector in top-k
    size    252 B
    digest  blake3:501c1eddb0caf28faca3c1218cadc19f75f193c695b57216bf1f18ac9c0ab55e

    tensor  type  shape  bytes  norm  largest  not zero
    w       U8           100
    ");
    assert!(told.stderr.contains("--base"), "{told}");
}

#[test]
fn what_is_no_tensor_file_or_does_not_fit_its_base_is_bad_data() {
    let place = place(Codec::TopK);
    fs::write(place.path().join("notes.txt"), "nothing to see").unwrap();
    let told = inspect(place.path(), &["notes.txt"]).with_code(65);
    assert!(told.stderr.contains("cannot inspect notes.txt"), "{told}");
    inspect(place.path(), &["nowhere"]).with_code(65);
    Values::base().write(&place.path().join("other.safetensors"));
    let arguments = ["update.safetensors", "--base", "other.safetensors"];
    let told = inspect(place.path(), &arguments).with_code(65);
    assert!(
        told.stderr.contains("tensor `w` is not in the form"),
        "{told}"
    );
    assert!(
        told.stderr
            .contains("hint: is it an update of a model like --base?"),
        "{told}"
    );
}
