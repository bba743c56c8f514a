//! The connections of each key, so that those of a client that is shut out can be cut at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fedmerge_common::identity::Identity;
use tokio_util::sync::CancellationToken;

/// The open connections of those who have shown a certificate. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Connections {
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    /// The oldest of each owner first.
    by_owner: BTreeMap<Identity, BTreeMap<u64, Entry>>,
    entered: u64,
}

#[derive(Debug)]
struct Entry {
    key: [u8; 32],
    cut: CancellationToken,
}

impl Connections {
    /// Cuts every connection on which one of these keys was shown: its streams end in the middle.
    pub fn cut(&self, keys: &[[u8; 32]]) {
        let mut open = self.lock();
        for entries in open.by_owner.values_mut() {
            let is_theirs = |entry: &Entry| keys.contains(&entry.key);
            for (_, entry) in entries.extract_if(.., |_, entry| is_theirs(entry)) {
                entry.cut.cancel();
            }
        }
    }

    /// Enters a connection of an owner, who has `most` at a time, whatever keys it shows: the oldest makes room.
    pub(super) fn enter(&self, owner: &Identity, key: [u8; 32], most: usize) -> Connection {
        let cut = CancellationToken::new();
        let mut open = self.lock();
        open.entered += 1;
        let number = open.entered;
        let of_owner = open.by_owner.entry(owner.clone()).or_default();
        let entry = Entry {
            key,
            cut: cut.clone(),
        };
        of_owner.insert(number, entry);
        if of_owner.len() > most
            && let Some((_, oldest)) = of_owner.pop_first()
        {
            oldest.cut.cancel();
        }
        drop(open);
        Connection {
            connections: self.clone(),
            owner: owner.clone(),
            number,
            cut,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection of a key, open until it is dropped.
#[derive(Debug)]
pub(super) struct Connection {
    connections: Connections,
    owner: Identity,
    number: u64,
    /// Raised when it is cut.
    pub(super) cut: CancellationToken,
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        if let Some(connections) = open.by_owner.get_mut(&self.owner) {
            connections.remove(&self.number);
            if connections.is_empty() {
                open.by_owner.remove(&self.owner);
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use super::*;

    fn client(name: &str) -> Identity {
        Identity::Client(name.parse().unwrap())
    }

    #[test]
    fn the_connections_of_a_key_are_cut_and_no_others_and_none_is_kept_in_mind() {
        let connections = Connections::default();
        let (a, b) = (client("a"), client("b"));
        let all = [(&a, 1), (&a, 1), (&a, 4), (&b, 2)];
        let all = all.map(|(owner, key)| connections.enter(owner, [key; 32], 9));
        connections.cut(&[[1; 32], [3; 32]]);
        let are_cut = all.each_ref().map(|one| one.cut.is_cancelled());
        assert_eq!(are_cut, [true, true, false, false]);
        drop(all);
        assert!(connections.lock().by_owner.is_empty());
    }

    #[test]
    fn an_owner_has_so_many_connections_whatever_keys_it_shows_and_the_oldest_makes_room() {
        let connections = Connections::default();
        let other = connections.enter(&client("b"), [9; 32], 4);
        let all: Vec<_> = (0..5)
            .map(|key| connections.enter(&client("a"), [key; 32], 4))
            .collect();
        let cut = all.iter().filter(|one| one.cut.is_cancelled());
        assert_eq!(cut.count(), 1);
        assert!(all[0].cut.is_cancelled() && !other.cut.is_cancelled());
        drop((all, other));
        assert!(connections.lock().by_owner.is_empty());
    }
}
