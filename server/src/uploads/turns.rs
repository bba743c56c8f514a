//! One commit of a client at a time, so that what one puts in place is decided before the next is looked at.
//!
//! Memory is a lock for each client that ever committed: as many as may be enrolled.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use fedmerge_common::ids::ClientId;
use tokio::sync::{Mutex as Lock, OwnedMutexGuard};

/// Whose turn it is.
#[derive(Debug, Default)]
pub struct Turns {
    locks: Mutex<BTreeMap<ClientId, Arc<Lock<()>>>>,
}

/// A client's turn to commit, until dropped.
#[derive(Debug)]
pub struct Turn {
    pub(super) client: ClientId,
    _held: OwnedMutexGuard<()>,
}

impl Turns {
    /// Waits until no other commit of the client is under way.
    pub(super) async fn take(&self, client: &ClientId) -> Turn {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(locks.entry(client.clone()).or_default())
        };
        Turn {
            client: client.clone(),
            _held: lock.lock_owned().await,
        }
    }
}
