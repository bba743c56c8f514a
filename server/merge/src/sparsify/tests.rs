//! Holds the sparsifiers against the definitions, naively, and chance against its laws.
#![expect(clippy::cast_precision_loss, reason = "small counts in tests")]

use super::threshold::tests::{bell, words};
use super::*;
use crate::kernel::{ABSENT, Element};
use crate::noise::Stream;
use crate::recipe::{Method, Scope};
use half::bf16;

const AT: Place = Place {
    client: 3,
    tensor: 5,
    offset: 0,
};

fn sparsifier(rule: SparsifyRule, rescale: Rescale) -> Sparsifier {
    let recipe = Recipe {
        sparsify: Some(Sparsify {
            rule,
            scope: Scope::Tensor,
            rescale,
        }),
        seed: 7,
        ..Recipe::of(Method::Mean)
    };
    Sparsifier::of(&recipe).expect("something is dropped")
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Applies a rule to a tensor in parts of whole rows.
fn applied(sparsifier: Sparsifier, values: &[f32], at: Place, row: usize, rows: usize) -> Vec<f32> {
    let mut values = values.to_vec();
    let len = values.len() as u64;
    let bounds = sparsifier
        .kept(len)
        .map_or(Bounds::ALL, |kept| Search::new().of_slice(&values, kept));
    let mut ranker = Ranker::new(row);
    let mut at = at;
    for part in values.chunks_mut(row * rows) {
        let values = part.to_vec();
        sparsifier.apply((&values, part), at, 0.0, bounds, &mut ranker);
        at.offset += part.len() as u64;
    }
    values
}

fn share_kept(values: &[f32]) -> f64 {
    let kept = values.iter().filter(|value| value.abs() > 0.0).count();
    kept as f64 / values.len() as f64
}

/// The chance of each coordinate, one by one.
fn draw(at: Place, index: usize) -> f64 {
    let mut word = [0];
    Stream::of(7, at.client, at.tensor).fill(at.offset + index as u64, &mut word);
    f64::from(word[0]) / 4_294_967_296.0
}

#[test]
fn trim_keeps_the_largest_magnitudes_with_ties_and_leaves_the_absent_absent() {
    let trim = sparsifier(SparsifyRule::Trim { density: 0.4 }, Rescale::Nothing);
    let values = [3.0, -1.0, ABSENT, 2.0, -2.0, 0.0, 1.0, -0.0, 2.0, 0.5];
    let kept = [3.0, 0.0, ABSENT, 2.0, -2.0, 0.0, 0.0, 0.0, 2.0, 0.0];
    assert_eq!(bits(&applied(trim, &values, AT, 10, 1)), bits(&kept));
    let one = sparsifier(SparsifyRule::Trim { density: 0.01 }, Rescale::Nothing);
    assert_eq!(bits(&applied(one, &[0.5], AT, 1, 1)), bits(&[0.5]));
    assert_eq!(
        bits(&applied(one, &[0.0, 0.0], AT, 2, 1)),
        bits(&[0.0, 0.0])
    );
}

#[test]
fn what_is_dropped_before_a_rule_that_ranks_values_is_absent() {
    let trim = sparsifier(SparsifyRule::Trim { density: 0.5 }, Rescale::Nothing);
    let mut values = [4.0, -1.0];
    let bounds = Search::new().of_slice(&values, trim.kept(2).expect("ranks"));
    trim.apply(
        (&values.clone(), &mut values),
        AT,
        ABSENT,
        bounds,
        &mut Ranker::default(),
    );
    assert_eq!(bits(&values), bits(&[4.0, ABSENT]));
    let mut narrow = [4.0, -1.0, 2.0].map(bf16::from_f32);
    let bounds = Search::new().of_slice(&narrow, trim.kept(3).expect("ranks"));
    let absent = bf16::of_key(bf16::ABSENT_KEY);
    trim.apply(
        (&narrow.clone(), &mut narrow),
        AT,
        absent,
        bounds,
        &mut Ranker::default(),
    );
    assert!(narrow[1].is_absent() && narrow[2].is_absent() && !narrow[0].is_absent());
}

#[test]
fn breadcrumbs_drops_outliers_and_noise_as_a_sort_would() {
    for (density, gamma, len) in [(0.5, 0.1, 1000), (0.95, 0.1, 1000), (0.5, 0.001, 100)] {
        let rule = SparsifyRule::Breadcrumbs { density, gamma };
        let breadcrumbs = sparsifier(rule, Rescale::Nothing);
        let values = bell(1, len);
        let mut order: Vec<usize> = (0..len).collect();
        order.sort_by(|&a, &b| values[b].abs().total_cmp(&values[a].abs()));
        let kept = breadcrumbs.kept(len as u64).expect("ranks");
        let mut expected = vec![0.0; len];
        for (&index, rank) in order.iter().zip(1..) {
            if kept.first <= rank && rank <= kept.last {
                expected[index] = values[index];
            }
        }
        assert_eq!(
            bits(&applied(breadcrumbs, &values, AT, len, 1)),
            bits(&expected)
        );
    }
}

#[test]
fn dare_keeps_what_the_number_of_each_coordinate_says() {
    let values = bell(2, 1000);
    let at = Place { offset: 37, ..AT };
    for (rescale, factor) in [(Rescale::Nothing, 1.0), (Rescale::Probability, 1.0 / 0.3)] {
        let dare = sparsifier(SparsifyRule::Dare { density: 0.3 }, rescale);
        let expected: Vec<f32> = values
            .iter()
            .enumerate()
            .map(|(index, &value)| {
                if draw(at, index) < 0.3 {
                    f32::nearest(f64::from(value) * factor)
                } else {
                    0.0
                }
            })
            .collect();
        assert_eq!(bits(&applied(dare, &values, at, 1000, 1)), bits(&expected));
    }
    let dare = sparsifier(SparsifyRule::Dare { density: 0.3 }, Rescale::Probability);
    let absent = applied(dare, &[ABSENT; 100], AT, 100, 1);
    assert!(absent.iter().all(|value| value.is_absent()));
}

#[test]
fn dare_keeps_its_share_independently_for_each_client_and_tensor() {
    let ones = vec![1.0; 100_000];
    let dare = sparsifier(SparsifyRule::Dare { density: 0.3 }, Rescale::Probability);
    let of = |client, tensor| {
        applied(
            dare,
            &ones,
            Place {
                client,
                tensor,
                offset: 0,
            },
            4096,
            1,
        )
    };
    let one = of(3, 5);
    assert!((share_kept(&one) - 0.3).abs() < 0.006);
    let mean = one.iter().map(|&value| f64::from(value)).sum::<f64>() / 100_000.0;
    assert!((mean - 1.0).abs() < 0.02);
    for other in [of(4, 5), of(3, 6), of(5, 3)] {
        let both: Vec<f32> = one.iter().zip(&other).map(|(a, b)| a * b).collect();
        assert!((share_kept(&both) - 0.09).abs() < 0.004);
    }
    assert_eq!(bits(&one), bits(&of(3, 5)));
}

#[test]
fn della_keeps_by_rank_within_the_row() {
    let (row, rows) = (50, 20);
    let values: Vec<f32> = bell(4, row * rows)
        .iter()
        .map(|value| (value * 300.0).round())
        .collect();
    let rule = SparsifyRule::Della {
        density: 0.5,
        epsilon: 0.3,
    };
    let mut expected = vec![0.0; values.len()];
    for start in (0..values.len()).step_by(row) {
        let mut order: Vec<usize> = (start..start + row).collect();
        // A stable sort: of equal magnitudes the earlier counts as smaller.
        order.sort_by(|&a, &b| values[a].abs().total_cmp(&values[b].abs()));
        for (&index, rank) in order.iter().zip(0_u8..) {
            let probability = (0.5 - 0.3) + 2.0 * 0.3 * (f64::from(rank) / 49.0);
            if draw(AT, index) < probability {
                expected[index] = f32::nearest(f64::from(values[index]) * (1.0 / probability));
            }
        }
    }
    let della = sparsifier(rule, Rescale::Probability);
    assert_eq!(
        bits(&applied(della, &values, AT, row, rows)),
        bits(&expected)
    );
}

#[test]
fn della_keeps_its_share_and_more_of_what_is_larger() {
    let row = 100;
    let values: Vec<f32> = (0..200_000_u32)
        .map(|index| 1.0 + f32::from_bits(0x3f80_0000 + index % 100))
        .collect();
    let rule = SparsifyRule::Della {
        density: 0.4,
        epsilon: 0.2,
    };
    let kept = applied(sparsifier(rule, Rescale::Nothing), &values, AT, row, 10);
    assert!((share_kept(&kept) - 0.4).abs() < 0.006);
    for (part, expected) in [(0..10, 0.218), (45..55, 0.4), (90..100, 0.582)] {
        let part: Vec<f32> = kept
            .chunks(row)
            .flat_map(|row| row[part.clone()].to_vec())
            .collect();
        assert!((share_kept(&part) - expected).abs() < 0.015, "{expected}");
    }
}

#[test]
fn della_of_one_value_a_row_keeps_the_mean_probability() {
    let rule = SparsifyRule::Della {
        density: 0.4,
        epsilon: 0.2,
    };
    let kept = applied(
        sparsifier(rule, Rescale::Probability),
        &[1.0; 20_000],
        AT,
        1,
        1000,
    );
    assert!((share_kept(&kept) - 0.4).abs() < 0.02);
    assert!(kept.iter().all(|value| value.is_finite()));
}

#[test]
fn where_a_tensor_is_divided_changes_no_bit() {
    let row = 64;
    let values: Vec<f32> = words(9, row * 200)
        .iter()
        .map(|&word| f32::from_bits(word))
        .collect();
    let values: Vec<f32> = values
        .iter()
        .map(|value| if value.is_nan() { ABSENT } else { *value })
        .collect();
    for rule in [
        SparsifyRule::Trim { density: 0.2 },
        SparsifyRule::Breadcrumbs {
            density: 0.3,
            gamma: 0.05,
        },
        SparsifyRule::Dare { density: 0.2 },
        SparsifyRule::Della {
            density: 0.3,
            epsilon: 0.1,
        },
    ] {
        let sparsifier = sparsifier(rule, Rescale::Nothing);
        let whole = applied(sparsifier, &values, AT, row, 200);
        for rows in [1, 3, 64] {
            assert_eq!(
                bits(&whole),
                bits(&applied(sparsifier, &values, AT, row, rows))
            );
        }
    }
}

#[test]
fn a_density_of_one_is_no_sparsifier() {
    let recipe = Recipe {
        sparsify: Some(Sparsify {
            rule: SparsifyRule::Dare { density: 1.0 },
            scope: Scope::Model,
            rescale: Rescale::Mass,
        }),
        ..Recipe::of(Method::Mean)
    };
    assert_eq!(Sparsifier::of(&recipe), None);
    assert_eq!(Sparsifier::of(&Recipe::of(Method::Mean)), None);
}
