//! How a merge is cut into pieces, and what memory it will take: known before a byte is read.
//!
//! Sums have a fixed geometry: units of [`REDUCTION_UNIT`] values, then runs of [`RUN`] values of one tensor, then tensors, in order. A
//! thread works through one run at a time, in blocks as long as the memory allows: whole units, so that the budget changes no
//! bit of the result.
//! The bound counts what the engine allocates: memory of sources and sinks is their own.

mod memory;

use std::ops::Range;

use crate::block::TensorExtent;
use crate::coefficients::{self, Needs};
use crate::recipe::{Method, Recipe, RecipeError, Rescale, Scope, Sparsify, SparsifyRule};

/// How many values are summed before their sum becomes a term of the next sum.
pub const REDUCTION_UNIT: usize = 4096;

/// How many values one thread takes at a time: the next step of every sum.
pub(crate) const RUN: usize = 16 * REDUCTION_UNIT;

/// The longest row that DELLA ranks: more would have to be held at once.
pub(crate) const LONGEST_ROW: usize = RUN;

/// What a merge may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resources {
    /// How many runs are worked on at a time.
    pub threads: usize,
    /// The most memory that the engine may allocate, in bytes.
    pub memory_bytes: u64,
}

/// How much a merge tells about its inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// What it had to know anyway.
    Brief,
    /// All diagnostics: how clients agree, tensor by tensor and with one another.
    Full,
}

/// One way through the inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Lengths of task vectors, magnitudes at wanted ranks, sums of magnitudes: client by client.
    Measure,
    /// Where clients differ most: the variance at wanted ranks.
    Vary,
    /// Inner products of all task vectors.
    Correlate,
    /// The merged model.
    Combine,
}

impl Pass {
    /// What it finds, for people.
    pub fn purpose(self) -> &'static str {
        match self {
            Self::Measure => "measure lengths and thresholds",
            Self::Vary => "find where models differ most",
            Self::Correlate => "multiply task vectors with one another",
            Self::Combine => "combine and write",
        }
    }
}

/// A recipe, a model and a number of clients, cut into blocks within a memory budget.
#[derive(Debug, Clone)]
pub struct MergePlan {
    recipe: Recipe,
    tensors: Vec<TensorExtent>,
    clients: usize,
    detail: Detail,
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
    /// A row is too long to be ranked.
    #[error(
        "della ranks each row of a tensor at once, and a row of `{tensor}` has {row_elements} values: at most {LONGEST_ROW} are possible"
    )]
    LongRow {
        /// The tensor.
        tensor: String,
        /// The length of its rows.
        row_elements: usize,
    },
    /// The sizes add up to more than can be counted.
    #[error("the model or the number of clients is too large to be counted")]
    TooLarge,
    /// Nothing may run.
    #[error("a merge needs at least 1 thread, and may use 0")]
    NoThreads,
}

/// A run of consecutive values of one tensor: at most [`RUN`], or a block of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) tensor: usize,
    pub(crate) offset: usize,
    pub(crate) len: usize,
}

impl Block {
    /// The same values in pieces of at most `len`.
    pub(crate) fn pieces(self, len: usize) -> impl Iterator<Item = Self> {
        (0..self.len).step_by(len).map(move |at| Self {
            tensor: self.tensor,
            offset: self.offset + at,
            len: len.min(self.len - at),
        })
    }
}

impl MergePlan {
    /// Cuts a merge of `clients` task vectors over `tensors` into the longest blocks that `resources` allow.
    ///
    /// # Errors
    /// When the recipe refuses the number of clients, or the memory does not suffice for the shortest blocks.
    pub fn new(
        recipe: Recipe,
        tensors: Vec<TensorExtent>,
        clients: usize,
        resources: Resources,
        detail: Detail,
    ) -> Result<Self, PlanError> {
        recipe.check(clients)?;
        if resources.threads == 0 {
            return Err(PlanError::NoThreads);
        }
        let mut plan = Self {
            recipe,
            tensors,
            clients,
            detail,
            lanes: resources.threads,
            block_len: RUN,
            peak_bytes: 0,
        };
        plan.check_sizes()?;
        plan.lanes = plan.lanes.min(plan.run_count().max(clients)).max(1);
        for units in (1..=RUN / REDUCTION_UNIT).rev() {
            plan.block_len = units * REDUCTION_UNIT;
            plan.peak_bytes = memory::peak_bytes(&plan).ok_or(PlanError::TooLarge)?;
            let is_cached = memory::rows_bytes(&plan).is_some_and(|bytes| bytes <= CACHED_BYTES);
            let is_shortest = units == 1;
            if plan.peak_bytes <= resources.memory_bytes && (is_cached || is_shortest) {
                return Ok(plan);
            }
        }
        Err(PlanError::MemoryTooSmall {
            needed_bytes: plan.peak_bytes,
            memory_bytes: resources.memory_bytes,
            clients,
            threads: resources.threads,
        })
    }

    /// The most memory that the engine will hold at any moment, in bytes, as allocated: independent of the size of the model but for
    /// a few small entries for each tensor.
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

    /// How much it will tell.
    pub fn detail(&self) -> Detail {
        self.detail
    }

    /// The tensors of the model, in the order by which sources and sinks number them.
    pub fn tensors(&self) -> &[TensorExtent] {
        &self.tensors
    }

    /// The ways through the inputs, in order.
    pub fn passes(&self) -> Vec<Pass> {
        let needs = self.needs();
        let measures = self.needs_lengths() || self.ranks().is_some() || self.scales_by_mass();
        [
            measures.then_some(Pass::Measure),
            self.varies().is_some().then_some(Pass::Vary),
            (needs == Needs::Gram).then_some(Pass::Correlate),
            Some(Pass::Combine),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// How many runs are worked on at a time.
    pub(crate) fn lanes(&self) -> usize {
        self.lanes
    }

    /// What the stages in the space of inner products need to know.
    pub(crate) fn needs(&self) -> Needs {
        coefficients::needs(&self.recipe)
    }

    /// The sparsifying stage, where it ranks magnitudes over its scope and drops something.
    pub(crate) fn ranks(&self) -> Option<Sparsify> {
        self.recipe.sparsify.filter(|sparsify| {
            matches!(
                sparsify.rule,
                SparsifyRule::Trim { .. } | SparsifyRule::Breadcrumbs { .. }
            )
        })
    }

    /// Whether what is kept is scaled by sums of magnitudes.
    pub(crate) fn scales_by_mass(&self) -> bool {
        self.recipe
            .sparsify
            .is_some_and(|sparsify| sparsify.rescale == Rescale::Mass)
    }

    /// Whether the lengths of task vectors decide something, and no matrix has them.
    pub(crate) fn needs_lengths(&self) -> bool {
        self.needs() == Needs::Norms || self.weighs_by_energy()
    }

    /// Whether clients are weighed by their energy in each tensor, all coordinates counted.
    pub(crate) fn weighs_by_energy(&self) -> bool {
        matches!(self.recipe.method, Method::Sce { density } if density >= 1.0)
    }

    /// The share of coordinates that is kept for their variance, where some are dropped.
    pub(crate) fn varies(&self) -> Option<f64> {
        if let Method::Sce { density } = self.recipe.method {
            Some(density).filter(|density| *density < 1.0)
        } else {
            None
        }
    }

    /// Whether DELLA ranks whole rows.
    pub(crate) fn longest_ranked_row(&self) -> usize {
        let is_della = |sparsify: &Sparsify| matches!(sparsify.rule, SparsifyRule::Della { .. });
        if self.recipe.sparsify.as_ref().is_some_and(is_della) {
            let rows = self.tensors.iter().map(|tensor| tensor.row_elements);
            rows.max().unwrap_or(0)
        } else {
            0
        }
    }

    /// The runs of some tensors, in order.
    pub(crate) fn runs(
        &self,
        tensors: Range<usize>,
    ) -> impl Iterator<Item = Block> + Clone + Send + '_ {
        tensors.flat_map(move |tensor| {
            let elements = self.tensors[tensor].elements;
            (0..elements).step_by(RUN).map(move |offset| Block {
                tensor,
                offset,
                len: RUN.min(elements - offset),
            })
        })
    }

    /// How many runs the whole model has.
    pub(crate) fn run_count(&self) -> usize {
        self.tensors
            .iter()
            .map(|tensor| tensor.elements.div_ceil(RUN))
            .sum()
    }

    /// The sets of tensors over which one decision is taken.
    pub(crate) fn scopes(&self, scope: Scope) -> Vec<Range<usize>> {
        match scope {
            Scope::Model => std::iter::once(0..self.tensors.len()).collect(),
            Scope::Tensor => (0..self.tensors.len())
                .map(|tensor| tensor..tensor + 1)
                .collect(),
        }
    }

    /// The name of a tensor, for an error.
    pub(crate) fn tensor_name(&self, tensor: usize) -> String {
        self.tensors[tensor].name.clone()
    }

    fn check_sizes(&self) -> Result<(), PlanError> {
        let mut values = 0_usize;
        for tensor in &self.tensors {
            values = values
                .checked_add(tensor.elements)
                .ok_or(PlanError::TooLarge)?;
        }
        values
            .checked_mul(self.clients)
            .ok_or(PlanError::TooLarge)?;
        let ranks_rows = self.longest_ranked_row() > LONGEST_ROW;
        let is_long = |tensor: &&TensorExtent| tensor.row_elements > LONGEST_ROW;
        match self.tensors.iter().find(is_long).filter(|_| ranks_rows) {
            Some(tensor) => Err(PlanError::LongRow {
                tensor: tensor.name.clone(),
                row_elements: tensor.row_elements,
            }),
            None => Ok(()),
        }
    }
}

/// What the rows of one thread may take, so that they stay near the processor between the loops that work on them.
const CACHED_BYTES: usize = 1 << 20;
