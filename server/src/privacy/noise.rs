//! Noise that can be repeated by whoever has the key, and foretold by nobody else.
//!
//! A merge that a crash interrupts must make the same model again, and two merges must never share noise: each draws from ChaCha20
//! under a key that is a digest of the server's secret, of the round and of every update in it. Whoever knew the noise could subtract
//! it, so the secret stays in `identity/` and never in a report. Normal numbers by Box and Muller in `libm`'s arithmetic, the same on
//! every machine. Values of f64 are not the real line: nothing is claimed against an attack on their last bits.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use fedmerge_common::digest::Digest;
use rand::rngs::ChaCha20Rng;
use rand::{Rng, SeedableRng};

use crate::enrolment::random_bytes;

/// Numbers that are drawn from one key, one after the other: the engine writes whole runs of so many.
const RUN: usize = 4096;
const KEY_BYTES: usize = 32;

/// The server's secret, from which all noise comes.
#[derive(Clone)]
pub struct NoiseKey([u8; KEY_BYTES]);

impl std::fmt::Debug for NoiseKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("NoiseKey(…)")
    }
}

impl NoiseKey {
    /// Reads the key, or makes it where there is none.
    ///
    /// # Errors
    /// When the file cannot be read or written, or holds no key.
    pub fn of(path: &Path) -> io::Result<Self> {
        match fs::read(path) {
            Ok(bytes) => {
                let key = bytes.try_into();
                key.map(Self)
                    .map_err(|_| io::Error::other("it does not hold 32 bytes"))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = random_bytes::<KEY_BYTES>().map_err(io::Error::other)?;
                write(path, &key)?;
                Ok(Self(key))
            }
            Err(error) => Err(error),
        }
    }

    /// The noise of one merge, which `words` tell from all others.
    #[must_use]
    pub fn noise(&self, words: &[u8]) -> Noise {
        let mut content = self.0.to_vec();
        content.extend(words);
        Noise(Digest::of(&content))
    }
}

/// Writes a secret that nobody else may read, durably.
fn write(path: &Path, key: &[u8]) -> io::Result<()> {
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(key)?;
    file.sync_all()
}

/// The noise of one merge.
#[derive(Clone, Copy)]
pub struct Noise(Digest);

impl std::fmt::Debug for Noise {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Noise(…)")
    }
}

impl Noise {
    /// Adds noise of this standard deviation to the values of a tensor from `offset` on. The same place gets the same noise.
    pub fn add(&self, tensor: usize, offset: usize, deviation: f64, values: &mut [f64]) {
        let mut at = offset;
        let mut rest = values;
        while !rest.is_empty() {
            let within = at % RUN;
            let (head, tail) = rest.split_at_mut((RUN - within).min(rest.len()));
            let mut normals = self.normals(tensor as u64, (at / RUN) as u64);
            for (value, normal) in head.iter_mut().zip(normals.by_ref().skip(within)) {
                *value += deviation * normal;
            }
            at += head.len();
            rest = tail;
        }
    }

    /// One number of this standard deviation that belongs to the merge as a whole.
    #[must_use]
    pub fn one(&self, deviation: f64) -> f64 {
        let normal = self.normals(u64::MAX, 0).next();
        deviation * normal.unwrap_or_default()
    }

    fn normals(&self, tensor: u64, run: u64) -> impl Iterator<Item = f64> + use<> {
        let mut content = self.0.as_bytes().to_vec();
        content.extend(tensor.to_le_bytes());
        content.extend(run.to_le_bytes());
        let mut random = ChaCha20Rng::from_seed(*Digest::of(&content).as_bytes());
        std::iter::repeat_with(move || pair(random.next_u64(), random.next_u64())).flatten()
    }
}

/// Two independent normal numbers of two words: Box and Muller.
fn pair(first: u64, second: u64) -> [f64; 2] {
    // In (0, 1]: a logarithm of 0 would be infinite.
    let radius = (-2.0 * libm::log(1.0 - unit(first))).sqrt();
    let (sine, cosine) = libm::sincos(std::f64::consts::TAU * unit(second));
    [radius * cosine, radius * sine]
}

/// 53 bits as a number in [0, 1).
#[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
fn unit(word: u64) -> f64 {
    (word >> 11) as f64 * (-53.0_f64).exp2()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use super::*;

    fn key(byte: u8) -> NoiseKey {
        NoiseKey([byte; KEY_BYTES])
    }

    fn drawn(noise: Noise, tensor: usize, offset: usize, count: usize) -> Vec<f64> {
        let mut values = vec![0.0; count];
        noise.add(tensor, offset, 1.0, &mut values);
        values
    }

    #[test]
    fn a_place_has_its_noise_however_values_are_cut() {
        let noise = key(1).noise(b"round 1");
        let whole = drawn(noise, 3, 0, 10_000);
        for (offset, count) in [(0, 1), (1, 5000), (4095, 2), (4096, 4096), (9999, 1)] {
            assert_eq!(drawn(noise, 3, offset, count), whole[offset..][..count]);
        }
    }

    #[test]
    fn another_key_merge_or_tensor_has_other_noise() {
        let noise = key(1).noise(b"round 1");
        let first = drawn(noise, 0, 0, 4);
        assert_ne!(first, drawn(key(2).noise(b"round 1"), 0, 0, 4));
        assert_ne!(first, drawn(key(1).noise(b"round 2"), 0, 0, 4));
        assert_ne!(first, drawn(noise, 1, 0, 4));
        assert_ne!(first[..1], [noise.one(1.0)]);
    }

    #[test]
    fn the_noise_is_normal() {
        let count = 200_000;
        let values = drawn(key(1).noise(b"round 1"), 0, 0, count);
        let share = |within: f64| {
            let inside = values.iter().filter(|value| value.abs() <= within);
            inside.count() as f64 / count as f64
        };
        let mean = values.iter().sum::<f64>() / count as f64;
        let variance = values.iter().map(|value| value * value).sum::<f64>() / count as f64;
        assert!(mean.abs() < 0.01, "{mean}");
        assert!((variance - 1.0).abs() < 0.015, "{variance}");
        for (within, expected) in [(1.0, 0.682_689), (2.0, 0.954_500), (3.0, 0.997_300)] {
            assert!((share(within) - expected).abs() < 0.004, "{within}");
        }
    }

    #[test]
    fn a_key_is_made_once_and_read_by_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("noise.key");
        let made = NoiseKey::of(&path).unwrap();
        let read = NoiseKey::of(&path).unwrap();
        assert_eq!(made.0, read.0);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(&path, b"short").unwrap();
        assert!(NoiseKey::of(&path).is_err());
    }
}
