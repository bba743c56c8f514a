//! Which downloads run. Each takes memory for what is on its way to the wire: so many run at once, and one of each client.
//!
//! A client that asks again has no use for the stream before: its connection may be broken without anybody on this side having noticed. Others
//! wait their turn, in their order, and are told to come back before they give up.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fedmerge_common::ids::ClientId;
use fedmerge_common::units::Millis;
use fedmerge_proto::status::{Refusal, RefusalReason};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::rpc::access::Caller;

/// How long a client waits for its turn: less than it waits for the first bytes.
const PATIENCE: Duration = Duration::from_secs(20);
/// After which it comes back.
const PAUSE: Millis = Millis::from_secs(1);

/// The running downloads.
#[derive(Debug)]
pub(super) struct Downloads {
    limit: usize,
    turns: Arc<Semaphore>,
    /// The newest of each client; as many as are enrolled.
    newest: Mutex<BTreeMap<ClientId, CancellationToken>>,
}

/// A download's turn, until dropped.
#[derive(Debug)]
pub(super) struct Turn {
    /// Raised when the client has another.
    pub(super) given_up: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

impl Downloads {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            turns: Arc::new(Semaphore::new(limit)),
            newest: Mutex::new(BTreeMap::new()),
        }
    }

    /// Waits for the caller's turn, and ends the download that it has.
    ///
    /// # Errors
    /// When others take too long, or the caller has come again.
    pub(super) async fn turn(&self, caller: &Caller) -> Result<Turn, Refusal> {
        let given_up = CancellationToken::new();
        if let Caller::Client(client) = caller {
            let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(before) = newest.insert(client.clone(), given_up.clone()) {
                before.cancel();
            }
        }
        let waiting = timeout(PATIENCE, Arc::clone(&self.turns).acquire_owned());
        match given_up.run_until_cancelled(waiting).await {
            Some(Ok(Ok(permit))) => Ok(Turn {
                given_up,
                _permit: permit,
            }),
            Some(Ok(Err(_)) | Err(_)) => {
                let words = format!("{} others download now", self.limit);
                Err(Refusal::new(RefusalReason::Busy, words).with_retry_after(PAUSE))
            }
            None => {
                let words = "the client has asked for another download";
                Err(Refusal::new(RefusalReason::Busy, words))
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Waker};

    use super::*;

    fn waits<F: Future>(turn: &mut Pin<Box<F>>) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        turn.as_mut().poll(&mut context).is_pending()
    }

    fn client(name: &str) -> Caller {
        Caller::Client(name.parse().unwrap())
    }

    #[tokio::test]
    async fn whoever_comes_next_waits_its_turn() {
        let downloads = Downloads::new(1);
        let first = downloads.turn(&client("a")).await.unwrap();
        let (b, c) = (client("b"), client("c"));
        let mut second = Box::pin(downloads.turn(&b));
        let mut third = Box::pin(downloads.turn(&c));
        assert!(waits(&mut second));
        assert!(waits(&mut third));
        drop(first);
        assert!(waits(&mut third), "not before the second");
        drop(second.await.unwrap());
        third.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_too_long_is_told_when_to_come_back() {
        let downloads = Downloads::new(2);
        let _first = downloads.turn(&client("a")).await.unwrap();
        let _second = downloads.turn(&client("b")).await.unwrap();
        let refusal = downloads.turn(&client("c")).await.unwrap_err();
        assert_eq!(refusal.reason, RefusalReason::Busy);
        assert_eq!(refusal.retry_after, Some(PAUSE));
        assert_eq!(refusal.detail, "2 others download now");
    }

    #[tokio::test]
    async fn a_client_that_asks_again_ends_what_it_asked_for_before() {
        let downloads = Downloads::new(2);
        let before = downloads.turn(&client("a")).await.unwrap();
        let _other = downloads.turn(&client("b")).await.unwrap();
        let a = client("a");
        let mut waiting = Box::pin(downloads.turn(&a));
        assert!(waits(&mut waiting));
        assert!(before.given_up.is_cancelled());
        let mut newest = Box::pin(downloads.turn(&a));
        assert!(waits(&mut newest));
        assert_eq!(waiting.await.unwrap_err().reason, RefusalReason::Busy);
        drop(before);
        assert!(!newest.await.unwrap().given_up.is_cancelled());
    }
}
