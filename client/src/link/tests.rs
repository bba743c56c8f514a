//! How long a link waits before it tries again.

#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use fedmerge_proto::status::{Refusal, RefusalReason};
use tonic::service::Routes;

use super::*;
use crate::testbed::{Authority, serve};

async fn waits(retry_after: Millis) -> Vec<Duration> {
    let authority = Authority::new();
    let served = serve(&authority, Routes::default()).await;
    let link = served.link(&authority, Greeting::None);
    let mut retry = link.retry();
    let mut waits = Vec::new();
    for _ in 0..8 {
        let refusal = Refusal::new(RefusalReason::Busy, "crowded").with_retry_after(retry_after);
        let begun = Instant::now();
        retry.wait(Trouble::Refused(refusal)).await.unwrap();
        waits.push(begun.elapsed());
    }
    waits
}

#[tokio::test(start_paused = true)]
async fn a_client_comes_back_when_the_server_said_and_not_together_with_all_others() {
    let asked = Duration::from_secs(3);
    let waits = waits(Millis::from(asked)).await;
    for wait in &waits {
        // Timers have a resolution of a millisecond.
        assert!(*wait >= asked && *wait <= asked.mul_f64(1.5) + Duration::from_millis(1));
    }
    assert!(waits.iter().any(|wait| *wait != waits[0]), "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_for_years_of_patience_is_asked_before() {
    for wait in waits(Millis::new(u64::MAX)).await {
        assert!(wait <= 2 * LONGEST_ASKED_DELAY, "{wait:?}");
    }
}
