//! What the server has sent of models, by client, since somebody last asked. Clones share it.
//!
//! Memory is an entry for each client that downloads between two rounds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use fedmerge_common::ids::ClientId;

/// Bytes sent, by client.
#[derive(Clone, Debug, Default)]
pub struct Traffic(Arc<Mutex<BTreeMap<ClientId, u64>>>);

impl Traffic {
    /// More has been sent.
    pub fn add(&self, client: &ClientId, bytes: u64) {
        let mut sent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match sent.get_mut(client) {
            Some(so_far) => *so_far += bytes,
            None => {
                sent.insert(client.clone(), bytes);
            }
        }
    }

    /// What was sent since this was asked last.
    #[must_use]
    pub fn take(&self) -> BTreeMap<ClientId, u64> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use super::*;

    #[test]
    fn bytes_add_up_until_they_are_taken() {
        let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
        let traffic = Traffic::default();
        let elsewhere = traffic.clone();
        elsewhere.add(&a, 3);
        elsewhere.add(&a, 4);
        elsewhere.add(&b, 1);
        assert_eq!(traffic.take(), BTreeMap::from([(a.clone(), 7), (b, 1)]));
        elsewhere.add(&a, 2);
        assert_eq!(traffic.take(), BTreeMap::from([(a, 2)]));
        assert!(traffic.take().is_empty());
    }
}
