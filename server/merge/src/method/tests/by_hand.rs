//! Numbers worked out on paper.

use super::combined;
use crate::kernel::{ABSENT, Element, Rows};
use crate::method::{Rule, sce};
use crate::recipe::{Divide, Elect, Even, Method, Ties};
use crate::sparsify::Bounds;

fn of(method: Method, weights: &[f64], rows: &[&[f32]]) -> Vec<f64> {
    let rows: Vec<Vec<f32>> = rows.iter().map(|row| row.to_vec()).collect();
    combined(&Rule::of(method, weights, rows.len()), &rows)
}

/// Three task vectors of which two of five values are kept, and a third where it ties.
const TRIMMED: [&[f32]; 3] = [
    &[5.0, 0.0, 2.0, 0.0, 0.0],
    &[-3.0, 4.0, 0.0, 0.0, 0.0],
    &[0.0, -6.0, 3.0, 0.0, 3.0],
];

const PAPER: Ties = Ties {
    elect: Elect::Mass,
    even: Even::Nothing,
    divide: Divide::Weights,
};

#[test]
fn ties_elects_and_averages_as_worked_out_by_hand() {
    let out = |elect| {
        of(
            Method::Ties(Ties { elect, ..PAPER }),
            &[1.0, 1.0, 2.0],
            &TRIMMED,
        )
    };
    assert_eq!(out(Elect::Mass), [5.0, -6.0, 8.0 / 3.0, 0.0, 3.0]);
    assert_eq!(out(Elect::Count), [0.0, 0.0, 8.0 / 3.0, 0.0, 3.0]);
}

#[test]
fn ties_as_in_mergekit_lets_an_even_poll_be_positive_and_a_negative_weight_turn_a_vote() {
    let mergekit = Ties {
        even: Even::Positive,
        ..PAPER
    };
    // 3 and -3 weigh the same: positive wins.
    assert_eq!(
        of(Method::Ties(mergekit), &[1.0, 1.0], &[&[3.0], &[-3.0]]),
        [3.0]
    );
    assert_eq!(
        of(Method::Ties(PAPER), &[1.0, 1.0], &[&[3.0], &[-3.0]]),
        [0.0]
    );
    // d = (2, -4 · -1 = 4, -3): the sign is +, 2 and 4 agree; without normalize they are added.
    let sum = Ties {
        divide: Divide::Nothing,
        ..mergekit
    };
    let rows: [&[f32]; 3] = [&[2.0], &[-4.0], &[-3.0]];
    assert_eq!(of(Method::Ties(sum), &[1.0, -1.0, 1.0], &rows), [6.0]);
    // Weights that cancel divide by 1.
    assert_eq!(of(Method::Ties(mergekit), &[1.0, -1.0, 1.0], &rows), [6.0]);
}

#[test]
fn ties_as_in_peft_elects_by_unweighted_values_and_divides_weighted_ones_by_their_number() {
    let peft = Ties {
        elect: Elect::PlainMass,
        even: Even::Positive,
        divide: Divide::Count,
    };
    // 5 - 4 > 0 though 5 · 1 - 4 · 2 < 0: the first alone agrees; then both of (0.5 · 2, 1.5 · 4) do.
    let rows: [&[f32]; 2] = [&[5.0, 2.0, 0.0], &[-4.0, 4.0, 0.0]];
    assert_eq!(of(Method::Ties(peft), &[1.0, 2.0], &rows), [5.0, 5.0, 0.0]);
    // A negative weight subtracts, and does not turn the vote.
    assert_eq!(
        of(Method::Ties(peft), &[1.0, -1.0], &rows),
        [5.0, -1.0, 0.0]
    );
}

#[test]
fn ties_within_bounds_is_ties_of_what_they_leave() {
    let rows: Vec<Vec<f32>> = (0..7_u32)
        .map(|row| {
            let value = |at: u32| (f64::from((at * 37 + row * 101) % 199) - 99.0) / 16.0;
            (0..301).map(|at| f32::nearest(value(at))).collect()
        })
        .collect();
    let bounds: Vec<Bounds> = (1..=7_u8)
        .map(|row| Bounds {
            low: (f32::from(row) / 2.0).to_bits(),
            high: if row == 3 { 4_f32.to_bits() } else { u32::MAX },
        })
        .collect();
    let filtered: Vec<Vec<f32>> = rows
        .iter()
        .zip(&bounds)
        .map(|(row, bounds)| {
            let mut row = row.clone();
            bounds.filter(&mut row, 0.0);
            row
        })
        .collect();
    let weights = [1.0, 0.5, 2.0, -1.0, 1.0, 3.0, 0.25];
    for elect in [Elect::Mass, Elect::PlainMass, Elect::Count] {
        let rule = Rule::of(Method::Ties(Ties { elect, ..PAPER }), &weights, 7);
        let merged = combined(&rule.clone().within(bounds.clone()), &rows);
        assert_eq!(merged, combined(&rule, &filtered), "{elect:?}");
    }
}

#[test]
fn the_mean_around_the_median_prefers_the_lower_of_two_runs_that_are_as_near() {
    // The median is 3; 1 and 5 are as far.
    let rows: [&[f32]; 3] = [&[5.0], &[1.0], &[3.0]];
    assert_eq!(of(Method::Meamed { tolerate: 1 }, &[], &rows), [2.0]);
    // The trimmed mean of 0 1 2 9 is 1.5, from which 9 is farthest.
    let rows: [&[f32]; 4] = [&[9.0], &[1.0], &[0.0], &[2.0]];
    assert_eq!(of(Method::Phocas { tolerate: 1 }, &[], &rows), [1.0]);
}

#[test]
fn an_order_statistic_needs_more_supporters_than_clients_that_may_lie() {
    let rows: [&[f32]; 4] = [
        &[1.0, 1.0, 7.0],
        &[ABSENT, 2.0, ABSENT],
        &[4.0, 9.0, ABSENT],
        &[ABSENT, ABSENT, ABSENT],
    ];
    // Two supporters, three of whom one is dropped at either end, and one.
    for method in [
        Method::Median { tolerate: 1 },
        Method::TrimmedMean { tolerate: 1 },
    ] {
        assert_eq!(of(method, &[], &rows), [2.5, 2.0, 0.0], "{method:?}");
    }
    assert_eq!(
        of(Method::TrimmedMean { tolerate: 0 }, &[], &rows),
        [2.5, 4.0, 7.0]
    );
    // Of 1 2 9 the farthest from the median.
    assert_eq!(
        of(Method::Meamed { tolerate: 1 }, &[], &rows),
        [2.5, 1.5, 0.0]
    );
}

#[test]
fn sparse_rules_are_as_worked_out_by_hand() {
    let rows: [&[f32]; 3] = [&[2.0, 0.0, -4.0], &[4.0, 0.0, 4.0], &[0.0, 5.0, 1.0]];
    assert_eq!(
        of(Method::Ram { epsilon: 1.0 }, &[], &rows),
        [3.0, 5.0, 0.0]
    );
    assert_eq!(of(Method::Magmax, &[], &rows), [4.0, 5.0, -4.0]);
    assert_eq!(of(Method::SignMajority, &[], &rows), [1.0, 1.0, 1.0]);
    // Sums 6 5 1; who finds |x| > 0.6 |Σ − x|: 4 of 6 · 5 alone · -4 and 4.
    let consensus = |support| Method::Consensus {
        threshold: 0.6,
        support,
    };
    assert_eq!(of(consensus(1), &[], &rows), [6.0, 5.0, 1.0]);
    assert_eq!(of(consensus(2), &[], &rows), [0.0, 0.0, 1.0]);
}

#[test]
fn sce_drops_what_varies_little_erases_minority_signs_and_weighs_the_rest() {
    let rows: Vec<Vec<f32>> = vec![vec![1.0, 2.0, 3.0], vec![1.0, 4.0, -3.0]];
    let slices: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
    let mut variances = [0.0; 3];
    sce::variances(Rows::new(&slices, 3), &mut variances);
    assert_eq!(variances.to_vec(), [0.0, 1.0, 9.0]);
    let rule = |threshold: f32| Rule::Sce {
        weights: vec![0.25, 0.75],
        threshold: Some(threshold.to_bits()),
    };
    // An even sum is positive: 3 stays and -3 goes.
    assert_eq!(combined(&rule(0.0), &rows), [1.0, 3.5, 3.0]);
    assert_eq!(combined(&rule(1.0), &rows), [0.0, 3.5, 3.0]);
    assert_eq!(
        combined(&rule(f32::from_bits(1.0_f32.to_bits() + 1)), &rows),
        [0.0, 0.0, 3.0]
    );
    let nothing = Rule::sce(&[1.0, 3.0], None);
    assert_eq!(combined(&nothing, &rows), [0.0; 3]);
    // A fourth and three fourths of the energy.
    assert_eq!(
        combined(&Rule::sce(&[1.0, 3.0], Some(0)), &rows),
        [1.0, 3.5, 3.0]
    );
    assert_eq!(
        combined(&Rule::sce(&[0.0, 0.0], Some(0)), &rows),
        [1.0, 3.0, 3.0]
    );
}
