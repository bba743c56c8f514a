//! Merges that go on from earlier ones: optimizers, the adaptive clip, centered clipping from the step before.

use super::fixture::{GO_ON, Memory, Merge, Sink, Tensors};
use crate::{
    Adaptive, Before, ClipNorm, Contribution, Detail, History, Inputs, MergePlan, Method,
    Optimizer, OptimizerHistory, OptimizerRule, OptimizerSinks, Outputs, Recipe, TensorExtent,
    merge,
};

/// Runs an optimizer over gradients of one value, from base 0, its moments rounded as files would; gives the model after each step.
fn trajectory(rule: OptimizerRule, gradients: &[f32]) -> Vec<f64> {
    let recipe = Recipe {
        optimizer: Some(Optimizer {
            rule,
            learning_rate: 0.5,
        }),
        ..Recipe::of(Method::Mean)
    };
    let plan = MergePlan::new(
        recipe,
        vec![TensorExtent::new("w", 1)],
        1,
        super::fixture::AMPLE,
        Detail::Brief,
    )
    .unwrap();
    let (mut model, mut first, mut second) = (
        vec![vec![0.0_f64]],
        vec![vec![0.0_f64]],
        vec![vec![0.0_f64]],
    );
    let mut steps = Vec::new();
    for (number, gradient) in (0_u64..).zip(gradients) {
        let update = Memory(vec![vec![*gradient]]);
        let (base, m, v) = (
            Memory(model.clone()),
            Memory(first.clone()),
            Memory(second.clone()),
        );
        let optimizer = OptimizerHistory {
            steps: number,
            first: &m,
            second: Some(&v),
        };
        let inputs = Inputs {
            base: &base,
            updates: &[Contribution::new(&update, 1.0)],
            trusted: None,
            history: History {
                // The first merge has no history at all.
                optimizer: Some(optimizer).filter(|_| number > 0),
                ..History::default()
            },
        };
        let [next, next_first, next_second] = [&model, &first, &second].map(Sink::like);
        let sinks = OptimizerSinks {
            first: &next_first,
            second: Some(&next_second),
        };
        let outputs = Outputs {
            model: &next,
            optimizer: Some(sinks),
        };
        let report = merge(&plan, &inputs, &outputs, &GO_ON).unwrap();
        assert_eq!(report.optimizer_steps, number + 1);
        (model, first, second) = (
            next.into_tensors(),
            next_first.into_tensors(),
            next_second.into_tensors(),
        );
        steps.push(model[0][0]);
    }
    steps
}

fn assert_near(actual: &[f64], expected: &[f64]) {
    for (actual, expected) in actual.iter().zip(expected) {
        assert!(
            (actual - expected).abs() < 1e-9,
            "{actual} is not {expected}"
        );
    }
}

#[test]
fn optimizers_follow_their_formulas_over_a_lineage_of_merges() {
    // v: 1, 2.5, 0.25; steps of half of it.
    assert_near(
        &trajectory(OptimizerRule::Momentum { beta: 0.5 }, &[1.0, 2.0, -1.0]),
        &[0.5, 1.75, 1.875],
    );
    // Half of gradient + v/2: 1.5, 3.25, -0.875.
    assert_near(
        &trajectory(OptimizerRule::Nesterov { beta: 0.5 }, &[1.0, 2.0, -1.0]),
        &[0.75, 2.375, 1.9375],
    );
    let adaptive = Adaptive {
        beta1: 0.5,
        beta2: 0.75,
        epsilon: 1.0,
    };
    // Without momentum: v = 9, 25; steps 0.5·3/4, 0.5·4/6.
    let plain = Adaptive {
        beta1: 0.0,
        ..adaptive
    };
    assert_near(
        &trajectory(OptimizerRule::Adagrad(plain), &[3.0, 4.0]),
        &[0.375, 0.375 + 2.0 / 6.0],
    );
    // Bias correction makes the first step that of the gradient itself: 0.5·3/(3 + 1).
    assert_near(&trajectory(OptimizerRule::Adam(adaptive), &[3.0]), &[0.375]);
    // m̂ = (1.5/2 + 4/2)/0.75 = 11/3, v̂ = (0.75·2.25 + 0.25·16)/0.4375 = 13.
    let second = 0.5 * (11.0 / 3.0) / (13.0_f64.sqrt() + 1.0);
    assert_near(
        &trajectory(OptimizerRule::Adam(adaptive), &[3.0, 4.0]),
        &[0.375, 0.375 + second],
    );
    // v: 0 + 0.25·9 = 2.25, then + 0.25·16 = 6.25; m: 1.5, 2.75.
    let yogi = [0.5 * 1.5 / 2.5, 0.5 * 1.5 / 2.5 + 0.5 * 2.75 / 3.5];
    assert_near(
        &trajectory(OptimizerRule::Yogi(adaptive), &[3.0, 4.0]),
        &yogi,
    );
}

#[test]
fn the_adaptive_limit_follows_the_median_from_merge_to_merge() {
    let norms = [0.5, 1.0, 2.0, 4.0];
    let updates: Vec<Tensors<f64>> = norms.iter().map(|norm| vec![vec![*norm]]).collect();
    let base = vec![vec![0.0]];
    let recipe = Recipe {
        before: vec![Before::Clip {
            norm: ClipNorm::Adaptive { start: Some(0.1) },
        }],
        ..Recipe::of(Method::Mean)
    };
    let merge = Merge::new(recipe, &base, &updates);
    let mut clip_limit = None;
    let golden = [
        (1, 0.110_517_091_8),
        (5, 0.164_872_127_1),
        (12, 0.332_011_692_3),
    ];
    for round in 1..=12 {
        let before = clip_limit.unwrap_or(0.1);
        let (model, report) = merge
            .run_after(History {
                clip_limit,
                ..History::default()
            })
            .unwrap();
        // All longer than the limit are as long as it.
        let expected = norms.iter().map(|norm: &f64| norm.min(before)).sum::<f64>() / 4.0;
        assert!((model[0][0] - expected).abs() < 1e-12);
        clip_limit = report.clip_limit;
        if let Some((_, limit)) = golden.iter().find(|(at, _)| *at == round) {
            assert!(
                (clip_limit.unwrap() - limit).abs() < 1e-9,
                "{round}: {clip_limit:?}"
            );
        }
    }
}

#[test]
fn centered_clipping_begins_at_the_step_before() {
    let updates: Vec<Tensors<f64>> = [9.0, 10.0, 11.0, 1000.0]
        .iter()
        .map(|value| vec![vec![*value, 0.0]])
        .collect();
    let base = vec![vec![0.0, 0.0]];
    let recipe = Recipe::of(Method::CenteredClipping {
        radius: 2.0,
        iterations: 1,
    });
    let merge = Merge::new(recipe, &base, &updates);
    let step = Memory(vec![vec![10.0, 0.0]]);
    let (model, _) = merge
        .run_after(History {
            step: Some(&step),
            ..History::default()
        })
        .unwrap();
    // From 10: pulls of -1, 0, 1, and one that is cut to 2.
    assert!((model[0][0] - 10.5).abs() < 1e-9, "{model:?}");
    let (model, _) = merge.run().unwrap();
    assert!(
        (model[0][0] - 2.0).abs() < 1e-9,
        "from 0 all are cut to 2: {model:?}"
    );
}
