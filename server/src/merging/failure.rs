//! Why a merge did not succeed: the reason with which its round is abandoned.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use fedmerge_common::checkpoint::{ReadCheckpointError, WriteCheckpointError};
use fedmerge_common::ids::ClientId;
use fedmerge_common::task_vector::coded::ReadTaskVectorError;
use fedmerge_merge::{MergeError, PlanError};

use super::updates::Ordered;

/// A merge that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum MergeFailure {
    /// The base cannot be read.
    #[error("the base cannot be read")]
    Base(#[source] ReadCheckpointError),
    /// The candidate that was written cannot be read.
    #[error("the merged model cannot be read")]
    Candidate(#[source] ReadCheckpointError),
    /// A client's update cannot be read.
    #[error("the update of {client} cannot be read")]
    Update {
        /// Whose.
        client: ClientId,
        /// Why.
        #[source]
        source: ReadTaskVectorError,
    },
    /// Updates that were accepted are not there any more.
    #[error("{} of the updates are lost", lost.len())]
    Lost {
        /// Whose, and what was found.
        lost: BTreeMap<ClientId, String>,
    },
    /// Nothing was accepted from the client whom the method trusts.
    #[error(
        "{method} compares every update with that of {client}, whom the plan trusts, and it is not among those that were accepted"
    )]
    Trusted {
        /// The method.
        method: &'static str,
        /// The client.
        client: ClientId,
    },
    /// What an earlier merge left cannot be read.
    #[error("`{}`, which an earlier merge left, cannot be read", path.display())]
    Past {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The recipe cannot be run with these updates.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The engine failed.
    #[error("the merge failed")]
    Engine(#[source] MergeError),
    /// The engine failed on one client's update.
    #[error("the update of {client} cannot be merged")]
    Contribution {
        /// Whose.
        client: ClientId,
        /// Why.
        #[source]
        source: MergeError,
    },
    /// A tensor that is not merged cannot be carried over.
    #[error("tensor `{tensor}` cannot be carried over")]
    Carry {
        /// The tensor.
        tensor: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The candidate cannot be written.
    #[error("the candidate cannot be written")]
    Write(#[source] WriteCheckpointError),
    /// A file beside the candidate cannot be written.
    #[error("`{}` cannot be written", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The result is useless.
    #[error("{count} values of the merged model are not finite")]
    NonFinite {
        /// How many.
        count: u64,
    },
}

impl MergeFailure {
    /// What the engine says, with the name of the client whom it knows by its place.
    pub(super) fn engine(source: MergeError, ordered: &[Ordered]) -> Self {
        let place = match &source {
            MergeError::Weight { client, .. }
            | MergeError::NonFinite { client, .. }
            | MergeError::ReadUpdate { client, .. } => Some(*client),
            MergeError::Contributions { .. }
            | MergeError::Weights { .. }
            | MergeError::NoTrusted { .. }
            | MergeError::Read { .. }
            | MergeError::Write { .. }
            | MergeError::Cancelled => None,
        };
        match place.and_then(|place| ordered.get(place)) {
            Some(ordered) => Self::Contribution {
                client: ordered.client.clone(),
                source,
            },
            None => Self::Engine(source),
        }
    }

    /// A file that an earlier merge left is of no use.
    pub(super) fn past(
        path: &Path,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Past {
            path: path.to_owned(),
            source: source.into(),
        }
    }

    /// A file beside the candidate cannot be written.
    pub(super) fn file(path: &Path, source: io::Error) -> Self {
        Self::File {
            path: path.to_owned(),
            source,
        }
    }
}
