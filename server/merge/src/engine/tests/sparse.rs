//! Coordinates that a client did not send are absent, not 0.

use super::fixture::{GO_ON, Memory, Sink, TIES, Tensors};
use crate::{
    ABSENT, Before, BlockError, BlockSource, ClipNorm, Contribution, Detail, History, Inputs,
    MergePlan, Method, Outputs, Recipe, TensorExtent, Values, merge,
};

/// A model some of whose coordinates were not sent.
struct Sparse(Memory<f32>);

impl BlockSource for Sparse {
    fn read<'a>(
        &'a self,
        tensor: usize,
        offset: usize,
        len: usize,
        buffer: &'a mut [f32],
    ) -> Result<Values<'a>, BlockError> {
        self.0.read(tensor, offset, len, buffer)
    }

    fn is_sparse(&self) -> bool {
        true
    }
}

/// Merges sparse columns: one client a row, `None` not sent.
fn merged(recipe: Recipe, rows: &[&[Option<f32>]]) -> Vec<f64> {
    let sources: Vec<Sparse> = rows
        .iter()
        .map(|row| {
            Sparse(Memory(vec![
                row.iter().map(|value| value.unwrap_or(ABSENT)).collect(),
            ]))
        })
        .collect();
    let base: Tensors = vec![vec![0.0; rows[0].len()]];
    let extents = vec![TensorExtent::new("w", rows[0].len())];
    let plan = MergePlan::new(
        recipe,
        extents,
        rows.len(),
        super::fixture::AMPLE,
        Detail::Full,
    )
    .unwrap();
    let updates: Vec<Contribution<'_>> = sources
        .iter()
        .map(|source| Contribution::new(source, 1.0))
        .collect();
    let sink = Sink::like(&base);
    let inputs = Inputs {
        base: &Memory(base),
        updates: &updates,
        trusted: None,
        history: History::default(),
    };
    merge(&plan, &inputs, &Outputs::model(&sink), &GO_ON).unwrap();
    sink.into_tensors().remove(0)
}

const ROWS: [&[Option<f32>]; 5] = [
    &[Some(1.0), None, Some(5.0), None],
    &[Some(2.0), None, Some(-9.0), Some(4.0)],
    &[Some(3.0), Some(7.0), None, None],
    &[Some(100.0), None, None, Some(6.0)],
    &[None, None, Some(6.0), Some(-50.0)],
];

#[test]
fn rules_that_rank_values_count_supporters_alone_and_need_one_more_than_may_be_hostile() {
    assert_eq!(
        merged(Recipe::of(Method::Median { tolerate: 1 }), &ROWS),
        [2.5, 0.0, 5.0, 4.0]
    );
    assert_eq!(
        merged(Recipe::of(Method::Median { tolerate: 0 }), &ROWS),
        [2.5, 7.0, 5.0, 4.0]
    );
    assert_eq!(
        merged(Recipe::of(Method::TrimmedMean { tolerate: 1 }), &ROWS),
        [2.5, 0.0, 5.0, 4.0]
    );
}

#[test]
fn sums_count_an_absent_coordinate_as_no_change() {
    assert_eq!(
        merged(Recipe::of(Method::Mean), &ROWS),
        [106.0 / 5.0, 7.0 / 5.0, 2.0 / 5.0, -8.0]
    );
    assert_eq!(
        merged(Recipe::of(Method::Magmax), &ROWS),
        [100.0, 7.0, -9.0, -50.0]
    );
}

#[test]
fn ties_elects_after_clipping() {
    let rows: [&[Option<f32>]; 3] = [
        &[Some(3.0), Some(4.0)],
        &[Some(3.0), Some(-4.0)],
        &[Some(-300.0), None],
    ];
    assert_eq!(merged(Recipe::of(Method::Ties(TIES)), &rows), [-300.0, 0.0]);
    let clipped = Recipe {
        before: vec![Before::Clip {
            norm: ClipNorm::Fixed(5.0),
        }],
        ..Recipe::of(Method::Ties(TIES))
    };
    // The third is 5 long now, and 6 of mass stand against it.
    assert_eq!(merged(clipped, &rows), [3.0, 0.0]);
}
