//! The stages around a method, as data: what is done to task vectors before they meet, and to the merged one afterwards.

/// The set of values that one decision is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Each tensor by itself.
    Tensor,
    /// The whole model.
    Model,
}

/// A stage that weighs, bounds or mixes whole task vectors before they are merged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Before {
    /// Shortens every task vector that is longer than a limit to that limit, keeping its direction.
    Clip {
        /// The limit.
        norm: ClipNorm,
    },
    /// Adaptive robust clipping: shortens the longest few to the length of the next.
    Arc {
        /// How many clients may be hostile.
        tolerate: usize,
    },
    /// Nearest-neighbour mixing: replaces each task vector by the mean of the `n - f` nearest to it.
    Nnm {
        /// How many clients may be hostile.
        tolerate: usize,
    },
    /// Replaces the task vectors by the means of random groups.
    Bucketing {
        /// How many clients a group has; the last one may have fewer.
        size: usize,
    },
}

/// The Euclidean length, over the scope, to which task vectors are clipped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ClipNorm {
    /// This length: positive and finite.
    Fixed(f64),
    /// The median of the clients' lengths in this merge.
    Median,
    /// A length that follows the clients' median from merge to merge; the limit is part of a model's lineage.
    Adaptive {
        /// The length to begin with; none: the median of the first merge.
        start: Option<f64>,
    },
}

/// What is dropped of each task vector, value by value, after the stages before and before the method.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sparsify {
    /// The rule that keeps or drops a value.
    pub rule: SparsifyRule,
    /// The values among which magnitudes are ranked. DARE looks at none, DELLA ranks within rows.
    pub scope: Scope,
    /// How what is kept makes up for what is dropped.
    pub rescale: Rescale,
}

/// A rule that keeps or drops values; each is documented, with its paper, in its own file under `sparsify`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SparsifyRule {
    /// Keeps the largest magnitudes.
    Trim {
        /// Share of the values that is kept: in (0, 1].
        density: f64,
    },
    /// Keeps each value by chance.
    Dare {
        /// Probability of being kept: in (0, 1].
        density: f64,
    },
    /// Keeps each value by a chance that grows with its magnitude.
    Della {
        /// Mean probability of being kept: in (0, 1].
        density: f64,
        /// How far the probability goes from the mean at either end; `density ± epsilon` stays in (0, 1).
        epsilon: f64,
    },
    /// Drops the largest magnitudes and the smallest.
    Breadcrumbs {
        /// Share of the values that is kept: in (0, 1].
        density: f64,
        /// Share of the values that is dropped as the largest: in [0, 1).
        gamma: f64,
    },
}

/// How the values that are kept make up for those that are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rescale {
    /// Not at all.
    Nothing,
    /// Divided by the probability of being kept, which keeps the expected value (DARE, DELLA, PEFT).
    Probability,
    /// Multiplied so that the sum of magnitudes of each tensor is what it was (mergekit).
    Mass,
}

/// How the merged task vector, taken as a pseudo-gradient, becomes a step (Reddi et al., ICLR 2021).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Optimizer {
    /// The rule.
    pub rule: OptimizerRule,
    /// Scale of the step: positive and finite.
    pub learning_rate: f64,
}

/// A rule of a server optimizer; each is documented, with its paper, in its own file under `optimizer`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OptimizerRule {
    /// Heavy ball.
    Momentum {
        /// Share of the velocity that lasts: in [0, 1).
        beta: f64,
    },
    /// Nesterov's accelerated gradient.
    Nesterov {
        /// Share of the velocity that lasts: in [0, 1).
        beta: f64,
    },
    /// Adam with bias correction from the first step on.
    Adam(Adaptive),
    /// Yogi.
    Yogi(Adaptive),
    /// Adagrad; `beta2` is unused.
    Adagrad(Adaptive),
}

/// The numbers of the adaptive optimizers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adaptive {
    /// Share of the first moment that lasts: in [0, 1).
    pub beta1: f64,
    /// Share of the second moment that lasts: in [0, 1).
    pub beta2: f64,
    /// What is added to the root of the second moment: positive.
    pub epsilon: f64,
}
