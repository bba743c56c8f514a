//! The merge engine: exact, streaming, deterministic.
//!
//! Straight line, inside the merge: a [`Recipe`] and the model's tensors become a [`MergePlan`], [`merge`] runs it.
//! The merged model is `base + lambda * merged task vector`, in `f64` for each coordinate and rounded to `f32` once.
//! Invariant: the same inputs in the same order give the same bytes, whatever the number of threads, the length of blocks
//! and the memory budget. Memory does not grow with the model. Knows nothing of files, clients' names or the network.

mod block;
mod coefficients;
mod engine;
mod kernel;
mod method;
mod plan;
mod recipe;
#[cfg(test)]
mod reference;
mod report;
mod sparsify;

pub use block::{BlockError, BlockSink, BlockSource, TensorExtent};
pub use engine::{Contribution, Control, MergeError, Progress, Stage, merge};
pub use plan::{MergePlan, PlanError, REDUCTION_UNIT, Resources};
pub use recipe::{Before, ClipNorm, Elect, Method, Recipe, RecipeError, TrimScope};
pub use report::{ClientReport, MergeReport};
