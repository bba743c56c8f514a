//! Those who have not shown who they are: whoever shakes hands, and whoever came through without a certificate.
//!
//! They are taken in without waiting and cost little, so that nobody is kept out by those who do nothing. Over the limit the oldest of
//! the address that has the most of them is given up: a crowd of one address takes the places of its own, and a machine that goes on
//! with its handshake has been there for milliseconds.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// The part of an IPv6 address that one subscriber has: the last 64 bits are its own to choose.
const SUBSCRIBER: u128 = !(u64::MAX as u128);

/// The strangers of a door. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Strangers {
    places: Arc<Mutex<Places>>,
    limit: usize,
}

#[derive(Debug, Default)]
struct Places {
    /// By address, the oldest first.
    taken: BTreeMap<IpAddr, BTreeMap<u64, CancellationToken>>,
    count: usize,
    entered: u64,
}

impl Strangers {
    /// Nobody yet, and at most `limit`.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            places: Arc::default(),
            limit,
        }
    }

    /// Takes a stranger in, and gives another up where there are too many.
    pub(super) fn enter(&self, address: IpAddr) -> Stranger {
        let address = subscriber(address);
        let given_up = CancellationToken::new();
        let mut places = self.lock();
        places.entered += 1;
        places.count += 1;
        let number = places.entered;
        let of_address = places.taken.entry(address).or_default();
        of_address.insert(number, given_up.clone());
        if places.count > self.limit {
            places.give_up_one();
        }
        drop(places);
        Stranger {
            strangers: self.clone(),
            address,
            number,
            given_up,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    fn give_up_one(&mut self) {
        let oldest = self.taken.iter().filter_map(|(address, places)| {
            let (number, _) = places.first_key_value()?;
            Some((places.len(), Reverse(*number), *address))
        });
        // Of addresses that have equally many, the one that has been here longest.
        let Some((_, Reverse(number), address)) = oldest.max() else {
            return;
        };
        if let Some(given_up) = self.remove(address, number) {
            given_up.cancel();
        }
    }

    fn remove(&mut self, address: IpAddr, number: u64) -> Option<CancellationToken> {
        let places = self.taken.get_mut(&address)?;
        let removed = places.remove(&number)?;
        if places.is_empty() {
            self.taken.remove(&address);
        }
        self.count -= 1;
        Some(removed)
    }
}

/// What counts as one address.
pub(super) fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) & SUBSCRIBER)),
        address @ IpAddr::V4(_) => address,
    }
}

/// One stranger, until it is dropped.
#[derive(Debug)]
pub(super) struct Stranger {
    strangers: Strangers,
    address: IpAddr,
    number: u64,
    /// Raised when it has to make room.
    pub(super) given_up: CancellationToken,
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _given_up = self.strangers.lock().remove(self.address, self.number);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_of_one_address_takes_the_places_of_its_own() {
        let strangers = Strangers::new(3);
        let enter = |address: &str| strangers.enter(address.parse().unwrap());
        let honest = enter("10.0.0.1");
        let crowd: Vec<_> = (0..100).map(|_| enter("10.0.0.2")).collect();
        assert!(!honest.given_up.is_cancelled());
        let given_up: Vec<bool> = crowd
            .iter()
            .map(|stranger| stranger.given_up.is_cancelled())
            .collect();
        assert_eq!(given_up, [vec![true; 98], vec![false; 2]].concat());
        drop(crowd);
        let places = strangers.lock();
        assert_eq!((places.count, places.taken.len()), (1, 1));
    }

    #[test]
    fn of_many_addresses_the_newest_find_a_place() {
        let strangers = Strangers::new(3);
        let all: Vec<_> = (0..100)
            .map(|number| strangers.enter(format!("10.0.0.{number}").parse().unwrap()))
            .collect();
        assert!(!all.last().unwrap().given_up.is_cancelled());
        let stay = all.iter().filter(|one| !one.given_up.is_cancelled());
        assert_eq!(stay.count(), 3);
        drop(all);
        assert_eq!(strangers.lock().count, 0);
    }

    #[test]
    fn the_addresses_of_one_subscriber_are_one() {
        for (a, b, is_one) in [
            ("2001:db8::1", "2001:db8::ffff:1", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("::ffff:10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
        ] {
            let [a, b] = [a, b].map(|text| subscriber(text.parse().unwrap()));
            assert_eq!(a == b, is_one, "{a} {b}");
        }
    }
}
