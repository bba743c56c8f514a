//! What has travelled of models and updates, by client, since somebody last asked. Clones share it.
//!
//! Memory is an entry for each client that transfers anything between two rounds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use fedmerge_common::ids::ClientId;

/// Bytes as they were on the wire: packed ones count as what they were packed to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Travelled {
    /// Of updates, to the server.
    pub up_bytes: u64,
    /// Of models, to the client.
    pub down_bytes: u64,
}

/// Bytes that have travelled, by client.
#[derive(Clone, Debug, Default)]
pub struct Traffic(Arc<Mutex<BTreeMap<ClientId, Travelled>>>);

impl Traffic {
    /// More came from a client.
    pub fn add_up(&self, client: &ClientId, bytes: u64) {
        self.add(client, |travelled| travelled.up_bytes += bytes);
    }

    /// More was sent to a client.
    pub fn add_down(&self, client: &ClientId, bytes: u64) {
        self.add(client, |travelled| travelled.down_bytes += bytes);
    }

    fn add(&self, client: &ClientId, add: impl FnOnce(&mut Travelled)) {
        let mut travelled = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match travelled.get_mut(client) {
            Some(so_far) => add(so_far),
            None => add(travelled.entry(client.clone()).or_default()),
        }
    }

    /// What travelled since this was asked last.
    #[must_use]
    pub fn take(&self) -> BTreeMap<ClientId, Travelled> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use super::*;

    #[test]
    fn bytes_add_up_in_each_direction_until_they_are_taken() {
        let (a, b): (ClientId, ClientId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let traffic = Traffic::default();
        let elsewhere = traffic.clone();
        elsewhere.add_down(&a, 3);
        elsewhere.add_down(&a, 4);
        elsewhere.add_up(&a, 2);
        elsewhere.add_up(&b, 1);
        let bytes = |up_bytes, down_bytes| Travelled {
            up_bytes,
            down_bytes,
        };
        let expected = BTreeMap::from([(a.clone(), bytes(2, 7)), (b, bytes(1, 0))]);
        assert_eq!(traffic.take(), expected);
        elsewhere.add_down(&a, 2);
        assert_eq!(traffic.take(), BTreeMap::from([(a, bytes(0, 2))]));
        assert!(traffic.take().is_empty());
    }
}
