//! How often a client may call, and how often an address may call or shake hands from which strangers come: a token bucket for each, so
//! that one that asks again and again does not take the others' time.
//!
//! Calls over the pace are refused with the time after which they are taken. Buckets that are full say nothing and are thrown away
//! where there are many.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use fedmerge_common::units::Millis;
use fedmerge_proto::status::{Refusal, RefusalReason};
use tokio::time::Instant;

/// So many times what a client may call in a second it may call at once, after it has been quiet.
const BURST: f64 = 5.0;
/// Buckets that are kept at most, twice the clients that a server has by default.
const MOST_BUCKETS: usize = 20_000;

/// The buckets of all who are told apart by `K`.
#[derive(Debug)]
pub(crate) struct Paces<K> {
    /// Calls in a second, in the long run.
    rate: f64,
    buckets: Mutex<BTreeMap<K, Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Calls that may be made now.
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    /// With what has run into it since.
    fn at(self, now: Instant, rate: f64) -> Self {
        let passed = now.saturating_duration_since(self.filled);
        Self {
            tokens: (self.tokens + passed.as_secs_f64() * rate).min(rate * BURST),
            filled: now,
        }
    }
}

impl<K: Ord + Clone> Paces<K> {
    pub(crate) fn new(calls_per_second: u32) -> Self {
        Self {
            rate: calls_per_second.into(),
            buckets: Mutex::default(),
        }
    }

    /// Takes a call.
    ///
    /// # Errors
    /// When it comes too early, with the time after which it does not.
    pub(crate) fn take(&self, caller: &K, now: Instant) -> Result<(), Refusal> {
        let most = self.rate * BURST;
        let full = Bucket {
            tokens: most,
            filled: now,
        };
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MOST_BUCKETS {
            buckets.retain(|_, bucket| bucket.at(now, self.rate).tokens < most);
        }
        if buckets.len() >= MOST_BUCKETS {
            buckets.clear();
        }
        let bucket = buckets.entry(caller.clone()).or_insert(full);
        *bucket = bucket.at(now, self.rate);
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        let wait = std::time::Duration::from_secs_f64((1.0 - bucket.tokens) / self.rate);
        let words = format!("more than {} calls a second", self.rate);
        let wait = Millis::from(wait) + Millis::new(1);
        Err(Refusal::new(RefusalReason::Busy, words).with_retry_after(wait))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use std::time::Duration;

    use fedmerge_common::ids::ClientId;

    use super::*;

    #[test]
    fn a_client_may_call_in_bursts_and_in_the_long_run_as_often_as_is_allowed() {
        let (paces, begun) = (Paces::new(10), Instant::now());
        let [eager, other] = ["eager", "other"].map(|name| name.parse::<ClientId>().unwrap());
        let at = |milliseconds| begun + Duration::from_millis(milliseconds);
        let taken = |client, milliseconds: u64, calls: usize| {
            let calls = (0..calls).map(|_| paces.take(client, at(milliseconds)));
            calls.filter(Result::is_ok).count()
        };
        assert_eq!(taken(&eager, 0, 100), 50);
        assert_eq!(taken(&other, 0, 1), 1);
        assert_eq!(taken(&eager, 1_000, 100), 10);
        let refusal = paces.take(&eager, at(1_000)).unwrap_err();
        assert_eq!(refusal.reason, RefusalReason::Busy);
        let wait = refusal.retry_after.unwrap().get();
        assert!((100..=102).contains(&wait), "{wait}");
        assert_eq!(paces.take(&eager, at(1_000 + wait)), Ok(()));
        assert_eq!(taken(&eager, 3_600_000, 100), 50);
    }

    #[test]
    fn there_are_never_more_buckets_than_are_kept() {
        let (paces, begun) = (Paces::new(1), Instant::now());
        for caller in 0..3 * MOST_BUCKETS {
            assert_eq!(paces.take(&caller, begun), Ok(()));
            assert!(paces.buckets.lock().unwrap().len() <= MOST_BUCKETS);
        }
        // Those that are full again go first.
        let later = begun + Duration::from_secs(60);
        paces.take(&0, later).unwrap();
        for caller in 0..MOST_BUCKETS {
            paces.take(&(1_000_000 + caller), later).unwrap();
        }
        assert!(paces.buckets.lock().unwrap().len() <= MOST_BUCKETS);
    }
}
