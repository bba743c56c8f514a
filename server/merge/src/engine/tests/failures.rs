//! Inputs that fail, lie or make no sense.

use std::error::Error as _;
use std::sync::atomic::AtomicBool;

use super::fixture::{AMPLE, GO_ON, Merge, methods, staged};
use crate::{
    BlockError, BlockSink, BlockSource, Contribution, Control, Detail, History, Inputs, MergeError,
    MergePlan, Method, Outputs, PlanError, Recipe, Rescale, Scope, SparsifyRule, TensorExtent,
    Values, merge,
};

/// Serves zeros up to a point, and fails from there.
struct Broken {
    tensor: usize,
    from: usize,
}

impl BlockSource for Broken {
    fn read<'a>(
        &'a self,
        tensor: usize,
        offset: usize,
        len: usize,
        buffer: &'a mut [f32],
    ) -> Result<Values<'a>, BlockError> {
        if tensor == self.tensor && offset >= self.from {
            return Err(BlockError::new("disk gone"));
        }
        buffer[..len].fill(0.0);
        Ok(Values::F32(&buffer[..len]))
    }
}

impl BlockSink for Broken {
    fn write(&self, tensor: usize, offset: usize, _values: &[f64]) -> Result<(), BlockError> {
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
    control: &Control<'_>,
) -> Result<(), MergeError> {
    let tensors = vec![
        TensorExtent::new("t0", 10),
        TensorExtent::new("t1", 200_000),
    ];
    let plan = MergePlan::new(Recipe::of(Method::Mean), tensors, 2, AMPLE, Detail::Brief).unwrap();
    let inputs = Inputs {
        base,
        updates: &updates.map(|source| Contribution::new(source, 1.0)),
        trusted: None,
        history: History::default(),
    };
    merge(&plan, &inputs, &Outputs::model(sink), control).map(|_| ())
}

#[test]
fn a_failed_block_is_named_by_client_tensor_and_offset() {
    let broken = Broken {
        tensor: 1,
        from: 65_536,
    };
    let cases = [
        (
            outcome(&SOUND, [&SOUND, &broken], &SOUND, &GO_ON),
            "task vector 1 could not be read at 65536 of tensor t1",
        ),
        (
            outcome(&broken, [&SOUND, &SOUND], &SOUND, &GO_ON),
            "the base could not be read at 65536 of tensor t1",
        ),
        (
            outcome(&SOUND, [&SOUND, &SOUND], &broken, &GO_ON),
            "the merged model could not be written at 65536 of tensor t1",
        ),
    ];
    for (outcome, expected) in cases {
        let error = outcome.unwrap_err();
        assert_eq!(error.to_string(), expected);
        let cause = error.source().unwrap().source().unwrap().to_string();
        assert!(cause.starts_with("disk"), "{cause}");
    }
}

#[test]
fn a_cancelled_merge_stops() {
    let control = Control {
        cancelled: &AtomicBool::new(true),
        progress: &|_| {},
    };
    let outcome = outcome(&SOUND, [&SOUND, &SOUND], &SOUND, &control);
    assert!(matches!(outcome, Err(MergeError::Cancelled)));
}

#[test]
fn weights_without_meaning_are_refused() {
    let base = vec![vec![1.0_f32]];
    let updates = vec![base.clone(); 2];
    let run = |method, weights: [f64; 2]| {
        let merge = Merge {
            weights: weights.to_vec(),
            ..Merge::new(Recipe::of(method), &base, &updates)
        };
        merge.run().map(|(model, _)| model)
    };
    for weight in [f64::NAN, f64::INFINITY, -1.0] {
        let outcome = run(Method::Mean, [1.0, weight]);
        assert!(
            matches!(outcome, Err(MergeError::Weight { client: 1, .. })),
            "{weight}"
        );
    }
    let sum = Method::TaskArithmetic { normalize: false };
    assert_eq!(run(sum, [2.0, -1.0]).unwrap(), [[2.0]]);
    assert!(matches!(
        run(sum, [1.0, f64::NAN]),
        Err(MergeError::Weight { client: 1, .. })
    ));
    assert!(matches!(
        run(Method::Mean, [0.0, 0.0]),
        Err(MergeError::Weights { .. })
    ));
    assert!(matches!(
        run(Method::Mean, [f64::MAX, f64::MAX]),
        Err(MergeError::Weights { .. })
    ));
}

#[test]
fn fewer_task_vectors_than_planned_are_refused() {
    let base = vec![vec![1.0_f32]];
    let two = vec![base.clone(); 2];
    let merge = Merge::new(Recipe::of(Method::Mean), &base, &two);
    let inputs = Inputs {
        base: &super::fixture::Memory(base.clone()),
        updates: &[],
        trusted: None,
        history: History::default(),
    };
    let outcome = crate::merge(&merge.plan(), &inputs, &Outputs::model(&SOUND), &GO_ON);
    assert!(matches!(
        outcome,
        Err(MergeError::Contributions {
            planned: 2,
            given: 0
        })
    ));
}

#[test]
fn rules_that_compare_with_a_trusted_client_refuse_to_run_without_one() {
    let base = vec![vec![1.0_f32]];
    let updates = vec![base.clone(); 3];
    for method in [Method::Fltrust, Method::Monna { tolerate: 1 }] {
        for trusted in [None, Some(3)] {
            let merge = Merge {
                trusted,
                ..Merge::new(Recipe::of(method), &base, &updates)
            };
            assert!(
                matches!(merge.run(), Err(MergeError::NoTrusted { .. })),
                "{method:?}"
            );
        }
    }
}

#[test]
fn a_value_that_is_no_number_is_named_by_client_tensor_and_index_whatever_the_recipe() {
    let base = vec![vec![0.0_f32; 3], vec![0.0; 70_007]];
    // The last is what marks a coordinate that was not sent, which a dense task vector has none of.
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, crate::ABSENT] {
        let mut updates = vec![base.clone(); 8];
        updates[5][1][66_000] = bad;
        for recipe in methods(8).into_iter().map(Recipe::of).chain(staged(8)) {
            let outcome = Merge::new(recipe.clone(), &base, &updates).run();
            let Err(MergeError::NonFinite {
                client,
                tensor,
                index,
                value,
            }) = outcome
            else {
                // A rule that chose others has not read it again, but has when it chose.
                panic!("{recipe:?} took {bad}");
            };
            assert_eq!(
                (client, tensor.as_str(), index),
                (5, "t1", 66_000),
                "{recipe:?}"
            );
            assert!(!value.is_finite());
        }
    }
}

#[test]
fn a_row_that_is_too_long_to_be_ranked_is_refused_by_name() {
    let della = Recipe {
        sparsify: super::fixture::sparsify(
            SparsifyRule::Della {
                density: 0.5,
                epsilon: 0.1,
            },
            Scope::Tensor,
            Rescale::Nothing,
        ),
        ..Recipe::of(Method::Mean)
    };
    let plan = |row| {
        let tensors = vec![TensorExtent::new("w", 1 << 20).in_rows_of(row)];
        MergePlan::new(della.clone(), tensors, 2, AMPLE, Detail::Brief)
    };
    assert!(plan(1 << 16).is_ok());
    let refused = plan(1 << 17).unwrap_err();
    assert!(
        matches!(&refused, PlanError::LongRow { tensor, .. } if tensor == "w"),
        "{refused}"
    );
}

#[test]
fn values_at_the_limits_of_single_precision_stay_numbers() {
    let tiny = f32::from_bits(1);
    let base = vec![vec![0.0_f32; 5]];
    let updates: Vec<_> = [1.0_f32, 0.5, -0.25, 1.0, 0.75, 0.5, -0.0, 1.0]
        .map(|scale| {
            vec![vec![
                f32::MAX * scale,
                tiny * scale,
                -0.0,
                1e-40 * scale,
                -f32::MAX * scale,
            ]]
        })
        .into();
    let enlarges = |recipe: &Recipe| {
        recipe
            .sparsify
            .is_some_and(|stage| stage.rescale != Rescale::Nothing)
    };
    let recipes = methods(8).into_iter().map(Recipe::of).chain(staged(8));
    for recipe in recipes.filter(|recipe| !enlarges(recipe)) {
        let (model, _) = Merge::new(recipe.clone(), &base, &updates).run().unwrap();
        assert!(
            model.iter().flatten().all(|value| value.is_finite()),
            "{recipe:?} {model:?}"
        );
    }
}

#[test]
fn a_result_beyond_single_precision_is_counted() {
    let base = vec![vec![f32::MAX, 0.0]];
    let updates = vec![vec![vec![f32::MAX, 0.0]]];
    let (_, report) = Merge::new(Recipe::of(Method::Mean), &base, &updates)
        .run()
        .unwrap();
    assert_eq!(report.non_finite, 1);
}
