//! Server optimizers: what makes a step of the merged task vector, taken as a pseudo-gradient `Δ` (Reddi et al., "Adaptive federated
//! optimization", ICLR 2021, algorithm 2; Hsu et al., 2019, for momentum).
//!
//! `Δ` points where the model should go, so the step is added: `x ← x + step`. Each rule is a file with its formula; it works value by value, on
//! states that the caller keeps between merges and begins with zeros. Only `+ − × ÷ √` are used, in the order written, so that every
//! machine gives the same bits.

mod adagrad;
mod adam;
mod momentum;
mod nesterov;
mod yogi;

use crate::kernel::dispatch::vectorized;
use crate::recipe::{Adaptive, OptimizerRule};

impl OptimizerRule {
    /// Whether the rule keeps a second number for each value: the second moment.
    pub fn has_second(&self) -> bool {
        match self {
            Self::Momentum { .. } | Self::Nesterov { .. } => false,
            Self::Adam(_) | Self::Yogi(_) | Self::Adagrad(_) => true,
        }
    }
}

/// Makes step number `t`, counted from 1, of a run of pseudo-gradients, and moves the states on. All slices have one length, but `second` is
/// empty for rules without one.
pub(crate) fn step(
    rule: OptimizerRule,
    learning_rate: f64,
    t: u64,
    gradient: &mut [f64],
    first: &mut [f64],
    second: &mut [f64],
) {
    debug_assert!(t >= 1, "steps are counted from 1");
    debug_assert!(
        first.len() == gradient.len(),
        "a first moment for each value"
    );
    vectorized(
        #[inline(always)]
        || match rule {
            OptimizerRule::Momentum { beta } => {
                for (gradient, first) in gradient.iter_mut().zip(&mut *first) {
                    *gradient = learning_rate * momentum::step(beta, *gradient, first);
                }
            }
            OptimizerRule::Nesterov { beta } => {
                for (gradient, first) in gradient.iter_mut().zip(&mut *first) {
                    *gradient = learning_rate * nesterov::step(beta, *gradient, first);
                }
            }
            OptimizerRule::Adam(adaptive) => {
                let adam = adam::Adam::at(adaptive, t);
                adapt(learning_rate, gradient, first, second, |g, m, v| {
                    adam.step(g, m, v)
                });
            }
            OptimizerRule::Yogi(adaptive) => {
                adapt(learning_rate, gradient, first, second, |g, m, v| {
                    yogi::step(adaptive, g, m, v)
                });
            }
            OptimizerRule::Adagrad(adaptive) => {
                adapt(learning_rate, gradient, first, second, |g, m, v| {
                    adagrad::step(adaptive, g, m, v)
                });
            }
        },
    );
}

/// Runs a rule with two moments over a run of values.
#[inline(always)]
fn adapt(
    learning_rate: f64,
    gradient: &mut [f64],
    first: &mut [f64],
    second: &mut [f64],
    step: impl Fn(f64, &mut f64, &mut f64) -> f64,
) {
    debug_assert!(
        second.len() == gradient.len(),
        "a second moment for each value"
    );
    for ((gradient, first), second) in gradient.iter_mut().zip(first).zip(second) {
        *gradient = learning_rate * step(*gradient, first, second);
    }
}

/// `m ← β₁m + (1 − β₁)Δ`
#[inline(always)]
fn first_moment(adaptive: Adaptive, gradient: f64, first: &mut f64) -> f64 {
    *first = adaptive.beta1 * *first + (1.0 - adaptive.beta1) * gradient;
    *first
}

#[cfg(test)]
mod tests;
