//! Bytes in both directions, in chunks whose digests are checked one by one.
//!
//! A transfer that breaks off goes on where it stopped, by the link's retry policy, and each wait is for progress, not
//! for the whole. Nothing received is used before the digest of the whole file is right.

pub mod download;
mod near;
pub mod upload;

use std::path::PathBuf;
use std::time::Duration;

use fedmerge_common::reason::{Decline, DeclineKind};

use crate::link::trouble::{Trouble, ends_the_client};
use crate::submission::with_sources;

/// Longest wait for the next chunk or acknowledgement.
pub(crate) const PROGRESS_LIMIT: Duration = Duration::from_secs(60);

/// Why a transfer ended without its goal.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The link, for good.
    #[error("the server cannot be used")]
    Link(#[source] Trouble),
    /// This machine's disk.
    #[error("{} cannot be used", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The whole file was wrong again and again, though every chunk was right.
    #[error("the base does not have its digest after {attempts} whole downloads")]
    WrongBytes {
        /// Downloads made.
        attempts: u32,
    },
}

impl TransferError {
    /// The decline for what only this task suffers from, or the trouble that ends the client.
    ///
    /// # Errors
    /// Trouble that the next round would meet as well.
    pub fn into_decline(self) -> Result<Decline, Trouble> {
        match self {
            Self::Link(Trouble::Refused(refusal)) if !ends_the_client(refusal.reason) => {
                let detail = format!(
                    "the server refused ({}): {}",
                    refusal.reason, refusal.detail
                );
                Ok(Decline::new(DeclineKind::Storage, detail))
            }
            Self::Link(trouble) => Err(trouble),
            Self::Disk { path, source } => {
                // The path is for this site alone.
                tracing::warn!(path = %path.display(), error = %source, "disk not usable");
                let detail = format!("the client's disk cannot be used: {source}");
                Ok(Decline::new(DeclineKind::Storage, detail))
            }
            Self::WrongBytes { .. } => Ok(Decline::new(
                DeclineKind::Storage,
                with_sources("the transfer failed", &self),
            )),
        }
    }
}

#[cfg(test)]
mod tests;
