//! What people see of `fedmerge merge`: its help, its plan, and every input that it refuses, with nothing written.

use std::fs;
use std::path::Path;

use insta::assert_snapshot;

use crate::command::{fedmerge, run};
use crate::values::Values;

/// A directory with a base, two models that go 1 and 3 from it, and a recipe with this `[merge]`.
struct Place(tempfile::TempDir);

impl Place {
    fn new(merge: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let base = Values::base();
        for (name, values) in [
            ("base", base.clone()),
            ("a", base.plus(1.0)),
            ("b", base.plus(3.0)),
        ] {
            values.write(&dir.path().join(name).with_extension("safetensors"));
        }
        let models = "[[model]]\npath = \"a.safetensors\"\n[[model]]\npath = \"b.safetensors\"\n";
        let recipe = format!("base = \"base.safetensors\"\n[merge]\n{merge}\n{models}");
        fs::write(dir.path().join("r.toml"), recipe).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.0.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// What a person sees of a merge that is refused; nothing is written by it.
    fn refused(&self, arguments: &[&str]) -> String {
        let before = self.names();
        let mut command = fedmerge(&["merge", "r.toml", "--threads", "1"]);
        let ended = run(command.args(arguments).current_dir(self.0.path()));
        assert_eq!(self.names(), before, "something was written: {ended}");
        let code = ended.status.code().unwrap();
        assert!(code != 0, "{ended}");
        let here = format!("{}/", self.0.path().canonicalize().unwrap().display());
        format!("{}exit code {code}", ended.stderr.replace(&here, ""))
    }

    fn refused_to_out(&self) -> String {
        self.refused(&["--out", "out"])
    }
}

fn write(path: &Path, tensors: &[(&str, &[usize], &[f32])]) {
    let entries: Vec<_> = tensors
        .iter()
        .scan(0, |begin, (name, shape, values)| {
            let end = *begin + 4 * values.len();
            let entry = format!(
                r#""{name}":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{begin},{end}]}}"#
            );
            *begin = end;
            Some(entry)
        })
        .collect();
    let header = format!("{{{}}}", entries.join(","));
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    for (_, _, values) in tensors {
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn merging_is_explained_with_a_recipe() {
    let ended = run(fedmerge(&["merge"]).arg("--help")).well();
    let (own, _) = ended.stdout.split_once("\n  -h, --help").unwrap();
    let own: Vec<_> = own.lines().map(str::trim_end).collect();
    assert_snapshot!(own.join("\n"), @r#"
    Merge checkpoints on disk by a recipe, with the engine of the federation

    Usage: fedmerge merge [OPTIONS] --out <PATH> <RECIPE>

    Arguments:
      <RECIPE>
              The recipe, a TOML file: which checkpoints, and how

    Options:
          --out <PATH>
              Where the merged model goes: a file that ends in .safetensors, or a directory to make

          --force
              Replace the output of an earlier merge

          --dry-run
              Check everything and print the plan, but do not merge

          --threads <N>
              Threads, at most 1024; 0: as many as the machine has

              [default: 0]

          --memory <SIZE>
              Most memory for the values that are worked on

              [default: 512MiB]

          --shard-size <SIZE>
              Largest file of tensors in a directory; a larger model is sharded

              [default: 5GB]

          --report <FILE>
              Write a report: how the models agree with one another, tensor by tensor, and where the
              time went
    "#);
    assert!(ended.stdout.contains("[[model]]") && ended.stdout.contains("out_dtype"));
}

#[test]
fn a_dry_run_tells_what_would_be_done_and_writes_nothing() {
    let place = Place::new("method = \"median\"");
    let before = place.names();
    let mut command = fedmerge(&[
        "merge",
        "r.toml",
        "--out",
        "out",
        "--dry-run",
        "--threads",
        "1",
    ]);
    let ended = run(command.current_dir(place.0.path())).well();
    assert_eq!(place.names(), before);
    let here = format!("{}/", place.0.path().canonicalize().unwrap().display());
    let told: Vec<_> = ended
        .stdout
        .lines()
        .filter(|line| !line.starts_with("memory"))
        .collect();
    assert_snapshot!(told.join("\n").replace(&here, ""), @r#"
    base     base.safetensors: 2 tensors, 6 parameters
    models   2: a, b
    merge    median, lambda 1.0, seed 0, tolerate 0
    merged   all tensors
    passes   1: combine and write
    output   out: 24 B of F32
    "#);
    assert!(ended.stdout.contains("memory   at most "), "{ended}");
}

#[test]
fn models_of_other_tensors_are_refused_by_the_first_difference() {
    let place = Place::new("method = \"mean\"");
    write(&place.path("b.safetensors"), &[("b", &[2], &[0.0; 2])]);
    assert_snapshot!(place.refused_to_out(), @r#"
    error: model `b` does not fit the base: tensor `w` is missing
    hint: models are merged tensor by tensor: all must be fine-tuned from the base that the recipe names
    exit code 65
    "#);
    write(
        &place.path("b.safetensors"),
        &[("b", &[2], &[0.0; 2]), ("w", &[2, 2], &[0.0; 4])],
    );
    assert_snapshot!(place.refused_to_out(), @r#"
    error: model `b` does not fit the base: tensor `w` has shape [2, 2], expected [4]
    hint: models are merged tensor by tensor: all must be fine-tuned from the base that the recipe names
    exit code 65
    "#);
}

#[test]
fn a_value_that_is_no_number_is_named_by_model_tensor_and_place() {
    let place = Place::new("method = \"mean\"");
    let mut bad = Values::base();
    bad.w[2] = f32::NAN;
    bad.write(&place.path("b.safetensors"));
    assert_snapshot!(place.refused_to_out(), @r#"
    error: model `b` has the value NaN at 2 of tensor `w`
    hint: leave that model out, or freeze the tensor: freeze = ["NAME"] in [merge]
    exit code 65
    "#);
}

#[test]
fn files_that_are_cut_off_lie_or_are_missing_are_refused() {
    let place = Place::new("method = \"mean\"");
    let path = place.path("b.safetensors");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert_snapshot!(place.refused_to_out(), @r#"
    error: model `b` cannot be read
    caused by: `b.safetensors` is not a valid checkpoint
    caused by: the file is truncated: 144 bytes expected, 143 found
    hint: download or save it again; only safetensors are read
    exit code 65
    "#);
    fs::write(&path, [&u64::MAX.to_le_bytes()[..], &whole[8..]].concat()).unwrap();
    assert_snapshot!(place.refused_to_out(), @r#"
    error: model `b` cannot be read
    caused by: `b.safetensors` is not a valid checkpoint
    caused by: the header has 18446744073709551615 bytes, the limit is 100000000
    hint: download or save it again; only safetensors are read
    exit code 65
    "#);
    fs::remove_file(&path).unwrap();
    assert_snapshot!(place.refused_to_out(), @r#"
    error: model `b` cannot be read
    caused by: cannot read `b.safetensors`
    caused by: No such file or directory (os error 2)
    hint: paths in a recipe are seen from the directory of its file
    exit code 69
    "#);
}

#[test]
fn an_output_in_an_input_or_over_something_is_refused() {
    let place = Place::new("method = \"mean\"");
    assert_snapshot!(place.refused(&["--out", "a.safetensors", "--force"]), @r#"
    error: the output `a.safetensors` is `a.safetensors`, which the merge reads
    hint: give --out a place of its own: a merge never changes what it reads
    exit code 64
    "#);
    fs::write(place.path("mine"), "").unwrap();
    assert_snapshot!(place.refused(&["--out", "mine"]), @r#"
    error: `mine` is there already
    hint: give --out a new name, or --force to replace the output of an earlier merge
    exit code 64
    "#);
    assert_snapshot!(place.refused(&["--out", "no/where"]), @r#"
    error: `no` is not a directory
    hint: make it first: mkdir -p
    exit code 64
    "#);
    assert_snapshot!(place.refused(&["--out", "out", "--report", "r.toml"]), @r#"
    error: the report `r.toml` would replace what the merge reads or writes
    hint: give --report a new file in a directory that is there
    exit code 64
    "#);
}

#[test]
fn numbers_that_cannot_work_are_refused_with_their_arithmetic() {
    for (merge, told) in [
        (
            "method = \"ties\"\ndensity = 0.0",
            "density = 0 is not possible",
        ),
        (
            "method = \"ties\"\ndensity = 1.5",
            "density = 1.5 is not possible",
        ),
        (
            "method = \"trimmed-mean\"\ntolerate = 1",
            "2 × 1 + 1 = 3 clients, and there are 2",
        ),
    ] {
        let refused = Place::new(merge).refused_to_out();
        assert!(
            refused.contains(told) && refused.ends_with("exit code 78"),
            "{refused}"
        );
    }
    assert_snapshot!(Place::new("method = \"mean\"").refused(&["--out", "out", "--memory", "1KiB"]), @r#"
    error: the merge cannot be planned
    caused by: the merge needs at least 284978 bytes of memory for 2 clients on 1 threads, and may use 1024
    hint: give more --memory, or fewer --threads
    exit code 64
    "#);
}

#[test]
fn yaml_and_misspelt_keys_are_answered_with_what_to_write() {
    let place = Place::new("metod = \"mean\"");
    assert_snapshot!(place.refused_to_out(), @r#"
    error: r.toml:3: unknown key `metod` in [merge]
    hint: did you mean `method`?
    exit code 78
    "#);
    let ended = run(fedmerge(&["merge", "r.yml", "--out", "out"]).current_dir(place.0.path()));
    assert_snapshot!(ended.with_code(78).stderr, @r#"
    error: r.yml is YAML, and a recipe is TOML in this version
    hint: mergekit's YAML comes in a later version; `fedmerge merge --help` shows a recipe to write instead
    "#);
}

#[test]
fn tensors_without_values_or_with_one_are_merged() {
    let place = Place::new("method = \"ties\"\ndensity = 0.5");
    for (name, step) in [("base", 0.0), ("a", 1.0), ("b", 3.0)] {
        write(
            &place.path(name).with_extension("safetensors"),
            &[
                ("none", &[0, 3], &[]),
                ("one", &[1], &[2.0 + step]),
                ("point", &[], &[1.0 + step]),
            ],
        );
    }
    let mut command = fedmerge(&["merge", "r.toml", "--out", "out.safetensors"]);
    run(command.current_dir(place.0.path())).well();
    assert!(place.path("out.safetensors").is_file());
}
