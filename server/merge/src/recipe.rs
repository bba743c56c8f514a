//! The stages of one merge, as data: what is done to task vectors before they meet, by which rule they meet, and what follows.
//!
//! A recipe is checked against the number of clients once, when a plan is made from it; what the engine then runs cannot be wrong.
//! Refusals carry their arithmetic, because a person will read them (`recipe/check.rs`).
//! Parsing of files and defaults that depend on a federation live with the caller.

mod check;
mod method;
mod name;
mod stage;

pub use check::RecipeError;
pub use method::{Divide, Elect, Even, Method, Neighbours, Start, Ties, WeightUse};
pub use stage::{
    Adaptive, Before, ClipNorm, Optimizer, OptimizerRule, Rescale, Scope, Sparsify, SparsifyRule,
};

/// How base and task vectors become a new model: `base + optimizer(lambda * method(sparsify(before(task vectors))))`.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// Stages that weigh, bound or mix whole task vectors, in the order in which they are applied.
    pub before: Vec<Before>,
    /// Whether lengths and distances are taken over the whole model or for each tensor by itself.
    pub scope: Scope,
    /// What is dropped of each task vector.
    pub sparsify: Option<Sparsify>,
    /// The rule that makes one task vector of many.
    pub method: Method,
    /// Scale of the merged task vector, 1 as a rule; a negative one subtracts it.
    pub lambda: f64,
    /// What makes a step of the merged task vector; none: it is the step.
    pub optimizer: Option<Optimizer>,
    /// What chance is drawn from: the same seed draws the same, and another client, tensor or coordinate another.
    pub seed: u64,
}

impl Recipe {
    /// The plain recipe of a method: nothing before or after it, and lambda 1.
    pub fn of(method: Method) -> Self {
        Self {
            before: Vec::new(),
            scope: Scope::Model,
            sparsify: None,
            method,
            lambda: 1.0,
            optimizer: None,
            seed: 0,
        }
    }
}
