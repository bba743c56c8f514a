//! Labelled examples in memory, from the embedded digits or from a safetensors file with `x` and `y`.
//!
//! Invariant: every row has `inputs` finite features and a label below `classes`. It knows nothing of training.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fedmerge_common::checkpoint::{
    Checkpoint, CheckpointWriter, ReadCheckpointError, WriteCheckpointError,
};
use fedmerge_common::dtype::Dtype;
use fedmerge_common::schema::{Schema, TensorSpec};

use super::digits;

/// One in this many examples is set aside for the test.
const TEST_SHARE: usize = 5;
/// More classes than this in a file of examples is taken for a mistake.
const MOST_CLASSES: usize = 65_536;

/// Labelled examples: `len` rows of `inputs` features.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    features: Vec<f32>,
    labels: Vec<usize>,
    inputs: usize,
    classes: usize,
}

/// Why examples cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LoadDatasetError {
    /// The file is no readable safetensors file.
    #[error("read examples from {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What was wrong with it.
        #[source]
        source: ReadCheckpointError,
    },
    /// The file could not be written.
    #[error("write examples to {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: WriteCheckpointError,
    },
    /// The file has no such tensor.
    #[error("{path} has no tensor {tensor}: examples are `x` [n, d] of floats and `y` [n] of I64")]
    Missing {
        /// The file.
        path: PathBuf,
        /// `x` or `y`.
        tensor: &'static str,
    },
    /// A tensor has the wrong shape or type.
    #[error("tensor {tensor} of {path} is {found}, expected {expected}")]
    Unfit {
        /// The file.
        path: PathBuf,
        /// `x` or `y`.
        tensor: &'static str,
        /// Type and shape in the file.
        found: String,
        /// What is needed.
        expected: String,
    },
    /// A label or a feature has an impossible value.
    #[error("example {row} has {problem}")]
    Example {
        /// Row, from 0.
        row: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// There is not one example.
    #[error("no examples")]
    Empty,
}

impl Dataset {
    /// Takes `labels.len()` rows of `inputs` features.
    ///
    /// # Errors
    /// When there is no example, the lengths disagree, a label is not below `classes` or a feature is not finite.
    pub fn new(
        features: Vec<f32>,
        labels: Vec<usize>,
        inputs: usize,
        classes: usize,
    ) -> Result<Self, LoadDatasetError> {
        if labels.is_empty()
            || inputs == 0
            || Some(features.len()) != labels.len().checked_mul(inputs)
        {
            return Err(LoadDatasetError::Empty);
        }
        if let Some(row) = labels.iter().position(|&label| label >= classes) {
            let problem = format!(
                "label {}, expected one of 0 to {}",
                labels[row],
                classes.saturating_sub(1)
            );
            return Err(LoadDatasetError::Example { row, problem });
        }
        if let Some(at) = features.iter().position(|value| !value.is_finite()) {
            let problem = format!("feature {} = {}", at % inputs, features[at]);
            return Err(LoadDatasetError::Example {
                row: at / inputs,
                problem,
            });
        }
        Ok(Self {
            features,
            labels,
            inputs,
            classes,
        })
    }

    /// Number of examples, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "a dataset is never empty")]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Features of one example.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Number of classes; labels are below it.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The features of one example.
    ///
    /// # Panics
    /// When `row` is not below `len`.
    pub fn features(&self, row: usize) -> &[f32] {
        &self.features[row * self.inputs..][..self.inputs]
    }

    /// The class of one example.
    ///
    /// # Panics
    /// When `row` is not below `len`.
    pub fn label(&self, row: usize) -> usize {
        self.labels[row]
    }

    /// The same examples with another of `classes` classes each.
    ///
    /// # Panics
    /// When `relabel` answers with something that is not a class.
    #[must_use]
    pub fn relabelled(mut self, classes: usize, relabel: impl Fn(usize) -> usize) -> Self {
        self.classes = classes;
        for label in &mut self.labels {
            *label = relabel(*label);
            assert!(*label < classes, "a class must be below {classes}");
        }
        self
    }

    /// The named rows, in the order given; `None` when there is none.
    ///
    /// # Panics
    /// When a row is not below `len`.
    pub fn select(&self, rows: &[usize]) -> Option<Self> {
        let features = rows
            .iter()
            .flat_map(|&row| self.features(row))
            .copied()
            .collect();
        let labels = rows.iter().map(|&row| self.labels[row]).collect();
        Self::new(features, labels, self.inputs, self.classes).ok()
    }

    /// Training part and test part: one fifth, chosen by the digests of the examples alone.
    ///
    /// # Panics
    /// Never with five examples or more; below that the test part would be empty.
    pub fn split(&self) -> (Self, Self) {
        let mut ranked: Vec<usize> = (0..self.len()).collect();
        ranked.sort_by_cached_key(|&row| {
            *digits::digest_of(self.features(row), self.label(row)).as_bytes()
        });
        let (test, training) =
            ranked.split_at((self.len() / TEST_SHARE).max(1).min(self.len() - 1));
        let part = |rows| self.select(rows).expect("both parts have examples");
        (part(training), part(test))
    }

    /// Reads `x` (n × d, floats) and `y` (n, I64) of a safetensors file.
    ///
    /// # Errors
    /// When the file cannot be read or holds something else.
    pub fn read(path: &Path) -> Result<Self, LoadDatasetError> {
        let unreadable = |source| LoadDatasetError::Read {
            path: path.to_path_buf(),
            source,
        };
        let file = Checkpoint::open(path).map_err(unreadable)?;
        let (x, spec) = find(path, file.schema(), "x")?;
        let &[rows, inputs] = spec.shape() else {
            return Err(unfit(path, "x", spec, "floats of shape [n, d]"));
        };
        if !spec.is_mergeable() {
            return Err(unfit(path, "x", spec, "floats of shape [n, d]"));
        }
        let (y, labels) = find(path, file.schema(), "y")?;
        if labels.dtype() != Dtype::I64 || labels.shape() != [rows] {
            return Err(unfit(path, "y", labels, &format!("I64 of shape [{rows}]")));
        }
        // The shapes are those of a file that holds all their bytes, so both buffers are bounded by its length.
        let mut features = vec![0.0; spec.elements()];
        file.read_f32(x, 0, &mut features).map_err(unreadable)?;
        let mut bytes = vec![0; labels.elements() * 8];
        file.read_bytes(y, 0, &mut bytes).map_err(unreadable)?;
        let labels = parse_labels(&bytes)?;
        let classes = labels.iter().max().map_or(0, |&most| most + 1);
        Self::new(features, labels, inputs, classes)
    }

    /// Writes the examples as `x` and `y` of a safetensors file.
    ///
    /// # Errors
    /// When the file cannot be written.
    ///
    /// # Panics
    /// Never: what is in memory has a size that a file can have.
    pub fn write(&self, path: &Path) -> Result<(), LoadDatasetError> {
        let failed = |source| LoadDatasetError::Write {
            path: path.to_path_buf(),
            source,
        };
        let shapes = [
            ("x", Dtype::F32, vec![self.len(), self.inputs]),
            ("y", Dtype::I64, vec![self.len()]),
        ];
        let specs = shapes.map(|(name, dtype, shape)| {
            TensorSpec::new(name, dtype, shape).expect("it is in memory")
        });
        let schema = Schema::new(specs.into()).expect("two names, each once");
        let file = CheckpointWriter::create(path, &schema, &BTreeMap::new()).map_err(failed)?;
        let labels: Vec<u8> = self
            .labels
            .iter()
            .flat_map(|&label| (label as i64).to_le_bytes())
            .collect();
        file.write_f32(0, 0, &self.features).map_err(failed)?;
        file.write_bytes(1, 0, &labels).map_err(failed)?;
        file.finish().map_err(failed)?;
        Ok(())
    }
}

fn find<'a>(
    path: &Path,
    schema: &'a Schema,
    tensor: &'static str,
) -> Result<(usize, &'a TensorSpec), LoadDatasetError> {
    let missing = || LoadDatasetError::Missing {
        path: path.to_path_buf(),
        tensor,
    };
    let index = schema.index_of(tensor).ok_or_else(missing)?;
    Ok((index, schema.get(tensor).ok_or_else(missing)?))
}

fn unfit(path: &Path, tensor: &'static str, spec: &TensorSpec, expected: &str) -> LoadDatasetError {
    let found = format!("{} of shape {:?}", spec.dtype().name(), spec.shape());
    LoadDatasetError::Unfit {
        path: path.to_path_buf(),
        tensor,
        found,
        expected: expected.to_owned(),
    }
}

fn parse_labels(bytes: &[u8]) -> Result<Vec<usize>, LoadDatasetError> {
    let (labels, _) = bytes.as_chunks::<8>();
    let parse = |(row, label): (usize, &[u8; 8])| {
        let label = i64::from_le_bytes(*label);
        usize::try_from(label)
            .ok()
            .filter(|&label| label < MOST_CLASSES)
            .ok_or_else(|| LoadDatasetError::Example {
                row,
                problem: format!("label {label}"),
            })
    };
    labels.iter().enumerate().map(parse).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use super::*;

    fn small() -> Dataset {
        Dataset::new(vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0], vec![0, 2, 1], 2, 3).unwrap()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data.safetensors");
        small().write(&path).unwrap();
        assert_eq!(Dataset::read(&path).unwrap(), small());
    }

    #[test]
    fn a_file_without_labels_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data.safetensors");
        let spec = TensorSpec::new("x", Dtype::F32, vec![1, 1]).unwrap();
        let file =
            CheckpointWriter::create(&path, &Schema::new(vec![spec]).unwrap(), &BTreeMap::new())
                .unwrap();
        file.write_f32(0, 0, &[1.0]).unwrap();
        file.finish().unwrap();
        let error = Dataset::read(&path).unwrap_err().to_string();
        assert!(error.contains("has no tensor y"), "{error}");
    }

    #[test]
    fn impossible_examples_are_refused_by_row() {
        let label = Dataset::new(vec![0.0; 4], vec![0, 7], 2, 3).unwrap_err();
        assert_eq!(
            label.to_string(),
            "example 1 has label 7, expected one of 0 to 2"
        );
        let feature = Dataset::new(vec![0.0, 0.0, 0.0, f32::NAN], vec![0, 0], 2, 3).unwrap_err();
        assert_eq!(feature.to_string(), "example 1 has feature 1 = NaN");
        assert!(Dataset::new(Vec::new(), Vec::new(), 2, 3).is_err());
        assert!(parse_labels(&(-1_i64).to_le_bytes()).is_err());
        assert!(parse_labels(&i64::MAX.to_le_bytes()).is_err());
    }

    #[test]
    fn flipped_labels_stay_classes() {
        let flipped = small().relabelled(10, |label| 9 - label);
        assert_eq!(
            [flipped.label(0), flipped.label(1), flipped.label(2)],
            [9, 7, 8]
        );
    }
}
