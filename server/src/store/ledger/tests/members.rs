//! Clients that wait, are approved, renew, are copied and are evicted.

use fedmerge_common::identity::Issuer;
use fedmerge_proto::status::{Refusal, RefusalReason};

use super::*;
use crate::store::ledger::{
    AdmissionRefusal, Approval, ClientState, EnrolledClient, MemberRefusal, Renewal, ShownKey,
};

/// A ledger in which client `a` has enrolled with key 1, at 150, and its certificate ends at 1,000.
async fn with_client(adapt: impl FnOnce(&mut TokenRow)) -> (TempDir, Ledger) {
    let (directory, ledger) = new_ledger().await;
    let mut token = token("t1", 9);
    adapt(&mut token);
    ledger.add_token(&token).await.unwrap();
    let _waiting = ledger.admit(&wish("t1", "a", 1)).await.unwrap();
    (directory, ledger)
}

fn a() -> fedmerge_common::ids::ClientId {
    "a".parse().unwrap()
}

async fn client(ledger: &Ledger) -> EnrolledClient {
    ledger.client(&a()).await.unwrap().unwrap()
}

/// Shows a key on a connection that began at `connected`.
async fn show_since(ledger: &Ledger, key: u8, connected: u64) -> Result<(), RefusalReason> {
    let shown = ShownKey {
        issuer: Issuer::Federation,
        key: [key; 32],
        connected: Timestamp::new(connected),
        now: Timestamp::new(500),
    };
    let recognised = ledger.recognise(&a(), shown).await.unwrap();
    recognised.map_err(|refusal| Refusal::from(refusal).reason)
}

async fn show(ledger: &Ledger, key: u8) -> Result<(), RefusalReason> {
    show_since(ledger, key, 500).await
}

fn renewal(key: u8, next: u8) -> Renewal {
    Renewal {
        client: a(),
        key: [key; 32],
        next_key: [next; 32],
        now: Timestamp::new(400),
        until: Timestamp::new(2_000),
        absence: Millis::new(300),
        spacing: Millis::ZERO,
    }
}

async fn renew(ledger: &Ledger, renewal: &Renewal) -> Result<(), MemberRefusal> {
    ledger.renew(renewal).await.unwrap().map(drop)
}

#[tokio::test]
async fn whoever_waits_for_approval_is_told_so_until_a_person_approves() {
    let (_directory, ledger) = with_client(|token| token.needs_approval = true).await;
    assert_eq!(client(&ledger).await.state, ClientState::Waiting);
    let again = ledger.admit(&wish("t1", "a", 1)).await.unwrap();
    let refusal = Refusal::from(again.unwrap_err());
    assert_eq!(refusal.reason, RefusalReason::ApprovalPending);
    assert!(refusal.detail.contains("clients approve a"), "{refusal}");
    assert_eq!(show(&ledger, 1).await, Err(RefusalReason::ApprovalPending));
    assert_eq!(client(&ledger).await.until, None);
    assert_eq!(ledger.tokens().await.unwrap()[0].used, 1);

    assert_eq!(
        ledger.approve(&a(), Timestamp::new(550)).await.unwrap(),
        Approval::Approved
    );
    let again = ledger.approve(&a(), Timestamp::new(550)).await.unwrap();
    assert_eq!(again, Approval::AlreadyAdmitted);
    let nobody = ledger
        .approve(&"b".parse().unwrap(), Timestamp::new(550))
        .await
        .unwrap();
    assert_eq!(nobody, Approval::Unknown);
    ledger.admit(&wish("t1", "a", 1)).await.unwrap().unwrap();
    assert_eq!(show(&ledger, 1).await, Ok(()));
    assert_eq!(client(&ledger).await.until, Some(Timestamp::new(1_000)));
    assert_eq!(ledger.tokens().await.unwrap()[0].used, 1);
}

#[tokio::test]
async fn a_renewed_key_counts_from_its_first_use_and_the_old_one_until_then() {
    let (_directory, ledger) = with_client(|_| {}).await;
    // An answer that was lost is asked for again, and a key that was not used gives way to another.
    for next in [2, 2, 3, 2] {
        assert_eq!(renew(&ledger, &renewal(1, next)).await, Ok(()));
        assert_eq!(show(&ledger, 1).await, Ok(()));
    }
    assert_eq!(show(&ledger, 3).await, Err(RefusalReason::ClientUnknown));
    assert_eq!(client(&ledger).await.renewals, 0);
    assert_eq!(show(&ledger, 2).await, Ok(()));
    let renewed = client(&ledger).await;
    assert_eq!((renewed.key, renewed.next_key), ([2; 32], None));
    assert_eq!(renewed.renewals, 1);
    assert_eq!(renewed.until, Some(Timestamp::new(2_000)));
    // What is under way on a connection that began before goes on.
    assert_eq!(show_since(&ledger, 1, 499).await, Ok(()));
    assert_eq!(client(&ledger).await.state, ClientState::Admitted);
    // The key of a renewal may sign the next one before it is used otherwise.
    assert_eq!(renew(&ledger, &renewal(2, 4)).await, Ok(()));
    assert_eq!(renew(&ledger, &renewal(4, 5)).await, Ok(()));
    assert_eq!(client(&ledger).await.key, [4; 32]);
}

#[tokio::test]
async fn a_copy_that_comes_with_an_older_key_locks_the_client_until_a_person_has_looked() {
    for by_renewal in [false, true] {
        let (_directory, ledger) = with_client(|_| {}).await;
        renew(&ledger, &renewal(1, 2)).await.unwrap();
        show(&ledger, 2).await.unwrap();
        if by_renewal {
            let refusal = renew(
                &ledger,
                &Renewal {
                    now: Timestamp::new(600),
                    ..renewal(1, 3)
                },
            )
            .await;
            assert_eq!(refusal, Err(MemberRefusal::Locked { client: a() }));
        } else {
            assert_eq!(show(&ledger, 1).await, Err(RefusalReason::ClientLocked));
        }
        assert_eq!(client(&ledger).await.state, ClientState::Locked);
        assert_eq!(show(&ledger, 2).await, Err(RefusalReason::ClientLocked));
        let refusal = renew(&ledger, &renewal(2, 3)).await;
        assert_eq!(refusal, Err(MemberRefusal::Locked { client: a() }));
        assert_eq!(
            ledger.approve(&a(), Timestamp::new(550)).await.unwrap(),
            Approval::Approved
        );
        assert_eq!(show(&ledger, 2).await, Ok(()));
    }
}

#[tokio::test]
async fn a_retired_key_of_one_client_shuts_no_other_out() {
    let (_directory, ledger) = with_client(|_| {}).await;
    ledger.admit(&wish("t1", "b", 7)).await.unwrap().unwrap();
    renew(&ledger, &renewal(1, 2)).await.unwrap();
    show(&ledger, 2).await.unwrap();
    let b = || "b".parse().unwrap();
    // A wish under another's name, signed with a key that its sender has used up; and with one of a client that was evicted.
    let foreign = Renewal {
        client: b(),
        ..renewal(1, 9)
    };
    let other = MemberRefusal::OtherKey { client: b() };
    assert_eq!(renew(&ledger, &foreign).await, Err(other.clone()));
    ledger
        .evict(&a(), "lost", Timestamp::new(700))
        .await
        .unwrap();
    assert_eq!(renew(&ledger, &foreign).await, Err(other));
    let client = ledger.client(&b()).await.unwrap().unwrap();
    assert_eq!(client.state, ClientState::Admitted);
}

#[tokio::test]
async fn an_evicted_clients_keys_are_refused_for_good_and_its_name_is_free() {
    let (_directory, ledger) = with_client(|_| {}).await;
    renew(&ledger, &renewal(1, 2)).await.unwrap();
    show(&ledger, 2).await.unwrap();
    renew(&ledger, &renewal(2, 3)).await.unwrap();
    let now = Timestamp::new(700);
    let mut keys = ledger.evict(&a(), "lost", now).await.unwrap().unwrap();
    keys.sort_unstable();
    assert_eq!(keys, [[1; 32], [2; 32], [3; 32]]);
    assert_eq!(ledger.evict(&a(), "lost", now).await.unwrap(), None);
    assert_eq!(ledger.clients().await.unwrap(), []);
    for key in 1..=3 {
        // Also on a connection that began long before.
        assert_eq!(
            show_since(&ledger, key, 0).await,
            Err(RefusalReason::ClientEvicted)
        );
        let refusal = renew(&ledger, &renewal(key, 9)).await.unwrap_err();
        assert_eq!(refusal.to_string(), "client `a` was evicted: lost");
        let back = ledger.admit(&wish("t1", "a", key)).await.unwrap().map(drop);
        let refused = AdmissionRefusal::Member(refusal);
        assert_eq!(back, Err(refused));
    }
    ledger.admit(&wish("t1", "a", 7)).await.unwrap().unwrap();
    assert_eq!(show(&ledger, 7).await, Ok(()));
    assert_eq!(show(&ledger, 2).await, Err(RefusalReason::ClientEvicted));
}

#[tokio::test]
async fn a_client_comes_back_as_long_after_its_certificates_end_as_the_settings_say() {
    let (_directory, ledger) = with_client(|_| {}).await;
    let at = |now| Renewal {
        now: Timestamp::new(now),
        ..renewal(1, 2)
    };
    assert_eq!(renew(&ledger, &at(1_299)).await, Ok(()));
    let (_directory, ledger) = with_client(|_| {}).await;
    let refusal = renew(&ledger, &at(1_300)).await.unwrap_err();
    let absent = MemberRefusal::Absent {
        client: a(),
        ended: Timestamp::new(1_000),
        absence: Millis::new(300),
    };
    assert_eq!(refusal, absent);
    assert_eq!(client(&ledger).await.next_key, None);
}

#[tokio::test]
async fn a_renewal_is_for_a_key_that_was_never_used() {
    let (_directory, ledger) = with_client(|_| {}).await;
    assert_eq!(
        renew(&ledger, &renewal(1, 1)).await,
        Err(MemberRefusal::UsedKey)
    );
    renew(&ledger, &renewal(1, 2)).await.unwrap();
    show(&ledger, 2).await.unwrap();
    assert_eq!(
        renew(&ledger, &renewal(2, 1)).await,
        Err(MemberRefusal::UsedKey)
    );
}

#[tokio::test]
async fn an_ephemeral_client_makes_room_when_its_certificate_has_ended() {
    let (_directory, ledger) = with_client(|token| {
        token.is_ephemeral = true;
        token.expires = Timestamp::new(9_000);
    })
    .await;
    let at = |now, client, key| Admission {
        now: Timestamp::new(now),
        until: Timestamp::new(now + 850),
        max_clients: 1,
        ..wish("t1", client, key)
    };
    let early = ledger.admit(&at(999, "b", 2)).await.unwrap();
    assert!(matches!(
        early,
        Err(AdmissionRefusal::TooManyClients { .. })
    ));
    ledger.admit(&at(1_000, "b", 2)).await.unwrap().unwrap();
    let names: Vec<_> = ledger.clients().await.unwrap();
    assert_eq!(names.len(), 1);
    assert_eq!(names[0].id.as_str(), "b");
    assert_eq!(show(&ledger, 1).await, Err(RefusalReason::ClientUnknown));
}

#[tokio::test]
async fn a_client_that_renews_again_and_again_is_told_when_to_come_back() {
    let (_directory, ledger) = with_client(|_| {}).await;
    let spaced = |key, next, now| Renewal {
        now: Timestamp::new(now),
        spacing: Millis::new(50),
        ..renewal(key, next)
    };
    assert_eq!(renew(&ledger, &spaced(1, 2, 500)).await, Ok(()));
    show(&ledger, 2).await.unwrap();
    let refusal = renew(&ledger, &spaced(2, 3, 549)).await.unwrap_err();
    let refusal = Refusal::from(refusal);
    assert_eq!(refusal.reason, RefusalReason::Busy);
    assert_eq!(refusal.retry_after, Some(Millis::new(1)));
    assert_eq!(renew(&ledger, &spaced(2, 3, 550)).await, Ok(()));
}
