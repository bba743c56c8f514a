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
    assert_snapshot!(own.join("\n"), @"");
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
    assert_snapshot!(told.join("\n").replace(&here, ""), @"");
    assert!(ended.stdout.contains("memory   at most "), "{ended}");
}

#[test]
fn models_of_other_tensors_are_refused_by_the_first_difference() {
    let place = Place::new("method = \"mean\"");
    write(&place.path("b.safetensors"), &[("b", &[2], &[0.0; 2])]);
    assert_snapshot!(place.refused_to_out(), @"");
    write(
        &place.path("b.safetensors"),
        &[("b", &[2], &[0.0; 2]), ("w", &[2, 2], &[0.0; 4])],
    );
    assert_snapshot!(place.refused_to_out(), @"");
}

#[test]
fn a_value_that_is_no_number_is_named_by_model_tensor_and_place() {
    let place = Place::new("method = \"mean\"");
    let mut bad = Values::base();
    bad.w[2] = f32::NAN;
    bad.write(&place.path("b.safetensors"));
    assert_snapshot!(place.refused_to_out(), @"");
}

#[test]
fn files_that_are_cut_off_lie_or_are_missing_are_refused() {
    let place = Place::new("method = \"mean\"");
    let path = place.path("b.safetensors");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert_snapshot!(place.refused_to_out(), @"");
    fs::write(&path, [&u64::MAX.to_le_bytes()[..], &whole[8..]].concat()).unwrap();
    assert_snapshot!(place.refused_to_out(), @"");
    fs::remove_file(&path).unwrap();
    assert_snapshot!(place.refused_to_out(), @"");
}

#[test]
fn an_output_in_an_input_or_over_something_is_refused() {
    let place = Place::new("method = \"mean\"");
    assert_snapshot!(place.refused(&["--out", "a.safetensors", "--force"]), @"");
    fs::write(place.path("mine"), "").unwrap();
    assert_snapshot!(place.refused(&["--out", "mine"]), @"");
    assert_snapshot!(place.refused(&["--out", "no/where"]), @"");
    assert_snapshot!(place.refused(&["--out", "out", "--report", "r.toml"]), @"");
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
    assert_snapshot!(Place::new("method = \"mean\"").refused(&["--out", "out", "--memory", "1KiB"]), @"");
}

#[test]
fn yaml_and_misspelt_keys_are_answered_with_what_to_write() {
    let place = Place::new("metod = \"mean\"");
    assert_snapshot!(place.refused_to_out(), @"");
    let ended = run(fedmerge(&["merge", "r.yml", "--out", "out"]).current_dir(place.0.path()));
    assert_snapshot!(ended.with_code(78).stderr, @"");
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
