//! Inputs that fail, lie or make no sense.

use std::error::Error as _;
use std::sync::atomic::AtomicBool;

use super::fixture::{AMPLE, merged, methods, plan, run};
use crate::reference::Tensors;
use crate::{
    BlockError, BlockSink, BlockSource, Contribution, Control, MergeError, Method, Recipe, merge,
};

/// Serves zeros up to a point, and fails from there.
struct Broken {
    tensor: usize,
    from: usize,
}

impl BlockSource for Broken {
    fn read(&self, tensor: usize, offset: usize, out: &mut [f32]) -> Result<(), BlockError> {
        out.fill(0.0);
        if tensor == self.tensor && offset >= self.from {
            Err(BlockError::new("disk gone"))
        } else {
            Ok(())
        }
    }
}

impl BlockSink for Broken {
    fn write(&self, tensor: usize, offset: usize, _values: &[f32]) -> Result<(), BlockError> {
        if tensor == self.tensor && offset >= self.from {
            Err(BlockError::new("disk full"))
        } else {
            Ok(())
        }
    }
}

const SOUND: Broken = Broken {
    tensor: usize::MAX,
    from: 0,
};

fn outcome(
    base: &dyn BlockSource,
    updates: [&dyn BlockSource; 2],
    sink: &dyn BlockSink,
    cancelled: bool,
) -> Result<(), MergeError> {
    let shape: Tensors = vec![vec![0.0; 10], vec![0.0; 200_000]];
    let plan = plan(&Recipe::of(Method::Mean), &shape, 2, AMPLE);
    let contributions = updates.map(|source| Contribution {
        source,
        weight: 1.0,
    });
    let control = Control {
        cancelled: &AtomicBool::new(cancelled),
        progress: &|_| {},
    };
    merge(&plan, base, &contributions, sink, &control).map(|_| ())
}

#[test]
fn a_failed_block_is_named_by_client_tensor_and_offset() {
    let broken = Broken {
        tensor: 1,
        from: 65_536,
    };
    let cases = [
        (
            outcome(&SOUND, [&SOUND, &broken], &SOUND, false),
            "task vector 1 could not be read at 65536 of tensor t1",
        ),
        (
            outcome(&broken, [&SOUND, &SOUND], &SOUND, false),
            "the base could not be read at 65536 of tensor t1",
        ),
        (
            outcome(&SOUND, [&SOUND, &SOUND], &broken, false),
            "the merged model could not be written at 65536 of tensor t1",
        ),
    ];
    for (outcome, expected) in cases {
        let error = outcome.unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert!(
            error
                .source()
                .unwrap()
                .source()
                .unwrap()
                .to_string()
                .starts_with("disk")
        );
    }
}

#[test]
fn a_cancelled_merge_stops() {
    assert!(matches!(
        outcome(&SOUND, [&SOUND, &SOUND], &SOUND, true),
        Err(MergeError::Cancelled)
    ));
}

#[test]
fn weights_without_meaning_are_refused() {
    let base = vec![vec![1.0]];
    let plan = plan(&Recipe::of(Method::Mean), &base, 2, AMPLE);
    let updates = vec![base.clone(); 2];
    for weight in [f64::NAN, f64::INFINITY, -1.0] {
        let outcome = run(&plan, &base, &updates, &[1.0, weight]);
        assert!(
            matches!(outcome, Err(MergeError::Weight { client: 1, .. })),
            "{weight}"
        );
    }
    assert!(matches!(
        run(&plan, &base, &updates, &[0.0, 0.0]),
        Err(MergeError::Weights { .. })
    ));
    assert!(matches!(
        run(&plan, &base, &updates, &[f64::MAX, f64::MAX]),
        Err(MergeError::Weights { .. })
    ));
    assert!(matches!(
        run(&plan, &base, &updates[..1], &[1.0]),
        Err(MergeError::Contributions {
            planned: 2,
            given: 1
        })
    ));
}

#[test]
fn values_that_are_no_numbers_do_not_panic_and_are_counted() {
    let base = vec![vec![0.0; 6]];
    let odd = vec![vec![
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::MAX,
        1e-45,
        -0.0,
    ]];
    let plain = vec![vec![1.0; 6]];
    for method in methods(3) {
        let plan = plan(&Recipe::of(method), &base, 3, AMPLE);
        run(
            &plan,
            &base,
            &[odd.clone(), plain.clone(), odd.clone()],
            &[1.0, 2.0, 3.0],
        )
        .unwrap();
    }
    let plan = plan(&Recipe::of(Method::Mean), &base, 2, AMPLE);
    let (_, report) = run(&plan, &base, &[odd, plain], &[1.0, 1.0]).unwrap();
    assert_eq!(report.non_finite, 3);
}

#[test]
fn as_many_clients_as_are_tolerated_cannot_make_a_value_no_number() {
    let base = vec![vec![0.0; 3]];
    let honest =
        [[1.0, -2.0, 3.0], [2.0, -2.5, 3.0], [1.5, -1.0, 4.0]].map(|values| vec![values.to_vec()]);
    let bounds = [(1.0, 2.0), (-2.5, -1.0), (3.0, 4.0)];
    let worst = [
        f32::NAN,
        -f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::MAX,
    ];
    for (one, other) in worst
        .iter()
        .flat_map(|one| worst.map(|other| (*one, other)))
    {
        let mut updates = honest.to_vec();
        updates.extend([vec![vec![one; 3]], vec![vec![other; 3]]]);
        for method in [Method::Median, Method::TrimmedMean { tolerate: 2 }] {
            let out = merged(&Recipe::of(method), &base, &updates, &[1.0; 5]);
            for (value, (low, high)) in out[0].iter().zip(bounds) {
                assert!(
                    (low..=high).contains(value),
                    "{method:?} of {one} and {other}: {value}"
                );
            }
        }
    }
}

#[test]
fn the_report_has_norms_shares_and_the_step() {
    let base = vec![vec![7.0, 7.0]];
    let plan = plan(&Recipe::of(Method::Mean), &base, 2, AMPLE);
    let (_, report) = run(
        &plan,
        &base,
        &[vec![vec![3.0, 4.0]], vec![vec![6.0, 8.0]]],
        &[1.0, 3.0],
    )
    .unwrap();
    let of = |value: fn(&crate::ClientReport) -> f64| {
        report.clients.iter().map(value).collect::<Vec<_>>()
    };
    assert_eq!(of(|client| client.norm), [5.0, 10.0]);
    assert_eq!(of(|client| client.clip_factor), [1.0, 1.0]);
    assert_eq!(of(|client| client.weight_share), [0.25, 0.75]);
    assert_eq!((report.step_norm * 100.0).round(), 875.0);
}
