//! Every rule against a plain reference, coordinate by coordinate, and against numbers worked out by hand.

mod by_hand;
mod order;
mod reference;

use half::bf16;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};

use super::Rule;
use crate::kernel::dispatch::with_each;
use crate::kernel::{Element, Rows, Target};
use crate::recipe::{Divide, Elect, Even, Method, Neighbours, Ties};
use crate::sparsify::Magnitude;

/// What a rule makes of these rows, which all sets of vector instructions must agree on.
fn combined<T: Magnitude>(rule: &Rule, rows: &[Vec<T>]) -> Vec<f64> {
    let len = rows.first().map_or(0, Vec::len);
    let rows: Vec<&[T]> = rows.iter().map(Vec::as_slice).collect();
    let results = with_each(|| {
        let mut out = vec![f64::NAN; len];
        let mut workspace = rule.workspace(rows.len());
        rule.combine(
            Rows::new(&rows, len),
            &mut workspace,
            &mut Target::Row(&mut out),
        );
        out
    });
    for other in &results {
        assert!(
            is_same(&results[0], other),
            "vector instructions decide: {rule:?}"
        );
    }
    results.into_iter().next().unwrap_or_default()
}

/// Whether these are the same bits; all that is no number is the same.
fn is_same(one: &[f64], other: &[f64]) -> bool {
    let bits = |values: &[f64]| -> Vec<u64> {
        let canonical = |value: &f64| {
            if value.is_nan() {
                f64::NAN.to_bits()
            } else {
                value.to_bits()
            }
        };
        values.iter().map(canonical).collect()
    };
    bits(one) == bits(other)
}

/// All rules for so many rows.
fn methods(rows: usize) -> Vec<Method> {
    let mut methods = vec![
        Method::Mean,
        Method::TaskArithmetic { normalize: false },
        Method::SignMajority,
        Method::Ram { epsilon: 0.5 },
        Method::Magmax,
        Method::Consensus {
            threshold: 0.4,
            support: 2,
        },
        Method::Sce { density: 1.0 },
    ];
    methods.extend(ranking(rows));
    for elect in [Elect::Mass, Elect::PlainMass, Elect::Count] {
        for even in [Even::Nothing, Even::Positive] {
            for divide in [Divide::Weights, Divide::Count, Divide::Nothing] {
                methods.push(Method::Ties(Ties {
                    elect,
                    even,
                    divide,
                }));
            }
        }
    }
    methods
}

/// The rules that rank values.
fn ranking(rows: usize) -> Vec<Method> {
    let most = rows.saturating_sub(1) / 2;
    let mut tolerated = vec![0, 1, 2, 3, most / 2, most.saturating_sub(1), most];
    tolerated.retain(|&tolerate| tolerate <= most);
    tolerated.sort_unstable();
    tolerated.dedup();
    let mut methods = Vec::new();
    for tolerate in tolerated {
        methods.extend([
            Method::Median { tolerate },
            Method::TrimmedMean { tolerate },
            Method::Meamed { tolerate },
            Method::Phocas { tolerate },
        ]);
        if 2 * tolerate < rows {
            methods.push(Method::Bulyan {
                tolerate,
                neighbours: Neighbours::Paper,
            });
        }
    }
    methods
}

/// Values among which much is equal, small, huge or no number at all.
fn odd_values() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (-4_i8..=4).prop_map(f64::from),
        4 => -1e3..1e3_f64,
        1 => Just(-0.0),
        1 => Just(1e-40),
        1 => Just(-1e-40),
        1 => Just(3e38),
        1 => Just(-3e38),
        1 => Just(f64::INFINITY),
        1 => Just(f64::NEG_INFINITY),
        1 => Just(f64::NAN),
        1 => Just(-f64::NAN),
    ]
}

fn plain_values() -> impl Strategy<Value = f64> {
    prop_oneof![2 => (-4_i8..=4).prop_map(f64::from), 3 => -1e3..1e3_f64]
}

/// Rows of random values and how often one in so many is absent; 0 for never.
fn rows(
    values: impl Strategy<Value = f64>,
    count: impl Strategy<Value = usize>,
) -> impl Strategy<Value = Vec<Vec<f64>>> {
    let pool = proptest::collection::vec(values, 40..400);
    (pool, count, 1..150_usize, any::<u32>()).prop_map(|(pool, count, len, mut state)| {
        let mut draw = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            pool[(state >> 8) as usize % pool.len()]
        };
        (0..count)
            .map(|_| (0..len).map(|_| draw()).collect())
            .collect()
    })
}

fn counts() -> impl Strategy<Value = usize> {
    prop_oneof![8 => 1..=20_usize, 1 => Just(63), 1 => Just(64), 1 => Just(65), 1 => Just(100), 1 => Just(256), 1 => Just(257)]
}

fn narrowed<T: Element>(rows: &[Vec<f64>]) -> Vec<Vec<T>> {
    let narrow = |row: &Vec<f64>| row.iter().map(|&value| T::nearest(value)).collect();
    rows.iter().map(narrow).collect()
}

/// Marks values as absent: of every `one_in`, by client and coordinate.
fn thinned<T: Element>(mut rows: Vec<Vec<T>>, one_in: usize) -> Vec<Vec<T>> {
    for (client, row) in rows.iter_mut().enumerate() {
        for (at, value) in row.iter_mut().enumerate() {
            if (client * 7 + at * 5 + client * at).is_multiple_of(one_in) || at % 11 == 3 {
                *value = T::absent();
            }
        }
    }
    rows
}

fn weights(count: usize) -> Vec<f64> {
    (0_u8..10)
        .map(|weight| f64::from(weight) - 2.0)
        .cycle()
        .take(count)
        .collect()
}

/// Holds a rule against the reference; sums in another order may differ in their last digits.
fn check<T: Magnitude>(method: Method, rows: &[Vec<T>]) -> Result<(), TestCaseError> {
    let weights = match method.weight_use() {
        crate::recipe::WeightUse::Factors => weights(rows.len()),
        crate::recipe::WeightUse::Shares | crate::recipe::WeightUse::Ignored => weights(rows.len())
            .into_iter()
            .map(|weight| weight.abs() + 1.0)
            .collect(),
    };
    let rule = Rule::of(method, &weights, rows.len());
    let out = combined(&rule, rows);
    for (at, &value) in out.iter().enumerate() {
        let column: Vec<Option<f64>> = rows
            .iter()
            .map(|row| (!row[at].is_absent()).then(|| row[at].widen()))
            .collect();
        let expected = reference::of(method, &column, &weights);
        let largest = column
            .iter()
            .flatten()
            .fold(0.0_f64, |most, value| most.max(value.abs()));
        let is_close = (value - expected).abs() <= 1e-13 * largest * 100.0
            || value.to_bits() == expected.to_bits();
        prop_assert!(
            is_close || value.is_nan() && expected.is_nan(),
            "{:?} at {}: {} is not {} of {:?}",
            method,
            at,
            value,
            expected,
            column
        );
    }
    Ok(())
}

fn run<V: std::fmt::Debug>(
    cases: u32,
    strategy: &impl Strategy<Value = V>,
    test: impl Fn(V) -> Result<(), TestCaseError>,
) {
    let mut runner = TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    });
    match runner.run(strategy, test) {
        Ok(()) => {}
        // The column is in the reason; all rows would fill pages.
        Err(TestError::Fail(reason, _) | TestError::Abort(reason)) => panic!("{reason}"),
    }
}

#[test]
fn every_rule_agrees_with_the_reference_for_any_count_of_clients() {
    run(60, &rows(plain_values(), counts()), |rows| {
        for method in methods(rows.len()) {
            check::<f32>(method, &narrowed(&rows))?;
            check::<bf16>(method, &narrowed(&rows))?;
            check::<f64>(method, &rows)?;
        }
        Ok(())
    });
}

#[test]
fn rules_that_rank_leave_out_those_who_did_not_send_a_coordinate() {
    run(
        60,
        &(rows(plain_values(), counts()), 1..6_usize),
        |(rows, one_in)| {
            for method in ranking(rows.len()) {
                check::<f32>(method, &thinned(narrowed(&rows), one_in))?;
                check::<bf16>(method, &thinned(narrowed(&rows), one_in))?;
                check::<f64>(method, &thinned(narrowed(&rows), one_in))?;
            }
            Ok(())
        },
    );
}

#[test]
fn no_value_stops_a_rule_and_all_vector_instructions_agree_on_it() {
    run(
        60,
        &(rows(odd_values(), counts()), 1..6_usize),
        |(rows, one_in)| {
            for method in methods(rows.len()) {
                let rule = Rule::of(method, &weights(rows.len()), rows.len());
                combined::<f32>(&rule, &narrowed(&rows));
                combined::<bf16>(&rule, &narrowed(&rows));
                if method.ranks_values() {
                    combined::<f32>(&rule, &thinned(narrowed(&rows), one_in));
                    combined::<bf16>(&rule, &thinned(narrowed(&rows), one_in));
                }
            }
            Ok(())
        },
    );
}

#[test]
fn a_coordinate_does_not_depend_on_those_beside_it() {
    run(
        60,
        &(rows(odd_values(), counts()), 0..150_usize, 1..6_usize),
        |(rows, cut, one_in)| {
            let cut = cut.min(rows[0].len());
            for method in methods(rows.len()) {
                let mut rows = narrowed::<f32>(&rows);
                if method.ranks_values() {
                    rows = thinned(rows, one_in);
                }
                let rule = Rule::of(method, &weights(rows.len()), rows.len());
                let parts = [0..cut, cut..rows[0].len()].map(|range| {
                    let part: Vec<Vec<f32>> =
                        rows.iter().map(|row| row[range.clone()].to_vec()).collect();
                    combined(&rule, &part)
                });
                prop_assert!(
                    is_same(&parts.concat(), &combined(&rule, &rows)),
                    "{:?}",
                    method
                );
            }
            Ok(())
        },
    );
}
