//! Which form makes a run shortest, told from a sample of its bytes.

use super::planes::{Form, split};

/// Stretches of a run that are looked at, evenly spread.
const STRETCHES: usize = 4;
/// Bytes of each, whole words of every length.
const STRETCH_BYTES: usize = 1024;
/// Of fewer words, chance looks like order.
const LEAST_WORDS: usize = 512;
/// A form that makes a run longer than this part is not tried.
const WORTHWHILE: f32 = 0.93;
/// A plane that needs more than this part of its bytes is not worth the time.
const CHANCE: f32 = 0.97;
/// How much more a form must save for each doubling of its words: the sample of each plane is half as long then, and tells less.
const CAUTION: f32 = 0.02;

/// The form whose planes need the fewest bits; none where no form saves enough.
pub(super) fn best_form(run: &[u8], older: Option<&[u8]>) -> Option<Form> {
    let older_sample = older.map(sample);
    let sample = sample(run);
    let kinds = if older.is_some() {
        &[false, true][..]
    } else {
        &[false]
    };
    let forms = kinds.iter().flat_map(|&is_distance| {
        (0..4).map(move |width_log2| Form {
            width_log2,
            is_distance,
        })
    });
    let forms = forms.filter(|form| sample.len() / form.width() >= LEAST_WORDS);
    let mut planes = vec![0; sample.len()];
    let costs = forms.map(|form| {
        split(&sample, older_sample.as_deref(), form, &mut planes);
        let words = sample.len() / form.width();
        let bits: f32 = planes.chunks_exact(words).map(entropy_bits).sum();
        (bits * (1.0 + CAUTION * f32::from(form.width_log2)), form)
    });
    let (bits, form) = costs.min_by(|(one, _), (two, _)| one.total_cmp(two))?;
    (bits < WORTHWHILE * 8.0 * sample.len() as f32).then_some(form)
}

/// Whether nothing can be saved of a plane.
pub(super) fn is_chance(plane: &[u8]) -> bool {
    let sample = sample(plane);
    entropy_bits(&sample) > CHANCE * 8.0 * sample.len() as f32
}

/// Stretches of the run, together a multiple of 8 bytes.
fn sample(run: &[u8]) -> Vec<u8> {
    let most_bytes = STRETCHES * STRETCH_BYTES;
    if run.len() <= most_bytes {
        return run[..run.len() / 8 * 8].to_vec();
    }
    let step = (run.len() - STRETCH_BYTES) / (STRETCHES - 1) / 8 * 8;
    let begins = (0..STRETCHES).map(|stretch| stretch * step);
    begins
        .flat_map(|begin| &run[begin..begin + STRETCH_BYTES])
        .copied()
        .collect()
}

/// Bits that a code for single bytes would need: Shannon's entropy, and what a small sample hides of it (Miller, "Note on the bias of
/// information estimates", 1955).
fn entropy_bits(plane: &[u8]) -> f32 {
    let mut counts = [0_u16; 256];
    for byte in plane {
        counts[usize::from(*byte)] += 1;
    }
    let all = plane.len() as f32;
    let found = counts.into_iter().filter(|&count| count > 0).map(f32::from);
    let (bits, kinds) = found.fold((0.0, 0.0), |(bits, kinds), count| {
        (bits + count * (all / count).log2(), kinds + 1.0)
    });
    bits + (kinds - 1.0) / 2.0 * std::f32::consts::LOG2_E
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use super::*;
    use crate::packing::tests::{floats, noise};

    #[test]
    fn words_have_the_length_of_the_values() {
        let singles: Vec<u8> = floats(1, 60_000)
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        assert_eq!(best_form(&singles, None).unwrap().width_log2, 2);
        let doubles = floats(1, 30_000).into_iter().map(f64::from);
        let doubles: Vec<u8> = doubles.flat_map(f64::to_le_bytes).collect();
        assert_eq!(best_form(&doubles, None).unwrap().width_log2, 3);
        let halves = floats(1, 60_000).into_iter().map(half::bf16::from_f32);
        let halves: Vec<u8> = halves.flat_map(half::bf16::to_le_bytes).collect();
        assert_eq!(best_form(&halves, None).unwrap().width_log2, 1);
    }

    #[test]
    fn an_older_version_is_of_use_when_it_resembles_the_run() {
        let values = floats(1, 60_000);
        let moved = values
            .iter()
            .zip(floats(2, 60_000))
            .map(|(value, step)| value + step * 1e-3);
        let bytes = |values: &mut dyn Iterator<Item = f32>| {
            values.flat_map(f32::to_le_bytes).collect::<Vec<u8>>()
        };
        let (older, run) = (
            bytes(&mut values.iter().copied()),
            bytes(&mut moved.into_iter()),
        );
        assert!(best_form(&run, Some(&older)).unwrap().is_distance);
        let other = bytes(&mut floats(3, 60_000).into_iter());
        assert!(!best_form(&run, Some(&other)).unwrap().is_distance);
    }

    #[test]
    fn what_is_chance_or_short_stands_as_it_is() {
        for bytes in [0, 1, 511, 512, 1_024, 4_000, 4_097, 262_144] {
            assert_eq!(
                best_form(&noise(1, bytes), Some(&noise(2, bytes))),
                None,
                "{bytes}"
            );
        }
        assert_eq!(best_form(&[0; 511], None), None);
    }
}
