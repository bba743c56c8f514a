//! The golden vectors of ByzFL, through the program: a recipe for each rule, checkpoints in, a checkpoint out.
//!
//! Values are f32 on disk, so results agree to their precision: 1e-5 of the largest value of a model.

use std::fs;
use std::path::Path;

use fedmerge_common::checkpoint::{Checkpoint, CheckpointWriter};
use fedmerge_common::dtype::Dtype;
use fedmerge_common::schema::{Schema, TensorSpec};
use serde_json::Value;

use crate::harness::command::{fedmerge, run};

/// A rule of ByzFL and the `[merge]` that says the same; `F` stands for the case's number of attackers.
const RULES: &[(&str, &str)] = &[
    ("Average", "method = \"mean\""),
    ("Median", "method = \"median\""),
    ("TrMean", "method = \"trimmed-mean\"\ntolerate = F"),
    (
        "GeometricMedian(nu=0.1,T=3)",
        "method = \"geometric-median\"\ncompat = \"byzfl\"",
    ),
    (
        "GeometricMedian(nu=1e-6,T=100)",
        "method = \"geometric-median\"\ncompat = \"byzfl\"\nnu = 1e-6\niterations = 100",
    ),
    (
        "Krum",
        "method = \"krum\"\ncompat = \"byzfl\"\ntolerate = F",
    ),
    (
        "MultiKrum",
        "method = \"multi-krum\"\ncompat = \"byzfl\"\ntolerate = F",
    ),
    (
        "CenteredClipping(m=0,L=1,tau=100)",
        "method = \"centered-clipping\"\ncompat = \"byzfl\"",
    ),
    (
        "CenteredClipping(m=0,L=5,tau=1)",
        "method = \"centered-clipping\"\nradius = 1.0\niterations = 5",
    ),
    ("MDA", "method = \"mda\"\ntolerate = F"),
    (
        "MoNNA(idx=0)",
        "method = \"moNNA\"\ntolerate = F\ntrusted = \"0\"",
    ),
    ("Meamed", "method = \"meamed\"\ntolerate = F"),
];

/// Rules of the author's own reference, with exact eigenvalues.
const REFERENCES: &[(&str, &str)] = &[
    ("CAF_exact_eig", "method = \"caf\"\ntolerate = F"),
    ("DnC_fullD", "method = \"dnc\"\ntolerate = F"),
];

/// Stages before a rule, by the prefix of its name.
const STAGES: &[(&str, &str)] = &[
    ("ARC>NNM>", "[{ method = \"arc\" }, { method = \"nnm\" }]"),
    ("NNM>", "[{ method = \"nnm\" }]"),
];

/// Stages by themselves; what they make of each client is asked for one client at a time.
const ALONE: &[(&str, &str)] = &[
    ("NNM", "[{ method = \"nnm\" }]"),
    ("ARC", "[{ method = \"arc\" }]"),
    ("Clipping(c=2)", "[{ method = \"clip\", norm = 2.0 }]"),
];

fn numbers(value: &Value) -> Vec<f64> {
    let list = value.as_array().unwrap().iter();
    list.map(|number| number.as_f64().unwrap()).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "checkpoints are f32")]
fn write(path: &Path, values: &[f64]) {
    let spec = TensorSpec::new("x", Dtype::F32, vec![values.len()]).unwrap();
    let schema = Schema::new(vec![spec]).unwrap();
    let writer = CheckpointWriter::create(path, &schema, &Default::default()).unwrap();
    let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
    writer.write_f32(0, 0, &values).unwrap();
    writer.finish().unwrap();
}

/// A case of the vectors on disk.
struct Case {
    dir: tempfile::TempDir,
    clients: usize,
    attackers: String,
    tolerance: f64,
}

impl Case {
    fn new(case: &Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let rows: Vec<_> = case["X"].as_array().unwrap().iter().map(numbers).collect();
        write(
            &dir.path().join("base.safetensors"),
            &vec![0.0; rows[0].len()],
        );
        for (client, row) in rows.iter().enumerate() {
            write(&dir.path().join(format!("{client}.safetensors")), row);
        }
        let largest = rows
            .iter()
            .flatten()
            .fold(1.0_f64, |most, value| most.max(value.abs()));
        Self {
            dir,
            clients: rows.len(),
            attackers: case["f"].to_string(),
            tolerance: 1e-5 * largest,
        }
    }

    /// Merges the case's models by a `[merge]`, with these weights where there are some.
    fn merge(&self, merge: &str, weight: impl Fn(usize) -> Option<f64>) -> Vec<f64> {
        let merge = merge.replace("= F", &format!("= {}", self.attackers));
        let model = |client| {
            let weight = weight(client).map(|weight| format!("weight = {weight:?}\n"));
            let weight = weight.unwrap_or_default();
            // Every other model is a task vector already: the base is 0, so both are the same.
            let key = if client % 2 == 0 {
                "path"
            } else {
                "task_vector"
            };
            format!("[[model]]\n{key} = \"{client}.safetensors\"\n{weight}")
        };
        let models: String = (0..self.clients).map(model).collect();
        let recipe = self.dir.path().join("recipe.toml");
        let text = format!("base = \"base.safetensors\"\n[merge]\n{merge}\n{models}");
        fs::write(&recipe, text).unwrap();
        let mut command = fedmerge(&[
            "merge",
            "recipe.toml",
            "--out",
            "out.safetensors",
            "--force",
        ]);
        run(command.current_dir(self.dir.path())).well();
        read(&self.dir.path().join("out.safetensors"))
    }

    #[track_caller]
    fn expect(&self, name: &str, found: &[f64], expected: &Value) {
        let expected = numbers(expected);
        assert_eq!(found.len(), expected.len(), "{name}");
        for (found, wanted) in found.iter().zip(&expected) {
            let is_near = (found - wanted).abs() <= self.tolerance;
            assert!(
                is_near,
                "{name} of {} models: {found}, not {wanted}",
                self.clients
            );
        }
    }
}

fn read(path: &Path) -> Vec<f64> {
    let checkpoint = Checkpoint::open(path).unwrap();
    let mut values = vec![0.0; checkpoint.schema().tensors()[0].elements()];
    checkpoint.read_f32(0, 0, &mut values).unwrap();
    values.into_iter().map(f64::from).collect()
}

/// The `[merge]` of a rule's name, stages included.
fn merge_of(name: &str) -> String {
    let staged = STAGES.iter().find_map(|(prefix, stages)| {
        let rule = name.strip_prefix(prefix)?;
        Some((rule, format!("\ntolerate = F\nbefore = {stages}")))
    });
    let (rule, stages) = staged.unwrap_or((name, String::new()));
    let row = RULES.iter().find(|(known, _)| *known == rule);
    let merge = row.unwrap_or_else(|| panic!("no recipe for {name}")).1;
    if stages.is_empty() {
        merge.to_owned()
    } else {
        format!("{}{stages}", merge.replace("\ntolerate = F", ""))
    }
}

#[test]
fn every_rule_and_stage_of_byzfl_gives_its_numbers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/byzfl.json");
    let vectors: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    for vector in vectors["cases"].as_array().unwrap() {
        let case = Case::new(vector);
        for (name, expected) in vector["agg"].as_object().unwrap() {
            case.expect(name, &case.merge(&merge_of(name), |_| None), expected);
        }
        for (name, merge) in REFERENCES {
            case.expect(name, &case.merge(merge, |_| None), &vector["ref"][name]);
        }
        for (name, stages) in ALONE {
            let tolerate = if name.contains('(') {
                ""
            } else {
                "\ntolerate = F"
            };
            let merge = format!("method = \"task-arithmetic\"\nbefore = {stages}{tolerate}");
            for client in 0..case.clients {
                let only = |other| Some(if other == client { 1.0 } else { 0.0 });
                case.expect(
                    name,
                    &case.merge(&merge, only),
                    &vector["pre"][name][client],
                );
            }
        }
    }
}
