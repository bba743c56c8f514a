//! How a merge is cut into blocks, and what memory it will take: known before a byte is read.
//!
//! The unit of reduction is fixed ([`REDUCTION_UNIT`] values of one tensor): every sum over a tensor is taken inside units and
//! then over units in order. Blocks are whole numbers of units, so the memory budget may choose their length freely
//! without changing a bit of the result.
//! The bound counts what the engine allocates: buffers of sources and sinks are their own.

use std::mem::size_of;
use std::ops::Range;

use crate::block::TensorExtent;
use crate::kernel::sort::Sorter;
use crate::recipe::{Method, Recipe, RecipeError};
use crate::sparsify::trim::{Histogram, Trim};

/// How many values are summed before their sum becomes a term of the next sum.
pub const REDUCTION_UNIT: usize = 4096;

/// The longest block, in values: longer ones leave the caches and gain nothing.
const LONGEST_BLOCK: usize = 16 * REDUCTION_UNIT;

/// An upper bound of a lane's few words.
const LANE_BYTES: usize = 512;

/// What a merge may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resources {
    /// How many blocks are worked on at a time.
    pub threads: usize,
    /// The most memory that the engine may allocate, in bytes.
    pub memory_bytes: u64,
}

/// A recipe, a model and a number of clients, cut into blocks within a memory budget.
#[derive(Debug, Clone)]
pub struct MergePlan {
    recipe: Recipe,
    tensors: Vec<TensorExtent>,
    clients: usize,
    lanes: usize,
    block_len: usize,
    peak_bytes: u64,
}

/// Why a merge cannot be planned.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// The recipe does not work with so many clients.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// Not even the shortest blocks fit.
    #[error(
        "the merge needs at least {needed_bytes} bytes of memory for {clients} clients on {threads} threads, \
         and may use {memory_bytes}"
    )]
    MemoryTooSmall {
        /// What the shortest blocks need.
        needed_bytes: u64,
        /// What was allowed.
        memory_bytes: u64,
        /// For so many clients.
        clients: usize,
        /// On so many threads.
        threads: usize,
    },
    /// The sizes add up to more than can be counted.
    #[error("the model or the number of clients is too large to be counted")]
    TooLarge,
    /// Nothing may run.
    #[error("a merge needs at least 1 thread, and may use 0")]
    NoThreads,
}

/// A run of consecutive values of one tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) tensor: usize,
    pub(crate) offset: usize,
    pub(crate) len: usize,
}

impl MergePlan {
    /// Cuts a merge of `clients` task vectors over `tensors` into the longest blocks that `resources` allow.
    ///
    /// # Errors
    /// When the recipe refuses the number of clients, or the memory does not suffice for the shortest blocks.
    pub fn new(
        mut recipe: Recipe,
        mut tensors: Vec<TensorExtent>,
        clients: usize,
        resources: Resources,
    ) -> Result<Self, PlanError> {
        recipe.check(clients)?;
        if resources.threads == 0 {
            return Err(PlanError::NoThreads);
        }
        let mut values = 0_usize;
        for tensor in &tensors {
            values = values
                .checked_add(tensor.elements)
                .ok_or(PlanError::TooLarge)?;
        }
        values.checked_mul(clients).ok_or(PlanError::TooLarge)?;
        let widest = tensors
            .iter()
            .map(|tensor| tensor.elements)
            .max()
            .unwrap_or(0);
        let mut block_len = LONGEST_BLOCK.min(
            widest
                .max(1)
                .div_ceil(REDUCTION_UNIT)
                .saturating_mul(REDUCTION_UNIT),
        );
        loop {
            let mut plan = Self {
                recipe,
                tensors,
                clients,
                lanes: resources.threads,
                block_len,
                peak_bytes: 0,
            };
            plan.lanes = plan.lanes.min(plan.block_count().max(clients)).max(1);
            plan.peak_bytes = plan.measure().ok_or(PlanError::TooLarge)?;
            if plan.peak_bytes <= resources.memory_bytes {
                return Ok(plan);
            }
            if block_len <= REDUCTION_UNIT {
                return Err(PlanError::MemoryTooSmall {
                    needed_bytes: plan.peak_bytes,
                    memory_bytes: resources.memory_bytes,
                    clients,
                    threads: resources.threads,
                });
            }
            block_len -= REDUCTION_UNIT;
            (recipe, tensors) = (plan.recipe, plan.tensors);
        }
    }

    /// The most memory that the engine will hold at any moment, in bytes, as allocated: independent of the size of the model but for
    /// one small entry for each tensor.
    pub fn peak_bytes(&self) -> u64 {
        self.peak_bytes
    }

    /// How many values are read and written at a time: a multiple of [`REDUCTION_UNIT`].
    pub fn block_len(&self) -> usize {
        self.block_len
    }

    /// How many task vectors the merge takes.
    pub fn clients(&self) -> usize {
        self.clients
    }

    /// What will be done.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The tensors of the model, in the order by which sources and sinks number them.
    pub fn tensors(&self) -> &[TensorExtent] {
        &self.tensors
    }

    /// How many blocks are worked on at a time.
    pub(crate) fn lanes(&self) -> usize {
        self.lanes
    }

    /// The blocks of some tensors, in order.
    pub(crate) fn blocks(
        &self,
        tensors: Range<usize>,
    ) -> impl Iterator<Item = Block> + Clone + Send + '_ {
        tensors.flat_map(move |tensor| {
            let elements = self.tensors[tensor].elements;
            (0..elements)
                .step_by(self.block_len)
                .map(move |offset| Block {
                    tensor,
                    offset,
                    len: self.block_len.min(elements - offset),
                })
        })
    }

    /// How many blocks the whole model has.
    pub(crate) fn block_count(&self) -> usize {
        self.tensors
            .iter()
            .map(|tensor| tensor.elements.div_ceil(self.block_len))
            .sum()
    }

    /// The name of a tensor, for an error.
    pub(crate) fn tensor_name(&self, tensor: usize) -> String {
        self.tensors[tensor].name.clone()
    }

    /// Whether the scope is a single block, whose threshold is selected at once rather than counted out.
    pub(crate) fn is_single_block(&self, scope: &Range<usize>) -> bool {
        let mut blocks = self.blocks(scope.clone());
        blocks.next().is_some() && blocks.next().is_none()
    }

    /// The bound: the larger of the two passes, and what lives through both. `None` when it cannot be counted.
    fn measure(&self) -> Option<u64> {
        let block = self.block_len.checked_mul(size_of::<f32>())?;
        let mut observing = block;
        let mut per_client = 16 * size_of::<f64>();
        if Trim::of(&self.recipe).is_some() {
            observing = observing.checked_add(Histogram::BYTES)?;
            per_client =
                per_client.checked_add(self.tensors.len().checked_mul(size_of::<u32>())?)?;
        }
        let rows = block.checked_mul(self.clients.checked_add(1)?)?;
        let partials = self.block_len / REDUCTION_UNIT * size_of::<f64>();
        let mut combining = rows
            .checked_add(2 * block)?
            .checked_add(partials)?
            .checked_add(LANE_BYTES)?;
        if matches!(
            self.recipe.method,
            Method::Median | Method::TrimmedMean { .. }
        ) {
            combining = combining.checked_add(Sorter::bytes(self.clients)?)?;
        }
        let passes = observing.max(combining).checked_mul(self.lanes)?;
        let names: usize = self
            .tensors
            .iter()
            .map(|tensor| tensor.name.len() + size_of::<TensorExtent>())
            .sum();
        let resident = per_client.checked_mul(self.clients)?.checked_add(names)?;
        u64::try_from(passes.checked_add(resident)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{Elect, TrimScope};

    fn resources(memory_bytes: u64) -> Resources {
        Resources {
            threads: 2,
            memory_bytes,
        }
    }

    fn plan(
        method: Method,
        elements: usize,
        clients: usize,
        memory_bytes: u64,
    ) -> Result<MergePlan, PlanError> {
        MergePlan::new(
            Recipe::of(method),
            vec![TensorExtent::new("w", elements)],
            clients,
            resources(memory_bytes),
        )
    }

    #[test]
    fn the_bound_holds_the_budget_and_does_not_grow_with_the_model() {
        let ties = Method::Ties {
            density: 0.2,
            scope: TrimScope::Tensor,
            elect: Elect::Mass,
        };
        for method in [Method::Mean, Method::Median, ties] {
            let small = plan(method, 1 << 20, 10, 1 << 29).expect("fits");
            let large = plan(method, 1 << 40, 10, 1 << 29).expect("fits");
            assert_eq!(small.peak_bytes(), large.peak_bytes());
            let tight = plan(method, 1 << 40, 10, 4 << 20).expect("fits");
            assert!(tight.peak_bytes() <= 4 << 20);
            assert!(tight.block_len() < large.block_len());
            assert_eq!(tight.block_len() % REDUCTION_UNIT, 0);
        }
    }

    #[test]
    fn a_budget_that_is_too_small_is_refused_with_what_is_needed() {
        let Err(PlanError::MemoryTooSmall { needed_bytes, .. }) =
            plan(Method::Mean, 1 << 30, 10, 1000)
        else {
            panic!("1000 bytes cannot hold 11 blocks");
        };
        assert!(plan(Method::Mean, 1 << 30, 10, needed_bytes).is_ok());
        assert!(plan(Method::Mean, 1 << 30, 10, needed_bytes - 1).is_err());
    }

    #[test]
    fn sizes_that_cannot_be_counted_are_refused() {
        assert_eq!(
            plan(Method::Mean, usize::MAX, 10, u64::MAX).err(),
            Some(PlanError::TooLarge)
        );
        assert_eq!(
            plan(Method::Mean, 10, usize::MAX, u64::MAX).err(),
            Some(PlanError::TooLarge)
        );
    }

    #[test]
    fn blocks_cover_each_tensor_once_and_in_order() {
        let tensors = [0, 1, 5000, 0, 70_000]
            .map(|elements| TensorExtent::new("t", elements))
            .to_vec();
        let plan =
            MergePlan::new(Recipe::of(Method::Mean), tensors, 3, resources(1 << 20)).expect("fits");
        let mut next = (0, 0);
        for block in plan.blocks(0..5) {
            while next.1 == plan.tensors()[next.0].elements {
                next = (next.0 + 1, 0);
            }
            assert_eq!((block.tensor, block.offset), next);
            next.1 += block.len;
        }
        assert_eq!(next, (4, 70_000));
        assert_eq!(plan.blocks(0..5).count(), plan.block_count());
    }
}
