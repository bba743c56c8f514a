//! Why a merge failed, told with the client, the tensor and the place.

use crate::block::BlockError;

/// Why a merge failed. What the sinks were given until then is worthless.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// There are not as many task vectors as planned.
    #[error("the merge was planned for {planned} task vectors and got {given}")]
    Contributions {
        /// As planned.
        planned: usize,
        /// As given.
        given: usize,
    },
    /// A weight has no meaning for the method.
    #[error("the weight {weight} of task vector {client} has no meaning for {method}: {meaning}")]
    Weight {
        /// Its position among the contributions.
        client: usize,
        /// Its weight.
        weight: f64,
        /// The method.
        method: &'static str,
        /// What a weight may be.
        meaning: &'static str,
    },
    /// The weights leave nothing to divide by.
    #[error("the weights add up to {total}, which cannot be divided by")]
    Weights {
        /// Their sum.
        total: f64,
    },
    /// The rule compares with a trusted task vector, and none is named.
    #[error("{method} compares task vectors with a trusted one, and none of these is")]
    NoTrusted {
        /// The method.
        method: &'static str,
    },
    /// A task vector has a value that is no number.
    #[error("task vector {client} has {value} at {index} of tensor {tensor}")]
    NonFinite {
        /// Its position among the contributions.
        client: usize,
        /// The tensor's name.
        tensor: String,
        /// Which of its values.
        index: usize,
        /// `NaN`, `inf` or `-inf`.
        value: f64,
    },
    /// A task vector could not be read.
    #[error("task vector {client} could not be read at {offset} of tensor {tensor}")]
    ReadUpdate {
        /// Its position among the contributions.
        client: usize,
        /// The tensor's name.
        tensor: String,
        /// The block's first value.
        offset: usize,
        /// What went wrong.
        #[source]
        source: BlockError,
    },
    /// The base, or what the lineage left, could not be read.
    #[error("{what} could not be read at {offset} of tensor {tensor}")]
    Read {
        /// What.
        what: &'static str,
        /// The tensor's name.
        tensor: String,
        /// The block's first value.
        offset: usize,
        /// What went wrong.
        #[source]
        source: BlockError,
    },
    /// The merged model, or what it leaves to the next merge, could not be written.
    #[error("{what} could not be written at {offset} of tensor {tensor}")]
    Write {
        /// What.
        what: &'static str,
        /// The tensor's name.
        tensor: String,
        /// The block's first value.
        offset: usize,
        /// What went wrong.
        #[source]
        source: BlockError,
    },
    /// The caller stopped it.
    #[error("the merge was cancelled")]
    Cancelled,
}
