//! The merge engine: exact, streaming, deterministic.
//!
//! Straight line, inside the merge: a [`Recipe`] and the model's tensors become a [`MergePlan`], [`merge`] runs it.
//! The merged model is `base + lambda * merged task vector`, in `f64` for each coordinate and rounded to `f32` once.
//! Invariant: the same inputs in the same order give the same bytes, whatever the number of threads, the length of blocks
//! and the memory budget. Memory does not grow with the model. Knows nothing of files, clients' names or the network.

#![expect(
    dead_code,
    reason = "UNDER CONSTRUCTION: modules are joined one by one"
)]

mod block;
mod gram;
mod kernel;
mod noise;
mod optimizer;
mod recipe;
mod sparsify;

pub use block::{BlockError, BlockSink, BlockSource, TensorExtent, Values};
pub use kernel::ABSENT;
pub use recipe::{
    Adaptive, Before, ClipNorm, Divide, Elect, Even, Method, Neighbours, Optimizer, OptimizerRule,
    Recipe, RecipeError, Rescale, Scope, Sparsify, SparsifyRule, Start, Ties, WeightUse,
};
