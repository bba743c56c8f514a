//! Merges of small checkpoints on disk, and what is left when they fail.
#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

mod fixture;

use std::fs;

use fedmerge_common::checkpoint::Checkpoint;
use fedmerge_common::dtype::Dtype;
use fedmerge_common::failure::{ExitCode, Failure};

use super::*;
use fixture::{Place, Tensor};

const MEAN: &str = "method = \"mean\"";

/// A base of every kind of tensor, with values from 0 on in steps of 1.
fn base() -> Vec<Tensor> {
    vec![
        Tensor::of("half", Dtype::F16, &[3]),
        Tensor::of("ids", Dtype::I64, &[2]),
        Tensor::of("none", Dtype::F32, &[0, 4]),
        Tensor::of("one", Dtype::F32, &[]),
        Tensor::of("wide", Dtype::Bf16, &[2, 5]),
    ]
}

#[test]
fn fine_tuned_checkpoints_and_task_vectors_of_all_types_meet() {
    let place = Place::new();
    place.write("base", &base());
    place.write("a", &fixture::plus(&base(), 2.0, Dtype::F32));
    place.write("b.safetensors", &fixture::task_vector(&base(), 4.0));
    let merged = place.merge(MEAN, &["path = \"a\"", "task_vector = \"b.safetensors\""]);
    let finished = merged.run("out").unwrap();
    let out = Checkpoint::open(&place.path("out")).unwrap();
    assert_eq!(out.schema(), place.open("base").schema());
    for name in ["half", "one", "wide"] {
        let (before, after) = (place.values("base", name), place.values("out", name));
        let steps: Vec<f32> = after
            .iter()
            .zip(before)
            .map(|(after, before)| after - before)
            .collect();
        assert_eq!(steps, vec![3.0; steps.len()], "{name}");
    }
    assert_eq!(place.bytes("out", "ids"), place.bytes("base", "ids"));
    assert_eq!(out.metadata()["format"], "pt");
    assert_eq!(finished.files.len(), 1);
    assert_eq!(
        finished.digest(),
        Digest::of_file(&place.path("out/model.safetensors")).unwrap()
    );
    assert!(finished.bytes_read > 0);
    let names = place.names_in("out");
    assert_eq!(names, ["config.json", "fedmerge.json", "model.safetensors"]);
}

#[test]
fn the_same_recipe_gives_the_same_bytes_in_shards_and_in_one_file() {
    let place = Place::new();
    place.write("base", &base());
    place.write("a", &fixture::plus(&base(), 2.0, Dtype::F32));
    let merged = place.merge(MEAN, &["path = \"a\""]);
    merged.run("one").unwrap();
    let again = merged.run("again").unwrap();
    assert_eq!(
        fs::read(place.path("one/fedmerge.json")).unwrap(),
        fs::read(place.path("again/fedmerge.json")).unwrap()
    );
    assert_eq!(
        again.digest(),
        Digest::of_file(&place.path("one/model.safetensors")).unwrap()
    );
    let sharded = merged
        .with(|order| order.max_shard_bytes = 16)
        .run("sharded")
        .unwrap();
    assert!(sharded.files.len() > 1);
    let file = merged.run("file.safetensors").unwrap();
    assert_eq!(file.files[0].name, "file.safetensors");
    for name in ["half", "ids", "none", "one", "wide"] {
        let expected = place.bytes("one", name);
        assert_eq!(place.bytes("sharded", name), expected, "{name}");
        assert_eq!(place.bytes("file.safetensors", name), expected, "{name}");
    }
    // A sharded output is an input like any other.
    let again = place
        .merge(MEAN, &["path = \"sharded\""])
        .run("last")
        .unwrap();
    assert_eq!(
        again.digest(),
        Digest::of_file(&place.path("one/model.safetensors")).unwrap()
    );
}

#[test]
fn the_output_may_have_a_type_of_its_own_and_frozen_tensors_follow() {
    let place = Place::new();
    place.write("base", &base());
    place.write("a", &fixture::plus(&base(), 2.0, Dtype::F32));
    let merge = "method = \"mean\"\nfreeze = [\"wide\"]";
    let merged = place
        .merge(merge, &["path = \"a\""])
        .with_top("out_dtype = \"f32\"");
    merged.run("out").unwrap();
    let out = place.open("out");
    let dtypes: Vec<Dtype> = out.schema().iter().map(|tensor| tensor.dtype()).collect();
    assert_eq!(
        dtypes,
        [Dtype::F32, Dtype::I64, Dtype::F32, Dtype::F32, Dtype::F32]
    );
    assert_eq!(place.values("out", "wide"), place.values("base", "wide"));
    assert_eq!(place.values("out", "one"), [2.0]);
}

#[test]
fn a_result_that_its_type_cannot_hold_is_refused_and_leaves_nothing() {
    let place = Place::new();
    place.write("base", &base());
    place.write("a", &fixture::plus(&base(), 1e6, Dtype::F32));
    for (name, merge) in [("out", MEAN), ("out.safetensors", MEAN)] {
        let failure: Failure = place
            .merge(merge, &["path = \"a\""])
            .run(name)
            .unwrap_err()
            .into();
        assert_eq!(failure.exit, ExitCode::BadData);
        assert_eq!(
            failure.message,
            "3 values of tensor `half` are beyond the largest of F16"
        );
        assert!(failure.hint.unwrap().contains("out_dtype"));
    }
    assert_eq!(place.names(), ["a", "base", "recipe.toml"]);
}

#[test]
fn a_value_that_is_no_number_is_found_where_it_is() {
    let place = Place::new();
    let mut bad = base();
    bad[4].values[7] = f32::NAN;
    place.write("good", &base());
    place.write("bad", &bad);
    for (base, model, whose) in [("good", "bad", "model `bad`"), ("bad", "good", "the base")] {
        let top = format!("base = \"{base}\"");
        let merged = place
            .merge(MEAN, &[&format!("path = \"{model}\"")])
            .with_base(&top);
        let failure: Failure = merged.run("out").unwrap_err().into();
        assert_eq!(
            failure.message,
            format!("{whose} has the value NaN at 7 of tensor `wide`")
        );
    }
    assert_eq!(place.names(), ["bad", "good", "recipe.toml"]);
}

#[test]
fn an_interrupted_merge_leaves_what_was_there() {
    let place = Place::new();
    place.write("base", &base());
    place.write("a", &fixture::plus(&base(), 2.0, Dtype::F32));
    let merged = place.merge(MEAN, &["path = \"a\""]);
    merged.run("out").unwrap();
    let before = place.names();
    for name in ["out", "new", "new.safetensors"] {
        let again = merged
            .with(|order| order.existing = Existing::Replace)
            .cancelled();
        assert!(matches!(
            again.run(name),
            Err(MergeCheckpointsError::Cancelled)
        ));
    }
    assert_eq!(place.names(), before);
}

#[test]
fn an_input_that_changes_while_it_is_read_is_an_error() {
    let place = Place::new();
    place.write("base", &base());
    place.write("a", &fixture::plus(&base(), 2.0, Dtype::F32));
    let merged = place.merge(MEAN, &["path = \"a\""]);
    let prepared = merged.prepare("out").unwrap();
    let path = place.path("a/model.safetensors");
    let bytes = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, bytes).unwrap();
    let failure: Failure = merged.go(&prepared).unwrap_err().into();
    assert_eq!(failure.exit, ExitCode::Temporary);
    assert!(
        failure
            .message
            .ends_with("a/model.safetensors` changed while it was read")
    );
    assert_eq!(place.names(), ["a", "base", "recipe.toml"]);
}

#[test]
fn only_outputs_of_merges_are_replaced_and_only_when_asked() {
    let place = Place::new();
    place.write("base", &base());
    place.write("a", &fixture::plus(&base(), 2.0, Dtype::F32));
    fs::create_dir(place.path("empty")).unwrap();
    let merged = place.merge(MEAN, &["path = \"a\""]);
    merged.run("empty").unwrap();
    let told = |merged: &fixture::Merge<'_>, name: &str| match merged.run(name) {
        Err(MergeCheckpointsError::Target(error)) => error.to_string().replace(&place.root(), ""),
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(told(&merged, "empty"), "`/empty` is there already");
    let forced = merged.with(|order| order.existing = Existing::Replace);
    forced.run("empty").unwrap();
    fs::write(place.path("empty/notes.txt"), "mine").unwrap();
    let notes = "`/empty` is not the output of an earlier merge: it holds `notes.txt`, which no merge has put there";
    assert_eq!(told(&forced, "empty"), notes);
    fs::create_dir(place.path("mine")).unwrap();
    fs::write(place.path("mine/x"), "").unwrap();
    assert!(told(&forced, "mine").ends_with("it has no fedmerge.json of a merge"));
    merged.run("x.safetensors").unwrap();
    assert_eq!(
        told(&merged, "x.safetensors"),
        "`/x.safetensors` is there already"
    );
    forced.run("x.safetensors").unwrap();
    fs::write(place.path("notes.safetensors"), "mine").unwrap();
    assert!(told(&forced, "notes.safetensors").ends_with("it cannot be read as safetensors"));
    fs::copy(
        place.path("a/model.safetensors"),
        place.path("b.safetensors"),
    )
    .unwrap();
    assert!(told(&forced, "b.safetensors").ends_with("does not say that it was merged"));
    assert_eq!(fs::read(place.path("mine/x")).unwrap(), b"");
}

#[test]
fn an_output_does_not_touch_an_input() {
    let place = Place::new();
    place.write("base", &base());
    place.write("a", &fixture::plus(&base(), 2.0, Dtype::F32));
    std::os::unix::fs::symlink(place.path("a"), place.path("link")).unwrap();
    let merged = place
        .merge(MEAN, &["path = \"a\""])
        .with(|order| order.existing = Existing::Replace);
    for (name, relation) in [
        ("a", "is `/a`"),
        ("base/out", "is inside `/base`"),
        ("link/out", "is inside `/a`"),
        ("link", "is `/a`"),
        (".", "contains"),
        ("a/model.safetensors", "is inside `/a`"),
    ] {
        let Err(MergeCheckpointsError::Target(error)) = merged.run(name) else {
            panic!("{name} was accepted")
        };
        let told = error.to_string().replace(&place.root(), "");
        assert!(told.contains(relation), "{name}: {told}");
    }
    let prepared = merged.prepare("out").unwrap();
    for (path, touches) in [
        ("recipe.toml", true),
        ("a/model.safetensors", true),
        ("out/report.json", true),
        ("report.json", false),
    ] {
        assert_eq!(prepared.touches(&place.path(path)), touches, "{path}");
    }
}

#[test]
fn the_bound_counts_what_the_sources_keep_and_shrinks_to_the_budget() {
    let place = Place::new();
    let base = vec![Tensor::of("w", Dtype::F32, &[200_000])];
    place.write("base", &base);
    place.write("a", &fixture::plus(&base, 2.0, Dtype::F32));
    let merged = place.merge(MEAN, &["path = \"a\""]);
    let roomy = merged.prepare("out").unwrap();
    let tight = merged
        .with(|order| order.memory_bytes = roomy.peak_bytes() - 1)
        .prepare("out")
        .unwrap();
    assert!(tight.peak_bytes() < roomy.peak_bytes());
    let error = merged
        .with(|order| order.memory_bytes = 1000)
        .prepare("out")
        .unwrap_err();
    let needed = shortest(&error).unwrap();
    let with = |bytes| {
        merged
            .with(|order| order.memory_bytes = bytes)
            .prepare("out")
    };
    assert!(with(needed).unwrap().peak_bytes() <= needed);
    assert!(with(needed - 1).is_err());
    let failure = Failure::from(error);
    assert_eq!(failure.exit, ExitCode::Usage);
    assert!(failure.hint.unwrap().contains("--memory"));
}
