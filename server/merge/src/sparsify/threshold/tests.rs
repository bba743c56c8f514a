//! Holds the search against a full sort, on data and samples made to mislead it.

use super::*;
use crate::kernel::Element;
use half::bf16;

/// Any numbers: the generator of chance, which is tested by itself.
pub(in crate::sparsify) fn words(seed: u64, len: usize) -> Vec<u32> {
    let mut words = vec![0; len];
    crate::noise::Stream::of(seed, 0, 0).fill(0, &mut words);
    words
}

/// Bell-shaped numbers: the sum of four uniform ones.
pub(in crate::sparsify) fn bell(seed: u64, len: usize) -> Vec<f32> {
    let words = words(seed, 4 * len);
    let unit = |&word: &u32| f64::from(word) / 4_294_967_296.0 - 0.5;
    words
        .chunks(4)
        .map(|four| f32::nearest(four.iter().map(unit).sum::<f64>() * 0.01))
        .collect()
}

fn expected<T: Magnitude>(values: &[T], kept: Kept) -> Bounds {
    let mut keys: Vec<u32> = values.iter().map(|value| value.sent_magnitude()).collect();
    keys.sort_unstable_by(|a, b| b.cmp(a));
    let last = kept.last < values.len() as u64;
    Bounds {
        low: if last { keys[index(kept.last - 1)] } else { 0 },
        high: if kept.first > 1 {
            keys[index(kept.first - 1)]
        } else {
            u32::MAX
        },
    }
}

/// The bounds, and how many passes they took, with any sample and any division into blocks.
fn found<T: Magnitude>(
    search: &mut Search<T>,
    values: &[T],
    kept: Kept,
    sample: &[T],
    block: usize,
) -> (Bounds, u32) {
    search.begin(values.len() as u64, kept);
    for run in sample.chunks(64) {
        search.sample(run);
    }
    let mut passes = 0;
    while search.next_pass() {
        passes += 1;
        for block in values.chunks(block) {
            search.count(block, &[]);
        }
    }
    (search.bounds(), passes)
}

fn check<T: Magnitude>(name: &str, search: &mut Search<T>, values: &[T]) {
    let len = values.len() as u64;
    let samples: [&[T]; 4] = [
        &[],
        &values[..values.len().min(100)],
        &values[values.len() * 9 / 10..],
        values,
    ];
    for (first, last) in [
        (1, 1),
        (1, len / 5 + 1),
        (1, len),
        (len / 100 + 1, len / 2 + 1),
        (len, len),
        (len / 3 + 1, len / 3 + 1),
    ] {
        let kept = Kept { first, last };
        let expected = expected(values, kept);
        assert_eq!(search.of_slice(values, kept), expected, "{name} {kept:?}");
        for sample in samples {
            let (bounds, passes) = found(search, values, kept, sample, 5000);
            assert_eq!(bounds, expected, "{name} {kept:?}");
            assert!(passes <= 3, "{name} {kept:?}");
        }
    }
}

type Make = fn(usize, u32) -> f32;

/// Data made to be hard, each as a function of an index and any bits.
fn cases() -> [(&'static str, Make); 11] {
    [
        ("all equal", |_, _| -1.5),
        ("all zero", |index, _| [0.0, -0.0][index % 2]),
        ("two values", |index, _| [1.0, -2.0][index % 2]),
        ("mostly zero", |_, word| {
            let is_zero = word % 10 > 0;
            if is_zero { 0.0 } else { one_to_two(word) }
        }),
        ("denormals", |_, word| f32::from_bits(word & 0x807f_ffff)),
        ("any bits, NaN too", |_, word| f32::from_bits(word)),
        ("half infinite", |index, word| {
            [f32::INFINITY, f32::from_bits(word >> 3)][index % 2]
        }),
        ("half not sent", |index, word| {
            [0.0, one_to_two(word)][index % 2]
        }),
        ("ascending", |index, _| {
            f32::from_bits(u32::try_from(index).expect("small") * 30_000)
        }),
        ("one outlier", |index, _| [1e-30, 9.0][index / 69_999 % 2]),
        ("a loud head", |index, word| {
            let is_head = index < 10_000;
            if is_head { 1e6 } else { one_to_two(word) }
        }),
    ]
}

fn one_to_two(word: u32) -> f32 {
    f32::from_bits(0x3f80_0000 | word >> 9)
}

#[test]
fn thresholds_are_those_of_a_full_sort_whatever_the_data_and_the_sample() {
    let len = 70_001;
    let mut bell = bell(2, len);
    let mut search = Search::new();
    check("bell", &mut search, &bell);
    bell.sort_unstable_by(f32::total_cmp);
    check("bell in order", &mut search, &bell);
    for (name, make) in cases() {
        let words = (0..).zip(words(1, len));
        let values: Vec<f32> = words.map(|(index, word)| make(index, word)).collect();
        check(name, &mut search, &values);
        let narrow: Vec<bf16> = values.iter().copied().map(bf16::from_f32).collect();
        check(name, &mut Search::new(), &narrow);
    }
}

#[test]
fn thresholds_of_the_shortest_scopes_are_those_of_a_full_sort() {
    let mut search = Search::new();
    for len in 1..=5 {
        for seed in 0..20 {
            let values: Vec<f32> = words(seed, len)
                .iter()
                .map(|&word| f32::from_bits(word & 0xc000_0001))
                .collect();
            check("short", &mut search, &values);
        }
    }
    let none = Kept { first: 1, last: 1 };
    assert_eq!(search.of_slice(&[], none), Bounds::ALL);
}

#[test]
fn scopes_whose_brackets_overflow_the_room_are_counted_in_bins() {
    let len = 1_500_000;
    let any: Vec<f32> = words(5, len).iter().copied().map(f32::from_bits).collect();
    let steps: Vec<f32> = bell(6, len)
        .iter()
        .map(|value| f32::from_bits(value.to_bits() & 0xffff_0000))
        .collect();
    let mut search = Search::new();
    for values in [any, steps, bell(7, len)] {
        for kept in [
            Kept {
                first: 1,
                last: 300_000,
            },
            Kept {
                first: 15_001,
                last: 900_000,
            },
        ] {
            let expected = expected(&values, kept);
            for sample in [
                &[][..],
                &[0.0; 64],
                &[f32::MAX; 64],
                &values[..64],
                &[-0.0, f32::MAX],
            ] {
                let (bounds, passes) = found(&mut search, &values, kept, sample, 65_536);
                assert_eq!(bounds, expected);
                assert!(passes <= 3);
            }
        }
    }
}

#[test]
fn a_sample_that_promises_too_few_values_inside_costs_passes_and_no_truth() {
    let values = bell(8, 1_500_000);
    let kept = Kept {
        first: 1,
        last: 750_000,
    };
    // Half of the sample is too large, half too small, and the few in between span all values.
    let sample: Vec<f32> = words(9, MOST_SAMPLED)
        .iter()
        .zip(&values)
        .map(|(&word, &value)| match f64::from(word) / 4_294_967_296.0 {
            share if share < 0.496 => f32::MAX,
            share if share < 0.504 => value,
            _ => 0.0,
        })
        .collect();
    let mut search = Search::new();
    let (bounds, passes) = found(&mut search, &values, kept, &sample, 65_536);
    assert_eq!(bounds, expected(&values, kept));
    assert_eq!(passes, 3);
}

#[test]
fn a_fair_sample_makes_one_pass_suffice() {
    let mut search = Search::new();
    for (seed, len) in [(10, 5000), (11, 70_001), (12, 1_000_000)] {
        let values = bell(seed, len);
        for share in [2, 5, 10, 100] {
            let kept = Kept {
                first: 1,
                last: len as u64 / share,
            };
            search.begin(len as u64, kept);
            for run in sample_runs(len as u64) {
                search.sample(&values[index(run.start)..index(run.end)]);
            }
            assert!(search.next_pass());
            search.count(&values, &[]);
            assert!(!search.next_pass(), "{len} / {share}");
        }
    }
}

#[test]
fn runs_of_a_sample_are_disjoint_ascend_and_fit_the_scope_and_the_room() {
    for values in [0, 1, 4096, 4097, 100_000, 1 << 27, 1 << 40, u64::MAX] {
        let mut end = 0;
        let mut sampled = 0;
        for run in sample_runs(values) {
            assert!(end <= run.start && run.end <= values);
            sampled += run.end - run.start;
            end = run.end;
        }
        assert!(sampled <= MOST_SAMPLED as u64);
        assert!(sampled == 0 || end > values / 10 * 9);
    }
}

fn index(place: u64) -> usize {
    usize::try_from(place).expect("a place in a slice")
}
