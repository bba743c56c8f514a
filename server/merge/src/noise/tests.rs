//! Holds the generator against its published vectors, and its streams against what independent uniform numbers do.
#![expect(clippy::cast_precision_loss, reason = "small counts in tests")]

use super::*;

const COUNT: usize = 1 << 18;

fn words(seed: u64, client: u64, tensor: u64) -> Vec<u32> {
    let mut words = vec![0; COUNT];
    Stream::of(seed, client, tensor).fill(0, &mut words);
    words
}

fn unit(word: u32) -> f64 {
    (f64::from(word) + 0.5) / 4_294_967_296.0
}

/// The correlation of two runs of uniform numbers, in standard errors.
fn correlation(a: &[u32], b: &[u32]) -> f64 {
    let sum: f64 = a
        .iter()
        .zip(b)
        .map(|(&a, &b)| (unit(a) - 0.5) * (unit(b) - 0.5))
        .sum();
    sum * 12.0 / (a.len().min(b.len()) as f64).sqrt()
}

#[test]
fn the_generator_gives_the_published_vectors_of_philox() {
    let vectors = [
        (
            [0; 4],
            [0; 2],
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8],
        ),
        (
            [u32::MAX; 4],
            [u32::MAX; 2],
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd],
        ),
        (
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0],
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
        ),
    ];
    for (counter, key, expected) in vectors {
        let words = philox(counter.map(|word| [word; LANES]), key);
        assert_eq!(words, expected.map(|word: u32| [word; LANES]));
    }
}

#[test]
fn numbers_do_not_depend_on_where_a_run_begins_or_ends() {
    let stream = Stream::of(1, 2, 3);
    let mut whole = [0; 1000];
    stream.fill(0, &mut whole);
    for (first, len) in [(0, 1), (1, 63), (63, 2), (64, 64), (100, 900), (999, 1)] {
        let mut part = vec![0; len];
        stream.fill(first as u64, &mut part);
        assert_eq!(part, whole[first..][..len]);
    }
}

#[test]
fn numbers_far_along_a_tensor_differ_from_the_first_ones() {
    let stream = Stream::of(1, 2, 3);
    let [mut near, mut far] = [[0; GROUP]; 2];
    stream.fill(0, &mut near);
    stream.fill(1 << 36, &mut far);
    assert!(near.iter().zip(&far).all(|(near, far)| near != far));
}

#[test]
fn numbers_are_uniform_and_each_bit_is_even() {
    let words = words(7, 11, 13);
    let count = COUNT as f64;
    let mean = words.iter().copied().map(unit).sum::<f64>() / count;
    assert!((mean - 0.5).abs() < 4.0 / (12.0 * count).sqrt(), "{mean}");
    let variance = words
        .iter()
        .map(|&word| (unit(word) - 0.5).powi(2))
        .sum::<f64>()
        / count;
    assert!((variance * 12.0 - 1.0).abs() < 0.01, "{variance}");
    let mut bins = [0_u32; 256];
    for &word in &words {
        bins[(word >> 24) as usize] += 1;
    }
    let chi: f64 = bins
        .iter()
        .map(|&bin| (f64::from(bin) - count / 256.0).powi(2) / (count / 256.0))
        .sum();
    assert!((150.0..370.0).contains(&chi), "{chi}");
    for bit in 0..32 {
        let ones = words.iter().filter(|&&word| word >> bit & 1 == 1).count() as f64;
        assert!((ones - count / 2.0).abs() < 2.5 * count.sqrt(), "{bit}");
    }
}

#[test]
fn neighbours_and_other_streams_are_not_correlated() {
    let one = words(7, 11, 13);
    for lag in [1, 2, 15, 16, 17, 63, 64, 4096] {
        assert!(correlation(&one, &one[lag..]).abs() < 4.0, "{lag}");
    }
    for other in [(8, 11, 13), (7, 12, 13), (7, 11, 14), (7, 13, 11)] {
        let other = words(other.0, other.1, other.2);
        assert!(correlation(&one, &other).abs() < 4.0);
        assert!(correlation(&one, &other[1..]).abs() < 4.0);
    }
}

#[test]
fn one_bit_of_seed_client_or_tensor_changes_half_of_all_bits() {
    let base = words(7, 11, 13);
    let base = &base[..1024];
    let changed = |seed, client, tensor| -> f64 {
        let mut other = [0; 1024];
        Stream::of(seed, client, tensor).fill(0, &mut other);
        let bits: u32 = base
            .iter()
            .zip(&other)
            .map(|(a, b)| (a ^ b).count_ones())
            .sum();
        f64::from(bits) / 32_768.0
    };
    for bit in 0..64 {
        for share in [
            changed(7 ^ 1 << bit, 11, 13),
            changed(7, 11 ^ 1 << bit, 13),
            changed(7, 11, 13 ^ 1 << bit),
        ] {
            assert!((share - 0.5).abs() < 0.015, "{bit}: {share}");
        }
    }
}

#[test]
fn the_numbers_of_a_stream_never_change() {
    let mut words = [0; 66];
    Stream::of(1, 2, 3).fill(0, &mut words);
    let picked = [0, 1, 15, 16, 63, 64, 65].map(|index| words[index]);
    assert_eq!(
        picked,
        [
            0xca70_8f61,
            0x96b7_8fc8,
            0x88e6_7936,
            0x38a1_6920,
            0xfc2d_3851,
            0x714d_b341,
            0x3915_715e
        ]
    );
}

#[test]
fn a_hit_is_as_likely_as_it_should_be_and_never_impossible() {
    assert_eq!(last_hit(0.5), (1 << 31) - 1);
    assert_eq!(last_hit(1.0), u32::MAX);
    assert_eq!(last_hit(1.0 - f64::EPSILON), u32::MAX - 1);
    assert_eq!(last_hit(1e-300), 0);
}
