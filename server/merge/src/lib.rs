//! The merge engine: exact, streaming, deterministic.
//!
//! Straight line, inside the merge: a [`Recipe`] and the model's tensors become a [`MergePlan`], [`merge`] runs it.
//! The merged model is `base + step`, in `f64` for each coordinate and rounded once, to the type in which it is stored.
//! Invariant: the same inputs in the same order give the same bytes, whatever the number of threads, the length of blocks, the
//! memory budget and the processor. Memory does not grow with the model. Knows nothing of files, clients' names or the network.

mod block;
mod coefficients;
mod engine;
mod gram;
mod kernel;
mod method;
mod noise;
mod optimizer;
mod plan;
mod recipe;
mod report;
mod sparsify;

pub use block::{BlockError, BlockSink, BlockSource, TensorExtent, Values};
pub use engine::{
    Contribution, Control, History, Inputs, MergeError, OptimizerHistory, OptimizerSinks, Outputs,
    Progress, merge,
};
pub use kernel::ABSENT;
pub use plan::{Detail, MergePlan, Pass, PlanError, REDUCTION_UNIT, Resources};
pub use recipe::{
    Adaptive, Before, ClipNorm, Divide, Elect, Even, Method, Neighbours, Optimizer, OptimizerRule,
    Recipe, RecipeError, Rescale, Scope, Sparsify, SparsifyRule, Start, Ties, WeightUse,
};
pub use report::{ClientDiagnostics, ClientReport, Diagnostics, MergeReport, TensorDiagnostics};
