//! Holds the optimizers against trajectories computed in decimal arithmetic, and against what their papers promise.
#![expect(
    clippy::unreadable_literal,
    reason = "numbers as the other computation printed them"
)]

use super::*;

const ADAPTIVE: Adaptive = Adaptive {
    beta1: 0.9,
    beta2: 0.99,
    epsilon: 1e-3,
};
const RULES: [OptimizerRule; 5] = [
    OptimizerRule::Momentum { beta: 0.9 },
    OptimizerRule::Nesterov { beta: 0.9 },
    OptimizerRule::Adam(ADAPTIVE),
    OptimizerRule::Yogi(ADAPTIVE),
    OptimizerRule::Adagrad(ADAPTIVE),
];

/// The steps of one value under these pseudo-gradients, and its last states.
fn trajectory(rule: OptimizerRule, gradients: &[f64]) -> (Vec<f64>, [f64; 2]) {
    let [mut first, mut second] = [[0.0], [0.0]];
    let steps = (1..)
        .zip(gradients)
        .map(|(t, &gradient)| {
            let mut slot = [gradient];
            let second = if rule.has_second() {
                &mut second[..]
            } else {
                &mut []
            };
            step(rule, 0.1, t, &mut slot, &mut first, second);
            slot[0]
        })
        .collect();
    (steps, [first[0], second[0]])
}

fn is_near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 4.0 * f64::EPSILON * b.abs()
}

#[test]
fn three_steps_are_those_of_decimal_arithmetic() {
    let expected = [
        ([0.05, 0.02, 0.118], [1.18, 0.0]),
        ([0.095, -0.007, 0.2062], [1.18, 0.0]),
        (
            [0.0998003992015968, 0.02660254152274474, 0.06554247797558566],
            [0.118, 0.013069],
        ),
        (
            [0.09803921568627451, 0.03514833510723095, 0.1021075761971939],
            [0.118, 0.013125],
        ),
        (
            [
                0.00998003992015968,
                0.003571320192224279,
                0.010290901783635438,
            ],
            [0.118, 1.3125],
        ),
    ];
    for (rule, (steps, states)) in RULES.into_iter().zip(expected) {
        let (found, last) = trajectory(rule, &[0.5, -0.25, 1.0]);
        for (found, expected) in found.iter().chain(&last).zip(steps.iter().chain(&states)) {
            assert!(
                (found - expected).abs() < 1e-15,
                "{rule:?} {found} {expected}"
            );
        }
    }
}

#[test]
fn the_first_step_of_adam_is_the_sign_of_the_gradient_whatever_its_length() {
    for gradient in [1e-9, -0.003, 0.5, 1e6] {
        let (steps, _) = trajectory(OptimizerRule::Adam(ADAPTIVE), &[gradient; 5]);
        let expected = 0.1 * gradient / (gradient.abs() + 1e-3);
        assert!(is_near(steps[0], expected));
        // A gradient that stays makes steps that stay.
        assert!(
            steps
                .iter()
                .all(|step| (step / expected - 1.0).abs() < 1e-12)
        );
    }
}

#[test]
fn momentum_of_a_steady_gradient_approaches_the_geometric_sum() {
    let (steps, _) = trajectory(OptimizerRule::Momentum { beta: 0.9 }, &[2.0; 400]);
    assert!((steps[399] - 0.1 * 2.0 / (1.0 - 0.9)).abs() < 1e-12);
    let (steps, _) = trajectory(OptimizerRule::Nesterov { beta: 0.9 }, &[2.0; 400]);
    assert!((steps[399] - 0.1 * 2.0 / (1.0 - 0.9)).abs() < 1e-12);
}

#[test]
fn without_memory_momentum_is_plain_descent() {
    for rule in [
        OptimizerRule::Momentum { beta: 0.0 },
        OptimizerRule::Nesterov { beta: 0.0 },
    ] {
        let (steps, _) = trajectory(rule, &[0.5, -0.25]);
        assert!(is_near(steps[0], 0.05) && is_near(steps[1], -0.025));
    }
}

#[test]
fn the_second_moment_of_yogi_moves_additively_and_either_way() {
    let (_, [_, before]) = trajectory(OptimizerRule::Yogi(ADAPTIVE), &[1.0]);
    let (_, [_, after]) = trajectory(OptimizerRule::Yogi(ADAPTIVE), &[1.0, 0.01]);
    assert!(is_near(before, 0.01));
    assert!(is_near(after, 0.01 - 0.01 * 1e-4));
    let (_, [_, at_rest]) = trajectory(OptimizerRule::Yogi(ADAPTIVE), &[0.0]);
    assert!(at_rest.abs() < f64::MIN_POSITIVE);
}

#[test]
fn no_gradient_makes_no_step_and_no_rule_divides_by_zero() {
    for rule in RULES {
        let (steps, states) = trajectory(rule, &[0.0; 3]);
        assert!(
            steps
                .iter()
                .chain(&states)
                .all(|value| value.abs() < f64::MIN_POSITIVE)
        );
    }
}

#[test]
fn steps_do_not_depend_on_how_values_are_divided() {
    let gradient: Vec<f64> = (0..1000_i32)
        .map(|index| f64::from(index % 17 - 8) / 7.0)
        .collect();
    for rule in RULES {
        let run = |len: usize| -> Vec<u64> {
            let [mut first, mut second] = [vec![0.125; 1000], vec![0.25; 1000]];
            let mut slots = gradient.clone();
            let blocks = slots.chunks_mut(len);
            for ((slot, first), second) in blocks
                .zip(first.chunks_mut(len))
                .zip(second.chunks_mut(len))
            {
                let second = if rule.has_second() { second } else { &mut [] };
                step(rule, 0.3, 7, slot, first, second);
            }
            let all = slots.iter().chain(&first).chain(&second);
            all.map(|value| value.to_bits()).collect()
        };
        assert_eq!(run(1000), run(1));
        assert_eq!(run(1000), run(37));
    }
}
