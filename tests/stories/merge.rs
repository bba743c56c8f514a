//! `fedmerge merge` from beginning to end: directories and shards in and out, reports, interruptions, kills and full disks.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use fedmerge_common::checkpoint::Checkpoint;
use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::harness::command::{fedmerge, run};
use crate::harness::machine::{SmallDisk, wait_until};
use crate::harness::process::{Ended, Process};
use crate::harness::values::Values;

/// A place to merge in.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a recipe: lines of the top and of `[merge]`, and a model for each of these lines.
    fn recipe(&self, top: &str, merge: &str, models: &[&str]) {
        let models: String = models
            .iter()
            .map(|model| format!("[[model]]\n{model}\n"))
            .collect();
        let text = format!("{top}\n[merge]\n{merge}\n{models}");
        fs::write(self.path("recipe.toml"), text).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = fedmerge(&["merge", "recipe.toml"]);
        command.args(arguments).current_dir(self.0.path());
        command
    }

    fn merge(&self, arguments: &[&str]) -> Ended {
        run(&mut self.command(arguments))
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Writes the base and two models, as directories of a Hugging Face tool.
    fn models(&self) {
        for (name, step) in [("base", 0.0), ("a", 1.0), ("b", 3.0)] {
            fs::create_dir(self.path(name)).unwrap();
            fs::write(
                self.path(name).join("config.json"),
                "{\"model_type\":\"tiny\"}",
            )
            .unwrap();
            let path = self.path(name).join("model.safetensors");
            Values::base().plus(step).write(&path);
        }
    }
}

#[test]
fn shards_go_in_and_out_and_the_report_says_how_the_models_agree() {
    let place = Place::new();
    place.models();
    let models = ["path = \"a\"\nname = \"first\"", "path = \"b\"\nweight = 3"];
    place.recipe("base = \"base\"", "method = \"mean\"", &models);
    place
        .merge(&["--out", "sharded", "--shard-size", "10B"])
        .well();
    assert!(
        place
            .path("sharded/model-00001-of-00002.safetensors")
            .is_file()
    );
    assert!(place.path("sharded/config.json").is_file());
    assert_eq!(
        Values::read(&place.path("sharded")),
        Values::base().plus(2.5)
    );

    let models = ["path = \"sharded/\"", "path = \"a\""];
    place.recipe(
        "base = \"base\"\nout_dtype = \"bf16\"",
        "method = \"median\"",
        &models,
    );
    let told = place
        .merge(&[
            "--out",
            "last.safetensors",
            "--report",
            "report.json",
            "--format",
            "json",
        ])
        .well();
    let told: Value = serde_json::from_str(&told.stdout).unwrap();
    let report: Value =
        serde_json::from_slice(&fs::read(place.path("report.json")).unwrap()).unwrap();
    assert_eq!(told, report);
    assert_eq!(report["event"], "merged");
    assert_eq!(report["models"][0]["name"], "sharded");
    assert_eq!(report["plan"]["merge"]["method"], "median");
    assert!((report["diagnostics"]["cosines"][0][1].as_f64().unwrap() - 1.0).abs() < 1e-9);
    assert!(report["bytes_read"].as_u64().unwrap() >= 3 * 24);
    assert_eq!(
        report["output"]["digest"],
        report["output"]["files"][0]["digest"]
    );
    assert_eq!(
        Values::read(&place.path("last.safetensors")),
        Values::base().plus(1.75)
    );
}

#[test]
fn a_merge_does_not_know_how_many_threads_and_how_much_memory_it_had() {
    let place = Place::new();
    place.models();
    place.recipe(
        "base = \"base\"",
        "method = \"ties\"\ndensity = 0.5",
        &["path = \"a\"", "path = \"b\""],
    );
    let mut outputs = Vec::new();
    for (threads, memory) in [("1", "512MiB"), ("3", "16MiB")] {
        let out = format!("{threads}.safetensors");
        place
            .merge(&["--out", &out, "--threads", threads, "--memory", memory])
            .well();
        outputs.push(fs::read(place.path(&out)).unwrap());
    }
    assert!(outputs[0] == outputs[1]);
}

/// Bytes of a large model: all zeros, which cost no room on disk.
const LARGE_BYTES: usize = 256 << 20;

fn write_large(path: &Path) {
    let shape = LARGE_BYTES / 4;
    let header =
        format!(r#"{{"w":{{"dtype":"F32","shape":[{shape}],"data_offsets":[0,{LARGE_BYTES}]}}}}"#);
    let mut file = File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes())
        .unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.set_len((8 + header.len() + LARGE_BYTES) as u64)
        .unwrap();
}

/// A merge that has begun to write and will take a while.
fn begun(place: &Place, out: &str) -> Process {
    write_large(&place.path("large.safetensors"));
    let models: Vec<_> = (0..24)
        .map(|number| format!("path = \"large.safetensors\"\nname = \"{number}\""))
        .collect();
    let models: Vec<_> = models.iter().map(String::as_str).collect();
    place.recipe(
        "base = \"large.safetensors\"",
        "method = \"trimmed-mean\"\ntolerate = 2\nbefore = [{ method = \"nnm\" }]",
        &models,
    );
    let process = Process::start(
        "a long merge",
        &mut place.command(&["--out", out, "--force"]),
    );
    let has_begun = || place.names().iter().any(|name| name.ends_with(".tmp"));
    wait_until("the merge to begin", has_begun);
    process
}

#[test]
fn an_interrupted_merge_leaves_the_old_output_and_nothing_else() {
    let place = Place::new();
    place.models();
    place.recipe("base = \"base\"", "method = \"mean\"", &["path = \"a\""]);
    for out in ["out", "out.safetensors"] {
        place.recipe("base = \"base\"", "method = \"mean\"", &["path = \"a\""]);
        place.merge(&["--out", out]).well();
        let process = begun(&place, out);
        let names: Vec<_> = place
            .names()
            .into_iter()
            .filter(|name| !name.ends_with(".tmp"))
            .collect();
        kill_process(process.pid(), Signal::INT).unwrap();
        let ended = process.end().with_code(75);
        assert!(
            ended
                .stderr
                .contains("the merge was interrupted; nothing was written"),
            "{ended}"
        );
        assert_eq!(place.names(), names);
        assert_eq!(Values::read(&place.path(out)), Values::base().plus(1.0));
    }
}

#[test]
fn a_killed_merge_leaves_no_output_and_the_next_succeeds() {
    let place = Place::new();
    place.models();
    let process = begun(&place, "out");
    drop(process);
    assert!(!place.path("out").exists());
    place.recipe("base = \"base\"", "method = \"mean\"", &["path = \"a\""]);
    place.merge(&["--out", "out"]).well();
    assert!(Checkpoint::open(&place.path("out")).is_ok());
}

#[test]
fn a_full_disk_is_known_before_the_merge_and_costs_nothing() {
    let place = Place::new();
    let Some(_disk) = SmallDisk::mount(&place.path("disk"), 1) else {
        return;
    };
    let large = Values {
        w: vec![1.0; 1 << 19],
        b: vec![0.5; 2],
    };
    large.write(&place.path("base.safetensors"));
    place.recipe(
        "base = \"base.safetensors\"",
        "method = \"mean\"",
        &["path = \"base.safetensors\""],
    );
    for out in ["disk/out", "disk/out.safetensors"] {
        let ended = place.merge(&["--out", out]).with_code(75);
        assert!(ended.stderr.contains("No space left on device"), "{ended}");
        assert!(ended.stderr.contains("hint: free some space"), "{ended}");
        assert_eq!(fs::read_dir(place.path("disk")).unwrap().count(), 0);
    }
}
