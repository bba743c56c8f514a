//! Rejections that are counted, begun anew, told of twice, and too many.

use fedmerge_common::ids::ClientId;
use fedmerge_common::reason::{Decline, DeclineKind, Rejection};
use fedmerge_coordinator::{ClientOutcome, UpdateRef};

use super::*;
use crate::store::ledger::{Approval, ClientState};

const LIMIT: u32 = 3;

fn a() -> ClientId {
    "a".parse().unwrap()
}

async fn with_client() -> (TempDir, Ledger) {
    let (directory, ledger) = new_ledger().await;
    ledger.add_token(&token("t1", 9)).await.unwrap();
    ledger.admit(&wish("t1", "a", 1)).await.unwrap().unwrap();
    (directory, ledger)
}

fn rejected() -> ClientOutcome {
    ClientOutcome::Rejected(Rejection::non_finite("w", 0, f32::NAN))
}

fn accepted() -> ClientOutcome {
    ClientOutcome::Accepted {
        update: UpdateRef {
            payload: Digest::of(b"update"),
            num_examples: 1,
            bytes: 6,
        },
        at: Timestamp::new(1),
    }
}

/// Rounds that end like this for the client, from round `first` on; how many keys were shut out, and how it stands.
async fn rounds(ledger: &Ledger, first: u64, outcomes: &[ClientOutcome]) -> (usize, ClientState) {
    let mut shut_out = 0;
    for (outcome, round) in outcomes.iter().zip(first..) {
        let summary = RoundSummary {
            clients: BTreeMap::from([(a(), outcome.clone())]),
            ..summary(round)
        };
        shut_out += ledger
            .count_rejections(&summary, LIMIT)
            .await
            .unwrap()
            .len();
        // Told of again, as after a crash.
        let again = ledger.count_rejections(&summary, LIMIT).await.unwrap();
        assert_eq!(again, Vec::<[u8; 32]>::new());
    }
    let client = ledger.client(&a()).await.unwrap().unwrap();
    (shut_out, client.state)
}

#[tokio::test]
async fn a_client_that_is_rejected_too_often_in_a_row_is_shut_out_until_a_person_has_looked() {
    let (_directory, ledger) = with_client().await;
    let declined = ClientOutcome::Declined(Decline::new(DeclineKind::Policy, "no"));
    // Rounds without an update say nothing; one that counts begins the number anew.
    let first = [
        rejected(),
        declined,
        rejected(),
        accepted(),
        rejected(),
        rejected(),
    ];
    assert_eq!(rounds(&ledger, 1, &first).await, (0, ClientState::Admitted));
    assert_eq!(
        rounds(&ledger, 7, &[rejected()]).await,
        (1, ClientState::Quarantined)
    );
    let lines = ledger.audit_lines(0).await.unwrap();
    let last = lines.last().unwrap();
    assert!(
        last.contains("client-quarantined") && last.contains("non-finite"),
        "{last}"
    );

    let approval = ledger.approve(&a(), Timestamp::new(9)).await.unwrap();
    assert_eq!(approval, Approval::Approved);
    let more = [rejected(), rejected()];
    assert_eq!(rounds(&ledger, 8, &more).await, (0, ClientState::Admitted));
    assert_eq!(
        rounds(&ledger, 10, &[rejected()]).await,
        (1, ClientState::Quarantined)
    );
}

#[tokio::test]
async fn whoever_is_not_enrolled_any_more_is_not_counted() {
    let (_directory, ledger) = with_client().await;
    ledger.evict(&a(), "lost", Timestamp::new(5)).await.unwrap();
    let summary = RoundSummary {
        clients: BTreeMap::from([(a(), rejected())]),
        ..summary(1)
    };
    let keys = ledger.count_rejections(&summary, 1).await.unwrap();
    assert_eq!(keys, Vec::<[u8; 32]>::new());
}
