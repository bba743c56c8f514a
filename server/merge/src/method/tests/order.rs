//! Orders of summation, which decide the last bits.

use half::bf16;
use proptest::prelude::*;

use super::{combined, counts, is_same, narrowed, plain_values, ranking, rows, run, thinned};
use crate::kernel::{Element, Target};
use crate::method::Rule;

/// The numbers of narrow rows in double precision, which is sorted by lists of comparators whatever the count.
fn widened<T: Element>(rows: &[Vec<T>]) -> Vec<Vec<f64>> {
    let widen = |value: &T| {
        if value.is_absent() {
            f64::absent()
        } else {
            value.widen()
        }
    };
    rows.iter()
        .map(|row| row.iter().map(widen).collect())
        .collect()
}

#[test]
fn values_kept_in_registers_add_up_in_the_order_of_those_kept_in_memory() {
    run(
        60,
        &(rows(plain_values(), counts()), 1..6_usize),
        |(rows, one_in)| {
            for method in ranking(rows.len()) {
                let rule = Rule::of(method, &[], rows.len());
                let single = narrowed::<f32>(&rows);
                prop_assert!(
                    is_same(
                        &combined(&rule, &single),
                        &combined(&rule, &widened(&single))
                    ),
                    "{:?}",
                    method
                );
                let half = thinned(narrowed::<bf16>(&rows), one_in);
                prop_assert!(
                    is_same(&combined(&rule, &half), &combined(&rule, &widened(&half))),
                    "{:?}",
                    method
                );
            }
            Ok(())
        },
    );
}

#[test]
fn the_order_of_clients_does_not_change_what_is_ranked() {
    run(60, &rows(plain_values(), 1..=12_usize), |mut rows| {
        for method in ranking(rows.len()) {
            let rule = Rule::of(method, &[], rows.len());
            let before = combined(&rule, &narrowed::<f32>(&rows));
            rows.rotate_left(1);
            let after = combined(&rule, &narrowed::<f32>(&rows));
            for (before, after) in before.iter().zip(&after) {
                prop_assert!(
                    (before - after).abs() <= 1e-11,
                    "{:?}: {} {}",
                    method,
                    before,
                    after
                );
            }
        }
        Ok(())
    });
}

#[test]
fn a_workspace_is_made_for_its_rule_and_serves_another_count_of_rows() {
    let rule = Rule::TrimmedMean { tolerate: 1 };
    let mut workspace = rule.workspace::<f64>(3);
    for count in [3, 5, 70, 3] {
        let rows = vec![vec![2.5; 9]; count];
        let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
        let mut out = [0.0; 9];
        rule.combine(
            crate::kernel::Rows::new(&rows, 9),
            &mut workspace,
            &mut Target::Row(&mut out),
        );
        assert_eq!(out.to_vec(), [2.5; 9]);
    }
    assert_eq!(Rule::Magmax.workspace_bytes::<f32>(10), Some(0));
    let bytes = |rows| rule.workspace_bytes::<f32>(rows);
    assert!(bytes(64) > Some(64 * 64 * 4) && bytes(64) > bytes(63));
    assert_eq!(bytes(usize::MAX), None);
}
