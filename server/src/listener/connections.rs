//! The connections of each key, so that those of a client that is shut out can be cut at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// Most connections of a key: a client needs one, and a second while it changes over. The oldest makes room.
const MOST_OF_A_KEY: usize = 16;

/// The open connections of the keys that were shown on them. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Connections {
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    by_key: BTreeMap<[u8; 32], BTreeMap<u64, CancellationToken>>,
    entered: u64,
}

impl Connections {
    /// Cuts every connection on which one of these keys was shown: its streams end in the middle.
    pub fn cut(&self, keys: &[[u8; 32]]) {
        let mut open = self.lock();
        for connection in keys.iter().filter_map(|key| open.by_key.remove(key)) {
            connection.into_values().for_each(|cut| cut.cancel());
        }
    }

    pub(super) fn enter(&self, key: [u8; 32]) -> Connection {
        let cut = CancellationToken::new();
        let mut open = self.lock();
        open.entered += 1;
        let number = open.entered;
        let of_key = open.by_key.entry(key).or_default();
        of_key.insert(number, cut.clone());
        if of_key.len() > MOST_OF_A_KEY
            && let Some((_, oldest)) = of_key.pop_first()
        {
            oldest.cancel();
        }
        drop(open);
        Connection {
            connections: self.clone(),
            key,
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
    key: [u8; 32],
    number: u64,
    /// Raised when it is cut.
    pub(super) cut: CancellationToken,
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        if let Some(connections) = open.by_key.get_mut(&self.key) {
            connections.remove(&self.number);
            if connections.is_empty() {
                open.by_key.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connections_of_a_key_are_cut_and_no_others_and_none_is_kept_in_mind() {
        let connections = Connections::default();
        let [first, second, other] = [1, 1, 2].map(|key| connections.enter([key; 32]));
        connections.cut(&[[1; 32], [3; 32]]);
        let are_cut = [&first, &second, &other].map(|one| one.cut.is_cancelled());
        assert_eq!(are_cut, [true, true, false]);
        drop((first, second, other));
        assert!(connections.lock().by_key.is_empty());
    }
    #[test]
    fn a_key_has_so_many_connections_and_the_oldest_makes_room() {
        let connections = Connections::default();
        let other = connections.enter([2; 32]);
        let all: Vec<_> = (0..=MOST_OF_A_KEY)
            .map(|_| connections.enter([1; 32]))
            .collect();
        let cut = all.iter().filter(|one| one.cut.is_cancelled());
        assert_eq!(cut.count(), 1);
        assert!(all[0].cut.is_cancelled() && !other.cut.is_cancelled());
        drop((all, other));
        assert!(connections.lock().by_key.is_empty());
    }
}
