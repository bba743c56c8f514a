//! A task vector with noise of its client's own: clipped to a length and hidden before a byte of it leaves the site.
//!
//! `τ · min(1, C / ‖τ‖) + z C · N(0, I)` over all tensors that are sent, also those that did not change: that they did not would be told
//! by their silence. Memory is two blocks, whatever the model's size.

use std::path::Path;

use super::delta::{WriteTaskVectorError, begin, check_schema, subtract};
use crate::checkpoint::{Checkpoint, WrittenCheckpoint};
use crate::dtype::Dtype;

/// Noise that a client adds to its own update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LocalNoise {
    clip: f64,
    multiplier: f64,
}

/// Both numbers are finite, so that each is equal to itself.
impl Eq for LocalNoise {}

/// Noise that no client can add.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("noise of {multiplier} times a clip of {clip}: both must be above 0 and finite")]
pub struct InvalidNoise {
    clip: f64,
    multiplier: f64,
}

impl LocalNoise {
    /// Noise of `multiplier` times the length `clip` to which the update is shortened.
    ///
    /// # Errors
    /// When one of the two is not above 0 and finite.
    pub fn new(clip: f64, multiplier: f64) -> Result<Self, InvalidNoise> {
        let is_sound = |number: f64| number.is_finite() && number > 0.0;
        if is_sound(clip) && is_sound(multiplier) {
            return Ok(Self { clip, multiplier });
        }
        Err(InvalidNoise { clip, multiplier })
    }

    /// The length to which the update is shortened.
    #[must_use]
    pub fn clip(&self) -> f64 {
        self.clip
    }

    /// Standard deviation of the noise over that length.
    #[must_use]
    pub fn multiplier(&self) -> f64 {
        self.multiplier
    }
}

/// Writes the noisy difference of two checkpoints of one schema to `out`, F32. `normal` draws independent standard normal numbers, which
/// nobody else can foretell. Tensors that are withheld are left out.
///
/// # Errors
/// When the checkpoints differ in a tensor's name, shape or kind, a value is not finite, or a file cannot be read or written.
pub fn write_private_task_vector(
    (base, fine_tuned): (&Checkpoint, &Checkpoint),
    noise: &LocalNoise,
    normal: &mut dyn FnMut() -> f64,
    is_withheld: &dyn Fn(&str) -> bool,
    out: &Path,
) -> Result<WrittenCheckpoint, WriteTaskVectorError> {
    check_schema(base, fine_tuned)?;
    let sent = base.schema().iter().enumerate();
    let sent = sent.filter(|(_, tensor)| tensor.is_mergeable() && !is_withheld(tensor.name()));
    let sent: Vec<_> = sent.collect();
    let mut square = 0.0;
    for (position, tensor) in &sent {
        subtract(base, fine_tuned, *position, tensor, |offset, values| {
            if let Some(index) = values.iter().position(|value| !value.is_finite()) {
                return Err(WriteTaskVectorError::NonFinite {
                    tensor: tensor.name().to_owned(),
                    index: offset + index,
                    value: values[index],
                });
            }
            let squares = values.iter().map(|&value| f64::from(value).powi(2));
            square += squares.sum::<f64>();
            Ok(true)
        })?;
    }
    let norm = f64::sqrt(square);
    let factor = if norm > noise.clip {
        noise.clip / norm
    } else {
        1.0
    };
    let deviation = noise.clip * noise.multiplier;
    let writer = begin(out, Dtype::F32, sent.iter().map(|(_, tensor)| *tensor))?;
    let mut noisy = Vec::new();
    for (target, (position, tensor)) in sent.into_iter().enumerate() {
        subtract(base, fine_tuned, position, tensor, |offset, values| {
            noisy.clear();
            noisy.extend(values.iter().map(|&value| {
                let hidden = f64::from(value) * factor + deviation * normal();
                rounded(hidden)
            }));
            let written = writer.write_f32(target, offset, &noisy);
            written.map_err(WriteTaskVectorError::Write)?;
            Ok(true)
        })?;
    }
    writer.finish().map_err(WriteTaskVectorError::Write)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the cast rounds to nearest, ties to even"
)]
fn rounded(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use std::collections::BTreeMap;

    use tempfile::TempDir;

    use super::*;
    use crate::checkpoint::CheckpointWriter;
    use crate::schema::{Schema, TensorSpec};

    fn checkpoint(directory: &TempDir, file: &str, a: &[f32], b: &[f32]) -> Checkpoint {
        let spec =
            |name, values: &[f32]| TensorSpec::new(name, Dtype::F32, vec![values.len()]).unwrap();
        let schema = Schema::new(vec![spec("a", a), spec("b", b)]).unwrap();
        let path = directory.path().join(file);
        let writer = CheckpointWriter::create(&path, &schema, &BTreeMap::new()).unwrap();
        writer.write_f32(0, 0, a).unwrap();
        writer.write_f32(1, 0, b).unwrap();
        writer.finish().unwrap();
        Checkpoint::open(&path).unwrap()
    }

    fn written(a: &[f32], normal: f64, withheld: &str) -> Vec<(String, Vec<f32>)> {
        let directory = TempDir::new().unwrap();
        let base = checkpoint(&directory, "base", &[1.0, 1.0], &[5.0]);
        let tuned = checkpoint(&directory, "tuned", a, &[5.0]);
        let out = directory.path().join("out");
        let noise = LocalNoise::new(2.0, 0.5).unwrap();
        let withholds = |name: &str| name == withheld;
        let mut normal = || normal;
        write_private_task_vector((&base, &tuned), &noise, &mut normal, &withholds, &out).unwrap();
        let update = Checkpoint::open(&out).unwrap();
        let tensors = update.schema().iter().enumerate();
        tensors
            .map(|(index, tensor)| {
                let mut values = vec![0.0; tensor.elements()];
                update.read_f32(index, 0, &mut values).unwrap();
                (tensor.name().to_owned(), values)
            })
            .collect()
    }

    #[test]
    fn an_update_is_clipped_and_every_value_gets_noise() {
        // (3, 4) is 5 long and shortened to 2; noise of 2 × 0.5 × 1 on all, also on what did not change.
        let update = written(&[4.0, 5.0], 1.0, "");
        assert_eq!(update[0], ("a".to_owned(), vec![2.2, 2.6]));
        assert_eq!(update[1], ("b".to_owned(), vec![1.0]));
    }

    #[test]
    fn what_is_shorter_is_not_stretched_and_what_is_withheld_is_not_there() {
        let update = written(&[1.5, 1.0], 0.0, "b");
        assert_eq!(update, [("a".to_owned(), vec![0.5, 0.0])]);
    }

    #[test]
    fn numbers_that_hide_nothing_are_no_noise() {
        for (clip, multiplier) in [
            (0.0, 1.0),
            (1.0, 0.0),
            (f64::NAN, 1.0),
            (1.0, f64::INFINITY),
        ] {
            assert!(LocalNoise::new(clip, multiplier).is_err());
        }
    }
}
